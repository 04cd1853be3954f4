"""A small encoder for an index that exists: starts, training, what is saved, what is refused."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from torch.nn import functional as F

from helpers.commands import run
from helpers.distillation import TEXTS
from helpers.elsewhere import WITHOUT_PACKAGE, python
from helpers.translators import alignment_with_networks, random_translator
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.data.columns import to_dataset
from hf_vec2vec.data.files import save_embeddings
from hf_vec2vec.distillation.query_encoder import check_queries, save_query_encoder, student_vectors
from hf_vec2vec.distillation.query_losses import LOSSES, neighbours_to_index
from hf_vec2vec.distillation.query_recipe import Pairs, Translation, averaged, drawn, make_query_encoder
from hf_vec2vec.distillation.query_starts import STRENGTHS, Projection, fitted_projection, translator_projection
from hf_vec2vec.distillation.query_students import open_student
from hf_vec2vec.distillation.query_training import QueryTraining
from hf_vec2vec.distillation.store_targets import confident_targets

DIM = 5  # of the index
PLAIN = {"centre": False}  # cosines to the teacher are what is trained for
QUICK = {"steps": 40, "batch_size": 16, "learning_rate": 1e-2, "projection_rate": 1.0}


@pytest.fixture
def student(bert) -> SentenceTransformer:
    return open_student(bert)


def teacher(texts: list[str]) -> torch.Tensor:
    """Another encoder: counts of words, mixed, norm 1."""
    words = sorted({word for text in TEXTS for word in text.split()})
    mixed = torch.randn(len(words), DIM, generator=torch.Generator().manual_seed(3))
    counts = torch.tensor([[text.split().count(word) for word in words] for text in texts])
    return F.normalize(counts.float() @ mixed, dim=1)


def cosine(encoder: SentenceTransformer, texts: list[str]) -> float:
    return F.cosine_similarity(encoder.encode(texts, convert_to_tensor=True), teacher(texts)).mean().item()


def test_ridge_finds_the_map_and_few_pairs_change_a_start_little():
    torch.manual_seed(0)
    true = Projection(torch.randn(12, DIM), torch.randn(DIM))
    rows = torch.randn(300, 12)
    index = true(torch.randn(500, 12))
    found = fitted_projection(rows, true(rows), index)
    torch.testing.assert_close(found(rows), true(rows), atol=2e-2, rtol=0)
    near = Projection(true.weight + 0.1 * torch.randn(12, DIM), true.bias)
    noise = 0.3 * torch.randn(300, DIM)
    errors = {
        (start is not None, pairs): F.mse_loss(
            fitted_projection(rows[:pairs], (true(rows) + noise)[:pairs], index, start)(rows), true(rows)
        ).item()
        for start in (None, near)
        for pairs in (6, 300)
    }
    assert errors[True, 6] < errors[False, 6] / 5
    assert errors[True, 6] <= (near(rows) - true(rows)).square().mean() * 1.2
    assert errors[True, 300] < 0.02
    assert errors[False, 300] < 0.02


def test_the_penalty_is_that_of_a_loop_over_the_pairs():
    torch.manual_seed(1)
    index = F.normalize(torch.randn(60, 3) + 1, dim=1)
    near = Projection(torch.randn(8, 3), torch.zeros(3))
    for noise in (0.05, 0.5, 3.0):
        rows = torch.randn(15, 8)
        targets = F.normalize(near(rows) + noise * torch.randn(15, 3), dim=1)
        for start in (None, near):
            found = fitted_projection(rows, targets, index, start)
            base = torch.zeros(15, 3) if start is None else start(rows)
            bias = rows.square().sum(1).mean().sqrt()
            inputs = torch.cat([rows, bias.expand(15, 1)], dim=1).double()
            unit = inputs.square().sum() / 9

            def solved(keep, strength, inputs=inputs, base=base, targets=targets, unit=unit):
                x, y = inputs[keep], (targets - base)[keep].double()
                return torch.linalg.solve(x.T @ x + strength * unit * torch.eye(9, dtype=torch.double), x.T @ y).float()

            def errors(strength, inputs=inputs, base=base, targets=targets, solved=solved):
                others = [[j for j in range(15) if j != i] for i in range(15)]
                guesses = torch.stack([base[i] + inputs[i].float() @ solved(others[i], strength) for i in range(15)])
                return neighbours_to_index(*(F.normalize(each - index.mean(0), dim=1) for each in (guesses, targets, index)))

            strength = min(reversed(STRENGTHS), key=lambda each, errors=errors: errors(each).mean())
            if start is not None:  # the largest that is as good within a standard error
                worse = {each: errors(each) - errors(strength) for each in STRENGTHS}
                strength = max(each for each, found in worse.items() if found.mean() <= found.std(correction=0) / 15**0.5)
            expected = solved(list(range(15)), strength)
            weight = expected[:-1] if start is None else start.weight + expected[:-1]
            torch.testing.assert_close(found.weight, weight, atol=1e-4, rtol=0)


def test_unpaired_start_is_the_translators_map_for_queries(student):
    width = student.get_embedding_dimension()
    model, rows = random_translator(width, DIM), student_vectors(student, TEXTS)
    index = teacher(TEXTS)
    encoder, facts = make_query_encoder(student, index, start="translator", translation=Translation(model, "old", "new"))
    found = model.translate(rows, source="old", target="new", queries=True)
    space = model.normalizer("new")
    length = (space.mean.square() + space.scale.square()).sum().sqrt()  # of rows that it learned from; the index's have 1
    expected = F.normalize(found / length - index.mean(0), dim=1)  # less of what all queries find
    torch.testing.assert_close(encoder.encode(TEXTS, convert_to_tensor=True), expected, atol=1e-5, rtol=0)
    assert facts == {
        "start": "translator",
        "pairs": 0,
        "prompt": "",
        "index_rows": len(TEXTS),
        "linear": True,
        "centred": True,
    }


@pytest.mark.parametrize("behind", [[], [Normalize(), Dense(8, 8)]], ids=["plain", "of norm 1 before the last"])
def test_a_student_is_scaled_as_the_vectors_that_its_translator_knows(student, behind):
    student.extend(behind)
    rows = F.normalize(student_vectors(student, TEXTS), dim=1)
    model = random_translator(8, DIM)
    model.normalizer("old").mean.copy_(rows.mean(0))
    model.normalizer("old").scale.fill_(rows.var(0, correction=0).mean().sqrt())
    translation = Translation(model, "old", "new")
    encoder, _ = make_query_encoder(student, teacher(TEXTS), start="translator", translation=translation, centre=False)
    expected = F.normalize(model.translate(rows, source="old", target="new", queries=True), dim=1)
    torch.testing.assert_close(encoder.encode(TEXTS, convert_to_tensor=True), expected, atol=1e-5, rtol=0)


def test_the_middle_may_stay(student):
    translation = Translation(random_translator(8, DIM), "old", "new")
    encoder, _ = make_query_encoder(student, teacher(TEXTS), start="translator", translation=translation, centre=False)
    found = translation.model.translate(student_vectors(student, TEXTS), source="old", target="new", queries=True)
    torch.testing.assert_close(encoder.encode(TEXTS, convert_to_tensor=True), F.normalize(found, dim=1), atol=1e-5, rtol=0)


def test_a_translator_with_a_network_takes_its_linear_map_for_queries():
    model = Vec2VecModel.from_alignment(alignment_with_networks())
    projection, rows = translator_projection(model, "a", "b"), torch.randn(9, 6)
    expected = model.translate(rows, source="a", target="b", map="linear")
    space = model.normalizer("b")
    length = (space.mean.square() + space.scale.square()).sum().sqrt()
    torch.testing.assert_close(projection(rows), expected / length, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("training", [None, QueryTraining(**QUICK | {"steps": 2})])
@pytest.mark.parametrize("given", ["nothing", "pairs", "queries"])
def test_lengths_of_an_indexs_vectors_change_nothing(bert, given, training):
    """Whoever searches by cosine does not see them; a translator has learned from rows as they are."""
    if given == "queries" and training is None:
        return
    found = []
    for length in (1.0, 8.0):
        model = random_translator(8, DIM)
        for statistic in (model.normalizer("new").mean, model.normalizer("new").scale):
            statistic.mul_(length)
        known = {
            "pairs": Pairs(TEXTS, length * teacher(TEXTS)) if given == "pairs" else None,
            "queries": TEXTS if given == "queries" else None,
        }
        encoder, _ = make_query_encoder(
            open_student(bert),
            length * teacher(TEXTS),
            start="translator",
            translation=Translation(model, "old", "new"),
            training=training if given != "nothing" else None,
            **known,
        )
        found.append(encoder.encode(TEXTS, convert_to_tensor=True))
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("trained", ["lora", "whole"])
def test_training_leaves_the_translator_as_it_was(student, trained):
    translation = Translation(random_translator(8, DIM), "old", "new")
    before = {name: value.clone() for name, value in translation.model.state_dict().items()}
    training, pairs = QueryTraining(trained=trained, **QUICK | {"steps": 2}), Pairs(TEXTS, teacher(TEXTS))
    make_query_encoder(student, pairs.vectors, start="translator", translation=translation, pairs=pairs, training=training)
    after = translation.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("trained", ["lora", "whole"])
def test_training_on_pairs_comes_nearer_to_the_teacher(student, trained):
    pairs = Pairs(TEXTS, teacher(TEXTS))
    before = cosine(make_query_encoder(student, pairs.vectors, start="ridge", pairs=pairs, **PLAIN)[0], TEXTS)
    training = QueryTraining(trained=trained, **QUICK)
    with pytest.warns(UserWarning, match="`pairs` are 32, and training on so few has made answers worse"):
        encoder, facts = make_query_encoder(student, pairs.vectors, start="ridge", pairs=pairs, training=training, **PLAIN)
    assert cosine(encoder, TEXTS) > before + 0.02
    assert facts["training"]["trained"] == trained
    assert not any("lora" in name for name, _ in encoder.named_parameters())  # merged


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_from_a_random_start(static, loss):
    pairs = Pairs(TEXTS, teacher(TEXTS))
    student = open_student(static)
    training = QueryTraining(trained="whole", loss=loss, **QUICK | {"steps": 80})
    encoder, _ = make_query_encoder(student, pairs.vectors, start="random", pairs=pairs, training=training, **PLAIN)
    assert cosine(encoder, TEXTS) > 0.6


def test_the_same_seed_gives_the_same_encoder(bert):
    found = []
    for _ in range(2):
        training, pairs = QueryTraining(**QUICK | {"steps": 3}), Pairs(TEXTS, teacher(TEXTS))
        encoder, _ = make_query_encoder(open_student(bert), pairs.vectors, start="random", pairs=pairs, training=training)
        found.append(encoder.encode(TEXTS, convert_to_tensor=True))
    torch.testing.assert_close(*found, atol=0, rtol=0)


def test_without_pairs_queries_learn_from_the_index(student):
    model = random_translator(student.get_embedding_dimension(), DIM)
    index = teacher(TEXTS)
    kept = index.clone()
    training = QueryTraining(**QUICK | {"steps": 4})
    encoder, facts = make_query_encoder(
        student, index, start="translator", translation=Translation(model, "old", "new"), queries=TEXTS, training=training
    )
    assert facts["training_texts"] == len(TEXTS) // 2
    assert encoder.encode(TEXTS).shape == (len(TEXTS), DIM)
    assert torch.equal(index, kept)


def test_confident_targets_are_those_of_clear_neighbourhoods():
    torch.manual_seed(0)
    centre = F.normalize(torch.randn(1, 16), dim=1)
    index = torch.cat([centre + 0.05 * torch.randn(50, 16), torch.randn(400, 16)])
    guesses = torch.cat([centre + 0.1 * torch.randn(10, 16), torch.randn(10, 16)])
    targets, chosen = confident_targets(guesses, index, share=0.5)
    assert set(chosen.tolist()) == set(range(10))
    assert (targets @ centre.T).min() > 0.9
    with pytest.raises(ValueError, match=r"`share` of 20 queries"):
        confident_targets(guesses, index, share=0.01)
    with pytest.raises(ValueError, match="fewer than 5 neighbours"):
        confident_targets(guesses, index[:4])


@pytest.mark.slow
def test_a_linear_one_opens_without_this_package(student, tmp_path):
    pairs = Pairs(TEXTS, teacher(TEXTS))
    encoder, facts = make_query_encoder(student, pairs.vectors, start="ridge", pairs=pairs, prompt="the ")
    save_query_encoder(encoder, tmp_path / "out", facts)
    code = f"""
