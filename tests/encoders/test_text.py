import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModel,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
)

from helpers.encoders import SHAPE, TEXTS, write_modules
from hf_vec2vec import TextEncoder, embed
from hf_vec2vec.encoders.cache import computed_once
from hf_vec2vec.encoders.pooling import first_layers, pool


def test_pooling_by_hand():
    states = torch.tensor([[[10.0], [2.0], [4.0], [99.0]]])
    mask = torch.tensor([[1, 1, 1, 0]])
    expected = {"mean": 16 / 3, "cls": 10.0, "last": 4.0, "weighted_mean": (10 + 4 + 12) / 6}
    for pooling, value in expected.items():
        assert pool(states, mask, pooling).item() == pytest.approx(value)
    assert pool(states, mask, "mean", mask_first_token=True).item() == pytest.approx(3.0)
    assert pool(states, mask, "weighted_mean", mask_first_token=True).item() == pytest.approx((4 + 12) / 5)
    only_one = torch.tensor([[1, 0, 0, 0]])
    assert pool(states, only_one, "mean", mask_first_token=True).item() == 10.0


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pools_as_many_tokens(pooling, dtype):
    states, mask = torch.full((1, 1000, 2), 300.0), torch.ones(1, 1000)
    assert pool(states.to(dtype), mask, pooling).tolist() == [[300.0, 300.0]]  # of which the sum is beyond float16


