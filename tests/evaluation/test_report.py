import html
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.clouds import random_rotation
from helpers.encoders import SHAPE, save_model
from helpers.encoders import WORDS as VOCABULARY
from hf_vec2vec import PairedEmbeddings, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.data.corpora import LabelledTexts
from hf_vec2vec.encoders.text import EncoderSettings
from hf_vec2vec.evaluation.report import (
    Subject,
    corpus_names,
    load_corpus,
    load_foreign,
    recorded_encoders,
    training_record,
    write_report,
)
from hf_vec2vec.evaluation.sections.attacks import inversion, written

WORDS = {"sports": ["goal", "match", "team", "coach"], "tech": ["chip", "code", "cloud", "robot"]}
OTHERS = ["red", "old", "seven", "river", "house", "<b>", "green", "north", "Anna", "42"]
ROTATION = random_rotation(32, 40)
LOG = [
    {"step": 1, "discriminator_loss": 0.5, "discriminator_accuracy": 0.5},  # updates of one side alone
    {"step": 2, "generator_loss": 0.3, "cycle_loss": 0.2},
    {"step": 2, "eval_loss": 0.4, "eval_alignment_score": 0.31, "eval_alignment_score_error": 0.01},
    {"step": 2, "train_loss": 0.4},
]
SELECTION = {"before": 0.3, "error": 0.01, "after": 0.31, "kept": "alignment"}


def make_texts(count, seed):
    """Texts of six words, two of them of one topic, and their topics."""
    generator = torch.Generator().manual_seed(seed)

    def pick(words, k):
        return [words[i] for i in torch.randperm(len(words), generator=generator)[:k].tolist()]

    topics = [list(WORDS)[i] for i in torch.randint(2, (count,), generator=generator).tolist()]
    return [" ".join(pick(WORDS[topic], 2) + pick(OTHERS, 4)) for topic in topics], topics


def encode(space, texts):
    """A real, if small, encoder: the sum of word vectors, in two coordinate systems."""
    vocabulary = sorted({word for text in texts for word in text.split()} | {w for ws in WORDS.values() for w in ws})
    table = {
        word: torch.randn(32, generator=torch.Generator().manual_seed(sum(map(ord, word)) + len(word)))
        for word in vocabulary
    }
    rows = F.normalize(torch.stack([sum(table[word] for word in text.split()) for text in texts]), dim=1)
    return rows @ ROTATION + 0.1 if space == "b" else rows


def make_subject(forward=ROTATION, texts=None, other_texts=None, **changes):
    texts, other_texts = texts or make_texts(150, 0)[0], other_texts or make_texts(400, 1)[0]
    pairs, others = (PairedEmbeddings({s: encode(s, t) for s in "ab"}) for t in (texts, other_texts))
    statistics = (fit_statistics(others.spaces[s]) for s in "ab")
    model = Vec2VecModel.from_alignment(Alignment("a", "b", forward, forward.T, *statistics))
    given = {"texts": texts, "other_texts": other_texts, "encode": encode, "log": LOG, "selection": SELECTION} | changes
    return Subject(name="tiny & <script>", model=model, source="a", target="b", pairs=pairs, others=others, **given)


def corpus():
    texts, topics = make_texts(200, 2)
    return LabelledTexts("topics", texts, topics, {topic: " ".join(words) for topic, words in WORDS.items()})