from sentence_transformers import SentenceTransformer
import numpy, sys
assert not any(name.startswith("hf_vec2vec") for name in sys.modules)
model = SentenceTransformer({str(tmp_path / "out")!r}, device="cpu")
texts = {TEXTS!r}
rows = model.encode_query(texts), model.encode(texts), model.encode_document(texts)
numpy.savez({str(tmp_path / "rows.npz")!r}, *rows)
"""
    hidden = WITHOUT_PACKAGE.replace(
        ', "datasets", "accelerate", "peft", "evaluate", "scipy", "sklearn", "jinja2", "pandas", "pyarrow"', ""
    )
    assert hidden != WITHOUT_PACKAGE
    done = python(hidden + code, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    query, plain, document = map(torch.from_numpy, np.load(tmp_path / "rows.npz").values())
    torch.testing.assert_close(query, encoder.encode_query(TEXTS, convert_to_tensor=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(query, plain)
    assert (query - document).abs().max() > 1e-3  # without the prompt
    record = json.loads((tmp_path / "out" / "hf_vec2vec.json").read_text())
    assert record["query_encoder"]["pairs"] == len(TEXTS)


def test_nothing_is_replaced_unasked(student, tmp_path):
    pairs = Pairs(TEXTS, teacher(TEXTS))
    encoder, facts = make_query_encoder(student, pairs.vectors, start="ridge", pairs=pairs)
    save_query_encoder(encoder, tmp_path, facts)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="`output_dir`"):
        save_query_encoder(encoder, tmp_path, facts)
    save_query_encoder(encoder, tmp_path, facts, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_is_refused(student, llama, tmp_path):
    pairs, index = Pairs(TEXTS, teacher(TEXTS)), teacher(TEXTS)
    translation = Translation(random_translator(6, DIM), "old", "new")
    with pytest.raises(ValueError, match="`student` makes vectors of dimension 8, but the translator's space 'old' has 6"):
        make_query_encoder(student, index, start="translator", translation=translation)
    with pytest.raises(ValueError, match="`index` makes vectors of dimension 7"):
        make_query_encoder(
            student, torch.randn(9, 7), start="translator", translation=Translation(random_translator(8, DIM), "old", "new")
        )
    with pytest.raises(ValueError, match="`pairs`"):
        make_query_encoder(student, torch.randn(9, 7), start="ridge", pairs=pairs)
    with pytest.raises(ValueError, match="`start` is 'ridge', which needs `pairs`"):
        make_query_encoder(student, index, start="ridge")
    with pytest.raises(ValueError, match="`start` must be one of"):
        make_query_encoder(student, index, start="chance")
    with pytest.raises(ValueError, match="give `pairs`, or a translator"):
        make_query_encoder(student, index, start="random", queries=TEXTS, training=QueryTraining())
    with pytest.raises(ValueError, match="`max_pairs` must be at least 1 and at most 32, the pairs there are, got 33"):
        drawn(pairs, 33, 0)
    with pytest.raises(ValueError, match="`queries` holds no text"):
        check_queries(student, [])
    with pytest.raises(ValueError, match="1 empty text.*at index 1"):
        check_queries(student, ["a dog", " "])
    with pytest.raises(ValueError, match="1 text.* of more than 512 tokens.*at index 1 .600 tokens"):
        check_queries(student, ["a dog", "dog " * 600])
    with pytest.raises(ValueError, match="is a language model whose tokenizer has no token to open a text with"):
        open_student(llama)
    student.truncate_dim = 3
    student.save(str(tmp_path / "cut"), create_model_card=False)
    with pytest.raises(ValueError, match=r"keeps 3 dimensions of its vectors \(`truncate_dim`\)"):
        open_student(str(tmp_path / "cut"))
    with pytest.raises(ValueError, match="`steps` must be at least 1"):
        QueryTraining(steps=0)


def test_several_encoders_say_one_target():
    long, other = Pairs(TEXTS, 3 * teacher(TEXTS)), Pairs(TEXTS, teacher(TEXTS).roll(1, 1))
    expected = (teacher(TEXTS) + teacher(TEXTS).roll(1, 1)) / 2
    torch.testing.assert_close(averaged([long, other]).vectors, expected)  # lengths do not weigh
    assert averaged([long]) is long
    with pytest.raises(ValueError, match="`pairs` are 2 files, of which the first has 32 texts and file 2 has 32, not the"):
        averaged([long, Pairs(TEXTS[::-1], other.vectors)])


def test_a_table_has_no_adapter(static):
    pairs = Pairs(TEXTS, teacher(TEXTS))
    with pytest.raises(ValueError, match="`trained` is 'lora', but the student is a StaticEmbedding"):
        make_query_encoder(open_student(static), pairs.vectors, start="ridge", pairs=pairs, training=QueryTraining())


def test_of_a_large_index_a_sample_is_used_and_told(bert, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.cli.query_encoder.INDEX_ROWS", 20)
    np.save(tmp_path / "index.npy", teacher(TEXTS))
    save_embeddings(to_dataset(teacher(TEXTS), TEXTS), tmp_path / "pairs.parquet")
    files = ["--index", tmp_path / "index.npy", "--pairs", tmp_path / "pairs.parquet", "--output_dir", tmp_path / "out"]
    assert run("query-encoder", "--student", bert, *files, "--disable_tqdm") == 0
    assert "20 of the index's 32 rows, drawn at random, stand for all." in capsys.readouterr().out
    assert run("query-encoder", "--student", bert, "--index", tmp_path / "pairs.parquet", *files[2:], "--overwrite") == 0
    assert "20 of the index's 32 rows" in capsys.readouterr().out


def test_the_command(bert, tmp_path, capsys):
    pairs, index = teacher(TEXTS), tmp_path / "index.npy"
    np.save(index, pairs)
    save_embeddings(to_dataset(pairs, TEXTS), tmp_path / "pairs.parquet")
    (tmp_path / "queries.txt").write_text("\n".join(TEXTS))
    random_translator(8, DIM).save_pretrained(tmp_path / "model")
    before = index.read_bytes()
    line = ["query-encoder", "--student", bert, "--index", index, "--output_dir", tmp_path / "out", "--disable_tqdm"]
    unpaired = ["--translator", tmp_path / "model", "--index_space", "new"]
    assert run(*line, *unpaired, "--train", "lora", "--queries", tmp_path / "queries.txt", "--steps", 2) == 0
    said = capsys.readouterr().out
    assert "SentenceTransformer(" in said
    assert "translator start, 0 pairs, trained by lora, 2 updates → " in said
    assert run(*line, *unpaired) == 2
    assert "`output_dir`" in capsys.readouterr().err
    assert run(*line, "--pairs", tmp_path / "pairs.parquet", "--max_pairs", 20, "--overwrite") == 0
    assert "ridge start, 20 pairs, not trained → " in capsys.readouterr().out
    assert run(*line, "--pairs", tmp_path / "pairs.parquet", tmp_path / "pairs.parquet", "--overwrite") == 0
    assert "ridge start, 32 pairs, not trained → " in capsys.readouterr().out
    assert SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS).shape == (32, DIM)
    assert index.read_bytes() == before

    def refused(*words) -> str:
        assert run(*line, "--overwrite", *words) == 2
        return capsys.readouterr().err

    assert "`max_pairs`" in refused("--pairs", tmp_path / "pairs.parquet", "--max_pairs", 33)
    assert "give `translator`, `pairs` or both" in refused()
    assert "`index_space` must be one of ['new', 'old'], got 'now'" in refused(*unpaired[:2], "--index_space", "now")
    assert "must name two of" in refused(*unpaired[:2])
    assert "dimension 8, but the translator's space 'new' has 5" in refused(*unpaired[:3], "old", "--student_space", "new")
    paired = ["--pairs", tmp_path / "pairs.parquet"]
    for name, value in (("loss", "gram"), ("steps", 5), ("batch_size", 8), ("learning_rate", 1), ("projection_rate", 1)):
        assert f"`{name}` is for a training, and `train` is 'none'" in refused(*paired, f"--{name}", value)
    assert "`index_space` is of a `translator`, and none is given" in refused(*paired, "--index_space", "new")
    assert "`lora_r` is for a training" in refused(*paired, "--lora_r", 4)
    assert "`lora_r` is of an adapter, and `train` is 'whole'" in refused(*paired, "--lora_r", 4, "--train", "whole")
    for start in ("ridge", "random"):
        assert f"`start` is '{start}', to which the `translator` adds nothing" in refused(
            *paired, *unpaired, "--start", start, "--train", "lora"
        )
    assert "`queries` are for a training" in refused(*unpaired, "--queries", tmp_path / "queries.txt")
    (tmp_path / "queries.txt").write_text("a dog\n" + "dog " * 600)
    assert "more than 512 tokens" in refused(*unpaired, "--train", "lora", "--queries", tmp_path / "queries.txt")
    assert "is what is read" in refused(*unpaired, "--output_dir", tmp_path / "model")


def test_prompts_that_differ_from_the_indexs(bert, tmp_path, capsys):
    made = {"model": "org/large", "pooling": "mean", "layer": -1, "max_length": 128, "normalize": True}
    made |= {"mask_first_token": False, "prompt": "passage: ", "prompt_name": "document"}
    ours = made | {"model": bert, "prompt": "", "prompt_name": ""}
    model = random_translator(8, DIM)
    model.config.encoders = {"old": ours, "new": made}
    model.save_pretrained(tmp_path / "model")

    def saved(name: str, **changes) -> str:
        data = to_dataset(teacher(TEXTS), TEXTS)
        data.info.description = json.dumps(made | changes)
        save_embeddings(data, tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    def status(index: str, *words) -> tuple[int, str]:
        folders = ["--translator", tmp_path / "model", "--output_dir", tmp_path / "out", "--overwrite", "--disable_tqdm"]
        done = run("query-encoder", "--student", bert, "--index", index, *folders, *words)
        return done, capsys.readouterr().err

    index = saved("index")
    assert status(index)[0] == 0  # spaces are told by the encoders that the translator records
    assert status(index, "--pairs", saved("pairs", prompt="query: ", prompt_name="query"))[0] == 0
    code, said = status(index, "--pairs", saved("other", prompt="query: ", prompt_name=""))
    assert code == 2
    assert "were made otherwise than `index`: `prompt` is 'query: ' and was 'passage: '" in said
    code, said = status(saved("bare", prompt=""))
    assert code == 2
    assert "`prompt` is '' and was 'passage: '" in said
    code, said = status(index, "--prompt", "query: ")
    assert code == 2
    assert "`prompt` is 'query: ', but the translator learned from vectors of 'old' with the prompt ''" in said


def test_a_student_reads_no_more_tokens_than_it_has_positions_for(bert, static):
    places = open_student(bert)[0].auto_model.config.max_position_embeddings
    assert open_student(bert, max_length=places).max_seq_length == places
    with pytest.raises(ValueError, match="`max_length` is for transformers; .* reads texts of any length"):
        open_student(static, max_length=8)
    with pytest.raises(ValueError, match=f"`max_length` is {places + 1:,}, but .* reads {places:,} tokens at most"):
        open_student(bert, max_length=places + 1)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"`max_length` must be at least 1 token, got {wrong}"):
            open_student(bert, max_length=wrong)