@pytest.mark.parametrize("kind", ["bert", "llama", "static"])
def test_batches_and_order_do_not_change_vectors(kind, request):
    encoder = TextEncoder(request.getfixturevalue(kind), device="cpu")
    together = encoder.encode(TEXTS, batch_size=3, progress=False)
    alone = torch.cat([encoder.encode([text], progress=False) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.dtype == torch.float32


def test_decoders_mask_the_first_token_and_encoders_do_not(bert, llama):
    assert TextEncoder(llama).settings.mask_first_token
    assert not TextEncoder(bert).settings.mask_first_token
    masked, whole = (TextEncoder(llama, mask_first_token=m).encode(TEXTS, progress=False) for m in (True, False))
    assert not torch.allclose(masked, whole)


def test_every_setting_changes_the_vectors_and_the_fingerprint(bert):
    settings = [
        {},
        {"pooling": "cls"},
        {"pooling": "last"},
        {"pooling": "weighted_mean"},
        {"layer": 1},
        {"prompt": "the cat "},
        {"max_length": 2},
        {"normalize": True},
        {"mask_first_token": True},
    ]
    made = [TextEncoder(bert, **kwargs) for kwargs in settings]
    vectors = [encoder.encode(TEXTS, progress=False) for encoder in made]
    assert len({encoder.fingerprint() for encoder in made}) == len(settings)
    for i, first in enumerate(vectors):
        assert not any(torch.allclose(first, second) for second in vectors[i + 1 :])


def test_last_layer_by_either_name(bert):
    first, second = (TextEncoder(bert, layer=layer).encode(TEXTS, progress=False) for layer in (-1, 2))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_layers_that_are_not_needed_are_not_run(kind):
    torch.manual_seed(0)
    deep = SHAPE | {"num_hidden_layers": 4, "num_key_value_heads": 2}
    configs = {"llama": LlamaConfig, "gemma3": Gemma3TextConfig}
    config = GPT2Config(n_embd=8, n_layer=4, n_head=2, vocab_size=11) if kind == "gpt2" else configs[kind](**deep)
    model, ids = AutoModel.from_config(config).eval(), torch.tensor([[1, 2, 3]])
    whole = model(ids, output_hidden_states=True).hidden_states
    for layer in (0, 2, 3, 4, -1, -2):
        with first_layers(model, layer):
            states = model(ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(states[layer], whole[layer])
        assert len(states) == (5 if kind == "gpt2" or layer in (4, -1, -2) else layer + 2)
    assert model.config.num_hidden_layers == 4


def test_pooling_is_read_from_the_model_folder(bert, tmp_path):
    write_modules(tmp_path / "bert", [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")])
    (tmp_path / "bert" / "sentence_bert_config.json").write_text('{"max_seq_length": 3}')
    (tmp_path / "bert" / "1_Pooling").mkdir()
    config = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "bert" / "1_Pooling" / "config.json").write_text(json.dumps(config))
    settings = TextEncoder(bert).settings
    assert (settings.pooling, settings.normalize, settings.max_length) == ("cls", True, 3)
    assert TextEncoder(bert, pooling="mean").settings.pooling == "mean"


def test_static_vectors_are_normalised_means(static):
    encoder = TextEncoder(static)
    rows = encoder.encode(["dog cat"], progress=False)
    weight = encoder.model.weight.cpu()
    expected = torch.nn.functional.normalize((weight[6] + weight[7])[None], dim=1)
    torch.testing.assert_close(rows, expected)


def test_cache_is_used_and_interrupted_work_goes_on(static, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.encoders.text.CHUNK", 2)
    encoder, texts = TextEncoder(static), ["dog", "cat", "mat", "the cat", "a dog"]
    calls, encode = [], encoder.encode

    def counted(batch, **kwargs):
        calls.append(list(batch))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(batch, **kwargs)

    monkeypatch.setattr(encoder, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        embed(texts, encoder, cache_dir=tmp_path / "cache")
    data = embed(texts, encoder, cache_dir=tmp_path / "cache")
    assert calls == [texts[:2], texts[2:4], texts[2:4], texts[4:]]  # the first chunk was kept
    assert list(data["text"]) == texts
    torch.testing.assert_close(torch.tensor(data["embedding"][:]), encode(texts, progress=False))
    again = embed(texts, encoder, cache_dir=tmp_path / "cache")
    assert len(calls) == 4
    assert isinstance(again, Dataset)
    assert json.loads(again.info.description)["pooling"] == "mean"
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "no state", "no JSON", "gone"])
def test_cached_vectors_that_are_damaged_are_made_again(static, tmp_path, damage, caplog):
    encoder, texts = TextEncoder(static), ["dog", "cat", "mat"]
    vectors = embed(texts, encoder, cache_dir=tmp_path)["embedding"][:]
    (rows,), (state,) = tmp_path.rglob("*.arrow"), tmp_path.rglob("state.json")
    content = {"cut": rows.read_bytes()[:100], "empty": b""}.get(damage)
    if content is not None:
        rows.unlink()  # it may be mapped
        rows.write_bytes(content)
    elif damage == "no JSON":
        state.write_text("{")
    else:
        (state if damage == "no state" else rows).unlink()
    assert embed(texts, encoder, cache_dir=tmp_path)["embedding"][:] == vectors
    assert "is damaged: its vectors are computed again" in caplog.text
    caplog.clear()
    assert embed(texts, encoder, cache_dir=tmp_path)["embedding"][:] == vectors
    assert not caplog.text


@pytest.mark.parametrize("place", ["x", "x/y"])
def test_a_file_where_the_cache_would_be(static, tmp_path, place, monkeypatch):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(NotADirectoryError, match="`cache_dir` is .*x' is a file"):
        embed(["dog"], TextEncoder(static), cache_dir=tmp_path / place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / place))
    with pytest.raises(NotADirectoryError, match="HF_HOME"):
        embed(["dog"], TextEncoder(static))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"pooling": "max"}, "`pooling` must be one of"), ({"layer": 3}, "`layer` must be between -3 and 2")],
)
def test_bad_settings(bert, kwargs, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(bert, **kwargs)


def test_bad_texts(bert, static):
    with pytest.raises(ValueError, match="empty text.*index 1"):
        TextEncoder(bert).encode(["dog", " "])
    with pytest.raises(ValueError, match="`texts` is empty"):
        TextEncoder(bert).encode([])
    with pytest.raises(ValueError, match="one layer"):
        TextEncoder(static, layer=1)
    with pytest.raises(TypeError, match="`texts` must be a list of texts, got one text, 'dog'"):
        TextEncoder(bert).encode("dog")
    with pytest.raises(TypeError, match="got a NoneType at index 1"):
        TextEncoder(bert).encode(["dog", None])
    encoder = TextEncoder(static)
    encoder.model.weight.data[1] = 0  # of a word that the tokenizer does not know
    with pytest.raises(ValueError, match="makes only zeros of 'xyz'.*Leave the text out"):
        encoder.encode(["dog", "xyz"])


@pytest.mark.parametrize(("wrong", "message"), [(" ", "empty.*at index 5"), (b"dog", "a bytes at index 5")])
def test_texts_are_all_looked_at_before_any_work(static, tmp_path, wrong, message, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.encoders.text.CHUNK", 2)
    with pytest.raises((TypeError, ValueError), match=message):
        embed([*"abcde", wrong], TextEncoder(static), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_an_autocast_made_is_cached_apart(bert, tmp_path):
    encoder = TextEncoder(bert)
    with torch.autocast("cpu", torch.bfloat16):
        embed(TEXTS, encoder, cache_dir=tmp_path)
    found = embed(TEXTS, encoder, cache_dir=tmp_path).with_format("torch")["embedding"][:]
    torch.testing.assert_close(found, encoder.encode(TEXTS), rtol=0, atol=1e-6)


def test_a_model_in_training_mode_drops_no_units(bert):
    encoder = TextEncoder(bert)
    before = encoder.encode(TEXTS)
    encoder.model.train()
    assert torch.equal(encoder.encode(TEXTS), before)
    assert encoder.model.training


@pytest.mark.parametrize("kind", ["bert", "static"])
def test_weights_that_were_changed_in_memory_are_cached_apart(kind, request, tmp_path):
    encoder = TextEncoder(request.getfixturevalue(kind))
    before = embed(TEXTS, encoder, cache_dir=tmp_path)["embedding"][:]
    weight = next(encoder.model.parameters())
    weight.data += torch.rand_like(weight)  # as adapters are merged: torch counts no change of the parameter
    found = embed(TEXTS, encoder, cache_dir=tmp_path).with_format("torch")["embedding"][:]
    torch.testing.assert_close(found, encoder.encode(TEXTS))
    assert embed(TEXTS, TextEncoder(encoder.settings.model), cache_dir=tmp_path)["embedding"][:] == before
    assert len(list(tmp_path.glob("*/state.json"))) == 2


def test_two_at_once_make_cached_vectors_once(tmp_path):
    started, made = threading.Event(), []

    def encode(start, stop):
        made.append((start, stop))
        started.set()
        time.sleep(0.2)
        return torch.ones(stop - start, 3)

    def finish(rows):
        return Dataset.from_dict({"embedding": rows.tolist()})

    def compute():
        return computed_once("key", 4, 2, encode, finish, {"model": "m"}, tmp_path)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(compute)
        started.wait(5)
        other = pool.submit(compute)
        assert one.result()["embedding"] == other.result()["embedding"]
    assert made == [(0, 2), (2, 4)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("left", [(), ("000000000000.npy",), ("writing", "dataset")])
def test_what_a_process_left_that_was_stopped_while_it_tidied_up_goes(tmp_path, left):
    def compute():
        encode, finish = (
            (lambda start, stop: torch.ones(stop - start, 3)),
            (lambda rows: Dataset.from_dict({"embedding": rows})),
        )
        return computed_once("key", 2, 2, encode, finish, {}, tmp_path)

    first = compute()["embedding"]
    (tmp_path / "key.partial").mkdir()
    for name in left:
        (tmp_path / "key.partial" / name).write_bytes(b"half")
    assert compute()["embedding"] == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["key"]


def test_a_tokenizer_of_another_model_is_one_message(bert):
    encoder = TextEncoder(bert, device="cpu")
    encoder.tokenizer.add_tokens(["zebra"])
    with pytest.raises(ValueError, match="its tokenizer gives tokens or lengths that the model has no vectors for"):
        encoder.encode(["a zebra"], progress=False)


def test_what_the_cache_keeps_names_the_encoder_that_was_asked(bert, tmp_path):
    shutil.copytree(bert, tmp_path / "moved")
    for folder in (bert, str(tmp_path / "moved")):
        data = embed(TEXTS, TextEncoder(folder), cache_dir=tmp_path / "cache")
        assert json.loads(data.info.description)["model"] == folder
    assert len(list((tmp_path / "cache").glob("*/state.json"))) == 1