@pytest.fixture(scope="module", autouse=True)
def quick():
    """No UMAP, which takes half a minute to compile, and one transport plan: they have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        patch.setattr("hf_vec2vec.evaluation.translation.TRANSPORT", {"Hungarian": "hungarian"})
        yield


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    options = {"foreign_texts": lambda: make_texts(100, 5)[0], "with_privacy": True, "show_texts": True}
    return write_report(make_subject(other_texts=make_texts(1400, 1)[0]), {"topics": corpus}, folder, **options), folder


def section(sections, title):
    return next(s for s in sections if s.title == title)


def test_every_section_holds_figures(report):
    sections, folder = report
    assert [s.title for s in sections] == [
        *("Translation", "Training", "Pictures", "Out of domain", "Attributes: topics", "Inversion", "Privacy", "Samples")
    ]
    assert not any(s.error for s in sections)
    numbers = json.loads((folder / "report.json").read_text())
    assert json.loads(json.dumps({s.title: {"rows": s.figures} for s in sections})) == numbers
    methods = {row["method"].split(" (")[0] for row in sections[0].figures}
    assert {"this translator", "mean vector", "Hungarian", "paired MLP", "paired Procrustes"} <= methods
    for name in ("heatmap.png", "projection.png", "ranks.png", "training.png", "attributes-topics.png", "privacy.png"):
        assert (folder / name).stat().st_size > 5000


def test_texts_of_the_same_kind_lose_nothing_out_of_domain(report):
    for row in report[0][3].figures:
        if row["method"] == "this translator":
            assert row["top1"] == pytest.approx(row["top1_at_home"], abs=0.1)  # some texts are there twice
            assert row["centred_cosine"] == pytest.approx(row["centred_cosine_at_home"], abs=0.05)
            assert row["top1_change"] == row["top1"] - row["top1_at_home"]
    methods = [{(row["direction"], row["method"]) for row in report[0][place].figures} for place in (0, 3)]
    assert methods[0] == methods[1]


def test_privacy_says_in_words_and_figures_that_a_secret_rotation_does_not_protect(report):
    privacy = section(report[0], "Privacy")
    rows = {row["defence"]: row for row in privacy.figures}
    bare, turned, again = (rows[n] for n in ("none", "secret rotation", "secret rotation, aligned anew"))
    for figure in ("top1", "word_f1", "attribute_accuracy"):
        assert turned[figure] < bare[figure] - 0.3
        assert again[figure] > turned[figure] + 0.2
    assert "A secret rotation does not protect" in privacy.text
    assert f"in {bare['top1']:.0%} of cases" in privacy.text
    majority = max(corpus().labels.count(name) for name in WORDS) / 200
    assert f"in {bare['attribute_accuracy']:.0%} (always naming the commonest: {majority:.0%})" in privacy.text


def test_the_summary_repeats_the_sections(report):
    page = (report[1] / "report.html").read_text()
    short = page[page.index("In short</h2>") : page.index("Translation</h2>")]
    ours = next(row for row in report[0][0].figures if row["method"] == "this translator")
    assert f"<td>{ours['top1']:.3f}</td><td>{1 / 150:.3f}</td>" in short
    assert short.count("<tr>") == 1 + 4 + 4 + 2 + 2 + 1  # head, translation, out of domain, attributes, words, rotation


def test_an_exact_rotation_gives_away_what_the_true_vectors_do(report):
    rows = {row["method"]: row for row in report[0][5].figures if row["direction"] == "a → b"}
    translated, ceiling = rows["translated"], rows["true vectors (ceiling)"]
    for figure in ("word_f1", "token_f1", "rouge_l", "entity_recall", "number_recall"):
        assert translated[figure] == pytest.approx(ceiling[figure], abs=0.02)
    for floor in ("vectors of other texts (floor)", "mean vector (floor)"):
        assert translated["word_f1"] > 0.8 > rows[floor]["word_f1"] + 0.2


def test_random_translators_give_away_no_more_than_the_floor():
    found = {"translated": [], "vectors of other texts (floor)": [], "mean vector (floor)": []}
    for seed in range(8):  # one draw may be lucky with the two topics
        for row in inversion(make_subject(random_rotation(32, 40, seed=90 + seed))).figures:
            if row["method"] in found:
                found[row["method"]].append([row["word_f1"], row["token_f1"], row["cosine"]])
    translated, *floors = (torch.tensor(values).mean(0) for values in found.values())
    assert (translated < torch.stack(floors).amax(0) + 0.05).all(), (translated, floors)


def test_texts_that_are_attacked_are_none_of_the_attackers_own():
    texts, others = make_texts(150, 0)[0], make_texts(400, 1)[0]
    subject = make_subject(
        texts=texts, other_texts=others[:200] + texts[:50] + [f" {t.upper()}." for t in texts[50:100]] + others[300:]
    )
    ours = inversion(subject)
    clean = inversion(make_subject(texts=texts, other_texts=others[:150] + others[300:]))
    assert "The attacker has 100 texts of his own" in ours.text
    assert "100 more, which are among the attacked ones, were left out" in ours.text
    assert "left out" not in clean.text
    assert "The attacker has 125 texts" in clean.text
    ceiling = next(row for row in ours.figures if row["method"].startswith("true vectors"))
    assert ceiling["token_f1"] < 0.8
    with pytest.raises(ValueError, match="of the 100 texts .* all but 0 are among the attacked ones"):
        inversion(make_subject(texts=texts, other_texts=others[:100] + texts[:100]))


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    torch.manual_seed(0)
    wide = SHAPE | {"hidden_size": 32, "intermediate_size": 64}
    config = LlamaConfig(**wide, num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.3)
    return save_model(LlamaForCausalLM(config), tmp_path_factory.mktemp("lm"))


@pytest.mark.parametrize("exact", [True, False], ids=["exact rotation", "random translator"])
def test_written_texts_of_an_exact_rotation_equal_the_ceiling_and_of_a_random_one_the_floor(language_model, exact):
    def three_words(count, seed):
        generator = torch.Generator().manual_seed(seed)
        draws = (torch.randperm(len(VOCABULARY) - 3, generator=generator)[:3] for _ in range(count))
        return [" ".join(VOCABULARY[3 + i] for i in draw.tolist()) for draw in draws]

    forward = ROTATION if exact else random_rotation(32, 40, seed=90)
    subject = make_subject(forward, three_words(60, 0), three_words(400, 1))
    made = written(subject, (language_model, 100), show_texts=False)
    rows = {row["method"]: row for row in made.figures}
    ceiling = rows["true vectors (ceiling)"]
    floor = max(rows[f"{kind} (floor)"]["token_f1"] for kind in ("vectors of other texts", "mean vector"))
    assert ceiling["token_f1"] > floor + 0.25
    for figure in ("token_f1", "rouge_l", "cosine"):
        low, high = rows["translated"][f"{figure}_interval"]
        assert low <= rows["translated"][figure] <= high
        if exact:
            assert rows["translated"][figure] == pytest.approx(ceiling[figure], abs=0.02)
    if not exact:
        assert rows["translated"]["token_f1"] < floor + 0.05
    assert len(made.tables) == 1  # texts are not shown


def test_the_log_of_training_is_shown_where_there_is_one(report, tmp_path):
    training = report[0][1]
    assert training.figures == LOG
    assert "the alignment was kept" in training.text
    sections = write_report(make_subject(log=[]), {}, tmp_path)
    silent = section(sections, "Training")
    assert (silent.error, silent.pictures) == (None, [])
    pages = (tmp_path / "report.html").read_text() + (tmp_path / "report.json").read_text()
    assert "river" not in pages  # texts are shown on request only
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    assert training_record(tmp_path) == {"log": LOG, "selection": {}}


def test_texts_are_escaped(report):
    shown = (report[1] / "report.html").read_text()
    assert "river" in shown
    assert "&lt;b&gt;" in shown
    assert "<script>" not in shown


def test_a_section_that_fails_says_why_and_the_others_are_written(tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPLBACKEND", "TkAgg")  # which would need a display
    rows = [{"text": "x", "label": "up"}, {"text": "y", "label": "down"}, {"text": "z", "label": "up"}]
    (tmp_path / "bare.jsonl").write_text("\n".join(json.dumps({"text": row["text"], "mood": "up"}) for row in rows))
    (tmp_path / "one.jsonl").write_text("\n".join(json.dumps(row | {"label": "up"}) for row in rows))
    (tmp_path / "mood.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = {"source": f"{tmp_path}/mood.jsonl", "descriptions": {"up": "Up.", "sideways": "Sideways."}}
    (tmp_path / "mood.yaml").write_text(json.dumps(asked))
    settings = EncoderSettings("/no/such/model", "mean", -1, "", 64, True, False)
    config = Vec2VecConfig(embedding_dims={"a": 32, "b": 40}, encoders=dict.fromkeys("ab", asdict(settings)))

    def broken():
        raise RuntimeError("of a library")

    corpora = {name: partial(load_corpus, f"{tmp_path}/{name}", 10, 0) for name in ("bare.jsonl", "one.jsonl", "mood.yaml")}
    subject = make_subject(encode=recorded_encoders(config), log=[{"step": 1, "loss": float("nan")}])
    options = {"foreign_texts": broken, "inverter": (f"{tmp_path}/none", 1)}
    sections = write_report(subject, {"topics": corpus} | corpora, tmp_path / "out", **options)
    errors = {s.title: s.error for s in sections if s.error}
    expected = {
        "Out of domain": "RuntimeError: of a library",
        "Attributes: topics": r"`space` 'a' was made by '/no/such/model', which cannot be loaded",
        "Attributes: bare.jsonl": r"has the columns \['text', 'mood'\]; it lacks \['label'\]",
        "Attributes: one.jsonl": r"`labels` of 'one' hold 1 class, \['up'\]",
        "Attributes: mood.yaml": r"name \['sideways'\], which no row has, and lack \['down'\]",
        "Inversion by a language model": "none",
    }
    assert list(errors) == list(expected)
    for title, message in expected.items():
        assert re.search(message, errors[title]), errors[title]
        assert "\n" not in errors[title]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("Not made:") == len(expected)
    assert "paired Procrustes" in page
    assert (tmp_path / "out" / "heatmap.png").stat().st_size > 5000
    json.loads((tmp_path / "out" / "report.json").read_text())


def test_corpora_of_one_name_have_a_section_each(tmp_path):
    """Two attributes of one file, and two files of one name: nothing of one is written over the other."""
    texts, topics = make_texts(120, 3)
    for folder, label in (("one", "topic"), ("two", "half")):
        (tmp_path / folder).mkdir()
        rows = [{"text": t, "topic": topic, "half": "ab"[i % 2]} for i, (t, topic) in enumerate(zip(texts, topics))]
        (tmp_path / folder / "mails.jsonl").write_text("\n".join(map(json.dumps, rows)))
        asked = {"source": f"{tmp_path}/{folder}/mails.jsonl", "label_column": label}
        (tmp_path / folder / "mails.yaml").write_text(json.dumps(asked))
    (tmp_path / "half.yaml").write_text(json.dumps(asked))
    sources = [f"{tmp_path}/{name}.yaml" for name in ("one/mails", "two/mails", "half")]
    corpora = {name: partial(load_corpus, source, 120, 0) for name, source in corpus_names(sources).items()}
    titles = ["Attributes: one-mails", "Attributes: two-mails", "Attributes: half"]
    sections = [s for s in write_report(make_subject(), corpora, tmp_path / "out") if s.title.startswith("Attributes")]
    assert [s.title for s in sections] == titles
    assert not any(s.error for s in sections)
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [sorted(written[title]["rows"][0]["recall"]) for title in titles] == [["sports", "tech"], ["a", "b"], ["a", "b"]]
    assert [written[title]["rows"][0]["attribute"] for title in titles] == ["one-mails", "two-mails", "half"]
    pictures = [path for s in sections for _, path in s.pictures]
    assert [path.name for path in pictures] == [f"attributes-{name}.png" for name in ("one-mails", "two-mails", "half")]
    assert all(path.stat().st_size > 5000 for path in pictures)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("class of one-mails told") == page.count("class of two-mails told") == 2


def test_names_of_corpora_are_short_and_no_two_the_same():
    assert corpus_names(["bbc", "x/mood.csv", "bbc"]) == {"bbc": "bbc", "mood": "x/mood.csv"}
    assert list(corpus_names(["a/train.csv", "a/train.jsonl"])) == ["train.csv", "train.jsonl"]
    assert list(corpus_names(["a/train.csv", "b/train.csv", "train.csv"])) == ["a-train", "b-train", "train"]
    assert list(corpus_names(["x/a/train.csv", "y/a/train.csv", "a-train-2"])) == ["a-train", "a-train-2", "a-train-2-2"]
    assert list(corpus_names(["Mood.csv", "mood.csv"])) == ["Mood", "mood-2"]


def test_what_is_done_is_written_even_if_the_rest_is_interrupted(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(make_subject(), {"topics": interrupt}, tmp_path)
    assert "paired Procrustes" in (tmp_path / "report.html").read_text()


def test_encoders_that_are_not_recorded_are_named(tiny_config):
    with pytest.raises(ValueError, match="`space` 'a': the translator does not record which encoder made it"):
        recorded_encoders(tiny_config)("a", ["text"])


def test_corpora_are_drawn_at_random(tmp_path):
    rows = [{"text": f"t{i}", "label": "ud"[i % 2]} for i in range(50)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    drawn = load_corpus(str(tmp_path / "x.jsonl"), 20, 0)
    assert len(drawn) == 20
    assert drawn.texts != [f"t{i}" for i in range(20)]
    assert load_corpus(str(tmp_path / "x.jsonl"), 20, 0) == drawn
    assert load_foreign(str(tmp_path / "x.jsonl")) == [f"t{i}" for i in range(50)]
    rows.append({"text": "t50", "label": "rare"})  # one text is too few for attacker and test
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert set(load_corpus(str(tmp_path / "x.jsonl"), 51, 0).descriptions) == {"u", "d"}


CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_a_browser_shows_the_page(report, tmp_path, width):
    """In a frame as wide as the screen, for a window cannot be as narrow as a phone."""
    page = html.escape((report[1] / "report.html").read_text())
    measure = """const d = frame.contentDocument, images = [...d.images];
        result.textContent = JSON.stringify({width: d.documentElement.scrollWidth, sections: d.querySelectorAll("h2").length,
            images: images.length, drawn: images.filter(i => i.naturalWidth > 300).length})"""
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(
        f'<iframe id="frame" width="{width}" height="20000" style="border: 0" srcdoc="{page}"></iframe><p id="result"></p>'
        f"<script>frame.onload = () => {{ {measure} }}</script>"
    )
    command = [
        *CHROMIUM,
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=5000",
        "--dump-dom",
        wrapper.as_uri(),
    ]
    shown = subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout
    found = json.loads(re.search('<p id="result">(.*?)</p>', shown)[1])
    assert found["width"] == width  # wide tables and pictures scroll by themselves, the page does not
    assert found["sections"] == len(report[0]) + 1
    assert found["images"] == found["drawn"] == sum(len(s.pictures) for s in report[0])


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_prints_the_page(report, tmp_path):
    printed = tmp_path / "report.pdf"
    where = [f"--user-data-dir={tmp_path}/profile", f"--print-to-pdf={printed}"]
    page = (report[1] / "report.html").as_uri()
    subprocess.run([*CHROMIUM, *where, page], check=True, capture_output=True, timeout=120)
    assert printed.read_bytes().startswith(b"%PDF")
    assert printed.stat().st_size > 50_000
