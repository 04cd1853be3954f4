"""Folders of sentence-transformers: our vectors are those that sentence-transformers makes with the same folder."""

import json

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling, StaticEmbedding
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from helpers.encoders import SHAPE, TEXTS, save_model, tokenizer
from hf_vec2vec import TextEncoder, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.cli import main
from hf_vec2vec.data.files import save_embeddings
from hf_vec2vec.encoders import check_description, check_same_encoder, embed, recorded_encoder

PROMPTS = {"query": "the cat ", "document": "on a mat ", "none": ""}


@pytest.fixture
def make(tmp_path):
    """A folder of a small SentenceTransformer: what follows its transformer, and its settings."""

    def made(*behind, decoder=False, max_length=None, **settings) -> str:
        torch.manual_seed(3)
        shape = SHAPE | {"initializer_range": 0.5, "max_position_embeddings": 900}
        model = LlamaModel(LlamaConfig(**shape)) if decoder else BertModel(BertConfig(**shape))
        base = save_model(model, tmp_path / "base")
        options = {} if max_length is None else {"max_seq_length": max_length}
        modules = [Transformer(base, **options), *(behind or (Pooling(8, "mean"),))]
        folder = str(tmp_path / "st")
        SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(folder)
        return folder

    return made


def reference(folder: str, texts=TEXTS, **kwargs) -> torch.Tensor:
    return SentenceTransformer(folder, device="cpu").encode(texts, convert_to_tensor=True, **kwargs)


def ours(folder: str, texts=TEXTS, **kwargs) -> torch.Tensor:
    return TextEncoder(folder, device="cpu", **kwargs).encode(texts, batch_size=3, progress=False)


CHAINS = {
    "mean": [Pooling(8, "mean")],
    "first token": [Pooling(8, "cls"), Normalize()],
    "last token": [Pooling(8, "lasttoken")],
    "by position": [Pooling(8, "weightedmean")],
    "greatest": [Pooling(8, "max")],
    "root of length": [Pooling(8, "mean_sqrt_len_tokens")],
    "two at once": [Pooling(8, ("cls", "mean")), Normalize()],
    "projected": [Pooling(8, "mean"), Dense(8, 5)],
    "projected twice": [Pooling(8, "mean"), Dense(8, 12), Dense(12, 3), Normalize()],
    "layer norm": [Pooling(8, "mean"), LayerNorm(8)],
    "of norm 1 before the last": [Pooling(8, "mean"), Normalize(), Dense(8, 5)],
}


@pytest.mark.parametrize("decoder", [False, True])
@pytest.mark.parametrize("chain", CHAINS)
def test_modules_of_every_kind_run(chain, decoder, make):
    folder = make(*CHAINS[chain], decoder=decoder)
    torch.testing.assert_close(ours(folder), reference(folder), rtol=1e-4, atol=1e-5)


def test_prompts_by_default_by_name_and_as_text(make):
    folder = make(prompts=PROMPTS, default_prompt_name="document")
    cases = [
        ({}, {}),
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prompt_name": "query"}, {"prompt": PROMPTS["query"]}),
        ({"prompt": "a small "}, {"prompt": "a small "}),
        ({"prompt": ""}, {"prompt": ""}),
        ({"prompt_name": "none"}, {"prompt": ""}),
    ]
    for given, theirs in cases:
        torch.testing.assert_close(ours(folder, **given), reference(folder, **theirs), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours(folder), ours(folder, prompt=""))
    st = SentenceTransformer(folder, device="cpu")
    torch.testing.assert_close(ours(folder, prompt_name="query"), st.encode_query(TEXTS, convert_to_tensor=True))
    torch.testing.assert_close(ours(folder), st.encode_document(TEXTS, convert_to_tensor=True))
    settings = TextEncoder(folder).settings
    assert (settings.prompt, settings.prompt_name) == (PROMPTS["document"], "document")
    with pytest.raises(ValueError, match=r"`prompt_name` must be one of \['query', 'document', 'none'.*got 'clustering'"):
        TextEncoder(folder, prompt_name="clustering")
    with pytest.raises(ValueError, match="`prompt` 'x' and `prompt_name` 'query'.*differ"):
        TextEncoder(folder, prompt="x", prompt_name="query")


