import json
import shutil
import subprocess
from functools import partial

import pytest
import torch
from conftest import random_rotation
from torch.nn import functional as F

from hf_vec2vec import PairedEmbeddings, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.corpora import LabelledTexts
from hf_vec2vec.evaluation.report import Subject, load_corpus, recorded_encoders, training_record, write_report
from hf_vec2vec.evaluation.sections import inversion

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


def make_subject(forward=ROTATION, **changes):
    texts, other_texts = make_texts(150, 0)[0], make_texts(400, 1)[0]
    pairs, others = (PairedEmbeddings({s: encode(s, t) for s in "ab"}) for t in (texts, other_texts))
    statistics = (fit_statistics(others.spaces[s]) for s in "ab")
    model = Vec2VecModel.from_alignment(Alignment("a", "b", forward, forward.T, *statistics))
    given = {"texts": texts, "other_texts": other_texts, "encode": encode, "log": LOG, "selection": SELECTION} | changes
    return Subject(name="tiny & <script>", model=model, source="a", target="b", pairs=pairs, others=others, **given)


def corpus():
    texts, topics = make_texts(200, 2)
    return LabelledTexts("topics", texts, topics, {topic: " ".join(words) for topic, words in WORDS.items()})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    foreign = make_texts(100, 5)[0]
    return write_report(make_subject(), {"topics": corpus}, folder, foreign_texts=foreign, show_texts=True), folder


def test_every_section_holds_figures(report):
    sections, folder = report
    assert [s.title for s in sections] == [
        *("Translation", "Training", "Pictures", "Out of domain", "Attributes: topics", "Inversion", "Samples")
    ]
    assert not any(s.error for s in sections)
    numbers = json.loads((folder / "report.json").read_text())
    assert json.loads(json.dumps({s.title: {"rows": s.figures} for s in sections})) == numbers
    methods = {row["method"].split(" (")[0] for row in sections[0].figures}
    assert {"this translator", "mean vector", "Sinkhorn", "paired MLP", "paired Procrustes"} <= methods
    for name in ("heatmap.png", "projection.png", "ranks.png", "training.png", "attributes-topics.png"):
        assert (folder / name).stat().st_size > 5000


def test_texts_of_the_same_kind_lose_nothing_out_of_domain(report):
    for row in report[0][3].figures:
        if row["method"] == "this translator":
            assert row["top1"] == pytest.approx(row["top1_at_home"], abs=0.1)  # some texts are there twice
            assert row["centred_cosine"] == pytest.approx(row["centred_cosine_at_home"], abs=0.05)


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


def test_the_log_of_training_is_shown_where_there_is_one(report, tmp_path):
    training = report[0][1]
    assert training.figures == LOG
    assert "the alignment was kept" in training.text
    (silent,) = (s for s in write_report(make_subject(log=[]), {}, tmp_path) if s.title == "Training")
    assert (silent.error, silent.pictures) == (None, [])
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    assert training_record(tmp_path) == {"log": LOG, "selection": {}}


def test_texts_are_escaped_and_shown_only_on_request(report, tmp_path):
    shown = (report[1] / "report.html").read_text()
    assert "river" in shown
    assert "&lt;b&gt;" in shown
    assert "<script>" not in shown
    write_report(make_subject(), {}, tmp_path)
    assert "river" not in (tmp_path / "report.html").read_text() + (tmp_path / "report.json").read_text()


def test_a_section_that_fails_says_why_and_the_others_are_written(tmp_path):
    def unknown(space, texts):
        raise ValueError("no encoder is recorded")

    one_class = partial(LabelledTexts, "one", ["x", "y"], ["up", "up"], {"up": "Up."})
    subject = make_subject(encode=unknown, texts=None)
    sections = write_report(subject, {"topics": corpus, "one": one_class}, tmp_path)
    errors = {s.title: s.error for s in sections if s.error}
    assert list(errors) == ["Attributes: topics", "Attributes: one", "Inversion"]
    assert "no encoder" in errors["Attributes: topics"]
    assert "1 class" in errors["Attributes: one"]
    assert "column `text`" in errors["Inversion"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("Not made:") == 3
    assert "paired Procrustes" in page


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


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "desk"])
def test_a_browser_shows_the_page(report, tmp_path, width):
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    where = [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},1600", f"--screenshot={shot}"]
    page = (report[1] / "report.html").as_uri()
    subprocess.run(["chromium", *flags, *where, page], check=True, capture_output=True, timeout=120)
    assert shot.stat().st_size > 20_000
