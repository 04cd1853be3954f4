import json

import numpy as np
import torch

from helpers.commands import QUICK, run
from helpers.encoders import WORDS
from hf_vec2vec.data import load_embeddings, vectors


def test_from_texts_to_translations(tmp_path, bert, static, capsys):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS[3:], 5)) for _ in range(700)]
    texts = list(dict.fromkeys(texts))
    (tmp_path / "a.txt").write_text("\n".join(texts[:300]))
    (tmp_path / "b.txt").write_text("\n".join(texts[300:600]))
    cache = ["--cache_dir", tmp_path / "cache"]
    assert run("embed", "--texts", tmp_path / "a.txt", "--model", bert, "--output", tmp_path / "va", *cache) == 0
    assert run("embed", "--texts", tmp_path / "b.txt", "--model", static, "--output", tmp_path / "vb.parquet", *cache) == 0
    sides = ["--source", f"bert={tmp_path}/va", "--target", f"static={tmp_path}/vb.parquet"]
    assert run("train", *sides, "--output_dir", tmp_path / "model", *QUICK) == 0
    ends = ["--source", "bert", "--target", "static", "--allow_not_aligned"]
    output = tmp_path / "out.parquet"
    assert run("translate", tmp_path / "model", *ends, "--input", tmp_path / "va", "--output", output) == 0
    data = load_embeddings(output)
    assert list(data["text"]) == texts[:300]
    assert len(data[0]["embedding"]) == 6
    assert "mean pooling of layer -1" in (tmp_path / "model" / "README.md").read_text()
    # The config records how vectors are made, so that texts will do.
    (tmp_path / "first.txt").write_text("\n".join(texts[:300]))
    ask = ["translate", tmp_path / "model", *ends, "--texts", tmp_path / "first.txt", *cache]
    assert run(*ask, "--output", tmp_path / "asked.parquet") == 0
    asked = load_embeddings(tmp_path / "asked.parquet")
    assert list(asked["text"]) == texts[:300]
    assert torch.equal(vectors(asked, "asked"), vectors(data, "data"))
    # The recorded encoders embed labelled texts for the report; one corpus has a single class.
    (tmp_path / "held.txt").write_text("\n".join(texts[600:]))
    for name, encoder in (("bert", bert), ("static", static)):
        assert run("embed", "--texts", tmp_path / "held.txt", "--model", encoder, "--output", tmp_path / f"held_{name}") == 0
    labelled = [{"text": text, "label": "ab"["dog" in text]} for text in texts[:100]]
    (tmp_path / "first.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    (tmp_path / "one.jsonl").write_text("\n".join(json.dumps(row | {"label": "a"}) for row in labelled))
    ends = ["--source", f"bert={tmp_path}/held_bert", "--target", f"static={tmp_path}/held_static"]
    corpora = ["--labelled", tmp_path / "first.jsonl", tmp_path / "one.jsonl"]
    assert run("report", tmp_path / "model", *ends, *corpora, "--output_dir", tmp_path / "report") == 0
    printed = capsys.readouterr().out
    assert "Attributes: first: done" in printed
    assert "Attributes: one: not made: `labels` of 'one' hold 1 class" in printed
    assert printed.count("not made") == 1
    assert (tmp_path / "report" / "report.html").exists()