def test_a_prompt_that_the_pooling_leaves_out(make):
    folder = make(Pooling(8, "mean", include_prompt=False), prompts=PROMPTS, default_prompt_name="query")
    torch.testing.assert_close(ours(folder), reference(folder), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`pooling` cannot be changed: .*a pooling that leaves out the prompt"):
        TextEncoder(folder, pooling="cls")


@pytest.mark.parametrize("length", [4, 700, None])
def test_texts_are_cut_where_the_folder_says(length, make):
    folder = make(max_length=length)
    assert TextEncoder(folder).settings.max_length == (length or 900)  # else the positions that there are
    long = ["dog " * 300 + "cat " * 500, "mat"]
    torch.testing.assert_close(ours(folder, long), reference(folder, long), rtol=1e-4, atol=1e-5)
    shorter = SentenceTransformer(folder, device="cpu")
    shorter.max_seq_length = 3
    torch.testing.assert_close(ours(folder, max_length=3), shorter.encode(TEXTS, convert_to_tensor=True))


def test_dimensions_that_the_makers_cut_away(make):
    for behind in ((), (Pooling(8, "mean"), Normalize())):
        folder = make(*behind, truncate_dim=3)
        assert ours(folder).shape == (len(TEXTS), 3)
        torch.testing.assert_close(ours(folder), reference(folder), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`layer` cannot be changed: .*a cut to 3 dimensions"):
        TextEncoder(folder, layer=1)


def test_settings_that_differ_take_the_transformer_alone(make):
    folder = make(Pooling(8, "mean"), Normalize())
    st = SentenceTransformer(folder, device="cpu")
    tokens = st.encode(TEXTS, output_value="token_embeddings")
    torch.testing.assert_close(ours(folder, pooling="cls", normalize=False), torch.stack([rows[0] for rows in tokens]))
    torch.testing.assert_close(ours(folder, normalize=False), torch.stack([rows.mean(0) for rows in tokens]))
    layers = [TextEncoder(folder, layer=layer).encode(TEXTS, progress=False) for layer in (-1, 2, 1)]
    torch.testing.assert_close(layers[0], layers[1])
    assert not torch.allclose(layers[0], layers[2])
    plain = make(Pooling(8, "mean"))
    torch.testing.assert_close(ours(plain, normalize=True), torch.nn.functional.normalize(reference(plain), dim=1))


@pytest.mark.parametrize("given", [{"pooling": "cls"}, {"layer": 1}, {"mask_first_token": True}, {"pooling": "last"}])
def test_settings_that_modules_cannot_have_are_refused(given, make):
    folder = make(Pooling(8, "mean"), Dense(8, 4))
    with pytest.raises(ValueError, match=f"`{next(iter(given))}` cannot be changed: .*modules of its own .Dense."):
        TextEncoder(folder, **given)


def test_static_embeddings_with_a_prompt_and_a_cut(tmp_path):
    torch.manual_seed(0)
    words = StaticEmbedding(tokenizer(), embedding_dim=6)
    model = SentenceTransformer(modules=[words], device="cpu", prompts={"query": "cat "}, default_prompt_name="query")
    model.save_pretrained(str(tmp_path / "static"))
    folder = str(tmp_path / "static")
    torch.testing.assert_close(ours(folder), reference(folder))
    torch.testing.assert_close(
        ours(folder, prompt="", max_length=2), reference(folder, ["a dog", "the small", "dog", "cat mat"], prompt="")
    )
    assert TextEncoder(folder).settings.max_length == 10**6


def test_decoders_of_sentence_transformers_keep_their_first_token(make, llama):
    assert not TextEncoder(make(decoder=True)).settings.mask_first_token
    assert TextEncoder(llama).settings.mask_first_token


def test_pickled_weights_are_refused(make, tmp_path):
    folder = make(Pooling(8, "mean"), Dense(8, 4))
    (tmp_path / "st" / "2_Dense" / "model.safetensors").rename(tmp_path / "st" / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights, '2_Dense/pytorch_model.bin', which are not read"):
        TextEncoder(folder)


@pytest.mark.parametrize("content", ["{", "[{}]", '[{"idx": 0, "name": "0", "path": "", "type": "os.system"}]', "3"])
def test_a_broken_list_of_modules_is_one_line(content, make, tmp_path):
    folder = make()
    (tmp_path / "st" / "modules.json").write_text(content)
    with pytest.raises(ValueError, match="(?s)st' cannot be opened|trust_remote_code"):
        TextEncoder(folder)


def translator(encoder: TextEncoder) -> Vec2VecConfig:
    return Vec2VecConfig(embedding_dims={"a": 8, "b": 4}, encoders={"a": vars(encoder.settings), "b": None})


def test_a_record_keeps_its_prompt_whatever_the_folder_says_later(make, tmp_path):
    folder = make(prompts=PROMPTS, default_prompt_name="document")
    config = translator(TextEncoder(folder))
    before = recorded_encoder(config, "a").encode(TEXTS, progress=False)
    file = tmp_path / "st" / "config_sentence_transformers.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"default_prompt_name": "query"}))
    torch.testing.assert_close(recorded_encoder(config, "a").encode(TEXTS, progress=False), before)
    file.write_text(json.dumps(content | {"prompts": PROMPTS | {"document": "another "}}))
    with pytest.raises(ValueError, match="'a' was made by .*`prompt_name` 'document', which is 'another '.*differ"):
        recorded_encoder(config, "a")


def test_records_without_the_name_of_a_prompt_are_read(make):
    """Of translators that are older than the setting: no prompt was used, whatever the folder said."""
    folder = make(prompts=PROMPTS, default_prompt_name="document")
    config = translator(TextEncoder(folder, prompt=""))
    del config.encoders["a"]["prompt_name"]
    torch.testing.assert_close(recorded_encoder(config, "a").encode(TEXTS, progress=False), reference(folder, prompt=""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "the cat ", "prompt_name": "query"}, "`prompt` is 'the cat ' and was 'on a mat '.*`prompt_name`"),
        ({"max_length": 5}, "`max_length` is 5 and was 900"),
        ({"pooling": "cls", "normalize": True}, "`pooling` is 'cls' and was 'mean'; `normalize` is True and was False"),
        ({"model": "elsewhere"}, "`model` is 'elsewhere'"),
    ],
)
def test_vectors_that_were_made_otherwise_are_refused(change, message, make):
    encoder = TextEncoder(make(prompts=PROMPTS, default_prompt_name="document"))
    config = translator(encoder)
    check_same_encoder(config, "a", vars(encoder.settings))
    check_same_encoder(config, "b", {"pooling": "cls"})  # nothing is recorded
    with pytest.raises(ValueError, match=f"'a': these vectors were made otherwise .*{message}"):
        check_same_encoder(config, "a", vars(encoder.settings) | change)


@pytest.mark.parametrize("suffix", ["", ".parquet"])
def test_commands_refuse_a_store_that_another_encoder_made(suffix, tmp_path, bert, capsys):
    made, other = (embed(TEXTS, TextEncoder(bert, pooling=p), cache_dir=tmp_path / "cache") for p in ("mean", "cls"))
    config = Vec2VecConfig(embedding_dims={"a": 8, "b": 8}, hidden_dim=8, encoders={"a": None, "b": None})
    config.encoders["a"] = json.loads(made.info.description)
    Vec2VecModel(config).save_pretrained(tmp_path / "model")
    files = {}
    for name, data in (("made", made), ("other", other)):
        files[name] = str(tmp_path / f"{name}{suffix}")
        save_embeddings(data, files[name])
    way = ["translate", str(tmp_path / "model"), "--source", "a", "--target", "b", "--output", str(tmp_path / "out.npy")]
    assert main([*way, "--input", files["other"]]) == 2
    assert "`pooling` is 'cls' and was 'mean'" in capsys.readouterr().err
    assert not (tmp_path / "out.npy").exists()
    assert main([*way, "--input", files["made"]]) == 0
    pairs = ["--source", f"a={files['other']}", "--target", f"b={files['made']}"]
    assert main(["evaluate", str(tmp_path / "model"), *pairs]) == 2
    assert "`space` 'a': these vectors were made otherwise" in capsys.readouterr().err


def test_descriptions_that_tell_nothing_are_no_hindrance(bert):
    config = translator(TextEncoder(bert))
    for description in ("", "{", "[]", "3", "{}", '{"model": 3}', "a text"):
        check_description(config, "a", description)


def test_names_of_one_encoder_are_one(tmp_path, bert, monkeypatch):
    config = translator(TextEncoder(bert))
    config.encoders["a"]["model"] = "all-MiniLM-L6-v2"
    made = dict(config.encoders["a"])
    check_same_encoder(config, "a", made | {"model": "sentence-transformers/all-MiniLM-L6-v2"})
    config.encoders["a"]["model"] = bert
    monkeypatch.chdir(tmp_path)
    check_same_encoder(config, "a", made | {"model": "./bert"})
