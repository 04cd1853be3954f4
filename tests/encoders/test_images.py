import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import ExifTags
from PIL import Image as pillow
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from helpers.encoders import WORDS, tokenizer
from hf_vec2vec import ImageEncoder, TextEncoder, Vec2VecModel, embed_images
from hf_vec2vec.cli import main
from hf_vec2vec.data import load_embeddings
from hf_vec2vec.encoders.recorded import recorded_encoder

TEXTS = ["a dog", "the small dog sat on a mat", "dog"]
SIDE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "projection_dim": 6}


def save_clip(folder) -> str:
    """A tiny CLIP with its processor, saved as those of the Hub are. The second token ends a text."""
    torch.manual_seed(0)
    text = SIDE | {"vocab_size": 11, "max_position_embeddings": 12, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(text_config=text, vision_config=SIDE | {"image_size": 32, "patch_size": 8}, projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    words = tokenizer()
    words.post_processor = TemplateProcessing(single="[BOS] $A [UNK]", special_tokens=[("[BOS]", 2), ("[UNK]", 1)])
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip") / "model")


def save_images(folder, count: int = 7) -> list:
    """Images of unequal shapes and modes, some in a folder of their own."""
    (folder / "more").mkdir(parents=True)
    generator = np.random.default_rng(0)
    files = []
    for i in range(count):
        shape = (30 + 5 * i, 50) if i == 3 else (30 + 5 * i, 50, 3)  # one of them grey
        files.append(folder / ("more" if i % 2 else ".") / f"{i}.png")
        pillow.fromarray(generator.integers(256, size=shape, dtype=np.uint8)).save(files[-1])
    return files


def test_both_sides_are_the_models_own_projections(clip, tmp_path):
    files = save_images(tmp_path / "images")
    texts, images = TextEncoder(clip, device="cpu"), ImageEncoder(clip, device="cpu")
    assert (texts.settings.pooling, texts.settings.max_length) == ("projection", 12)
    inputs = texts.tokenizer(TEXTS, padding=True, return_tensors="pt")
    pixels = images.processor([pillow.open(file).convert("RGB") for file in files], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = CLIPTextModelWithProjection.from_pretrained(clip)(**inputs).text_embeds
        torch.testing.assert_close(texts.encode(TEXTS, batch_size=2, progress=False), expected, rtol=1e-4, atol=1e-6)
        expected = CLIPVisionModelWithProjection.from_pretrained(clip)(pixels).image_embeds
    torch.testing.assert_close(images.encode(files, batch_size=3, progress=False), expected, rtol=1e-4, atol=1e-6)
    assert expected.shape == (7, 6)
    unit = ImageEncoder(clip, normalize=True, device="cpu").encode(files, progress=False)
    torch.testing.assert_close(unit, torch.nn.functional.normalize(expected, dim=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("orientation", [3, 6])
def test_photos_are_turned_as_their_files_say(clip, tmp_path, orientation):
    """As in a column of images, whose data set turns them when they are read."""
    photo = pillow.fromarray(np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8))
    exif = pillow.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo.save(tmp_path / "photo.png", exif=exif)
    turned = photo.transpose({3: pillow.Transpose.ROTATE_180, 6: pillow.Transpose.ROTATE_270}[orientation])
    encoder = ImageEncoder(clip, device="cpu")
    found = encoder.encode([tmp_path / "photo.png"], progress=False)
    assert torch.equal(found, encoder.encode([turned], progress=False))
    column = Dataset.from_dict({"image": [str(tmp_path / "photo.png")]}, features=Features({"image": Image()}))
    assert torch.equal(found, encoder.encode(column["image"], progress=False))


def test_siglip_reads_texts_at_full_length(clip, tmp_path):
    """Its towers see padding, as they did in training: a text's vector is that of the padded text."""
    torch.manual_seed(0)
    text = SIDE | {"vocab_size": 11, "max_position_embeddings": 12, "projection_size": 6}
    vision = SIDE | {"image_size": 32, "patch_size": 8}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).eval()
    model.save_pretrained(tmp_path)
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", model_max_length=12)
    words.save_pretrained(tmp_path)
    ids = torch.tensor([[3, 6] + [0] * 10])
    with torch.no_grad():
        expected = model.get_text_features(input_ids=ids, attention_mask=(ids > 0).long()).pooler_output
    torch.testing.assert_close(TextEncoder(str(tmp_path), device="cpu").encode(["a dog"], progress=False), expected)


def test_images_are_embedded_once_and_work_goes_on(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.encoders.images.CHUNK", 3)
    save_images(tmp_path / "images")
    encoder, calls = ImageEncoder(clip, device="cpu"), []
    encode = encoder.encode

    def counted(images, **kwargs):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(images, **kwargs)

    monkeypatch.setattr(encoder, "encode", counted)
    options = {"cache_dir": tmp_path / "cache", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        embed_images(tmp_path / "images", encoder, **options)
    data = embed_images(tmp_path / "images", encoder, **options)
    assert calls == [3, 3, 3, 1]
    files = sorted((tmp_path / "images").rglob("*.png"))
    assert list(data["image"]) == list(map(str, files))
    torch.testing.assert_close(torch.tensor(data["embedding"][:]), encode(files, progress=False))
    assert json.loads(data.info.description)["modality"] == "image"
    embed_images(tmp_path / "images", encoder, **options)
    assert len(calls) == 4
    pillow.new("RGB", (40, 40)).save(files[0])  # another image under the same name
    embed_images(tmp_path / "images", encoder, **options)
    assert len(calls) == 7
    with torch.autocast("cpu", torch.bfloat16):  # other vectors
        embed_images(tmp_path / "images", encoder, **options)
    assert len(calls) == 10
    next(encoder.model.vision_model.parameters()).data += 1
    embed_images(tmp_path / "images", encoder, **options)
    assert len(calls) == 13


@pytest.mark.parametrize("name", ["folder", "x.parquet"])
def test_columns_of_images_keep_their_captions(clip, tmp_path, name):
    files = save_images(tmp_path / "images")
    rows = {"picture": list(map(str, files)), "caption": [f"caption {i}" for i in range(7)]}
    table = Dataset.from_dict(rows, features=Features({"picture": Image(), "caption": Value("string")}))
    if name == "folder":
        table.save_to_disk(tmp_path / name)
    else:
        table.to_parquet(tmp_path / name)
    flags = ["--images", tmp_path / name, "--model", clip, "--cache_dir", tmp_path / "cache", "--output", tmp_path / "out"]
    assert main([*map(str, ["embed", *flags, "--batch_size", 2])]) == 0
    data = load_embeddings(tmp_path / "out")
    assert data.column_names == ["caption", "embedding"]
    expected = ImageEncoder(clip, device="cpu").encode(files, progress=False)
    torch.testing.assert_close(torch.tensor(data["embedding"][:]), expected)


def test_what_cannot_be_embedded(clip, bert, tmp_path, capsys):  # noqa: F811
    files = save_images(tmp_path / "images")
    with pytest.raises(ValueError, match="is a bert, which has no image side"):
        ImageEncoder(bert)
    with pytest.raises(ValueError, match="`pooling` 'projection' is for CLIP-like models"):
        TextEncoder(bert, pooling="projection")
    with pytest.raises(ValueError, match="its `pooling` is 'projection'"):
        TextEncoder(clip, pooling="mean")
    encoder = ImageEncoder(clip)
    with pytest.raises(ValueError, match="`images` is empty"):
        encoder.encode([])
    with pytest.raises(ValueError, match="no image at index 0"):
        encoder.encode([None])

    class Config:
        encoders = {"photos": {"model": "clip", "modality": "image", "normalize": False}}

    with pytest.raises(ValueError, match="'photos' is of images, by 'clip'"):
        recorded_encoder(Config, "photos")
    files[2].write_bytes(files[2].read_bytes()[:100])
    out = ["--model", clip, "--output", tmp_path / "out", "--cache_dir", tmp_path / "cache"]
    calls = {
        "2.png cannot be read": ["--images", tmp_path / "images"],
        "there is nothing": ["--images", tmp_path / "none"],
        "holds no image": ["--images", tmp_path / "cache"],
        "and not both": ["--images", tmp_path / "images", "--texts", "x.txt"],
        "`prompt` is for texts": ["--images", tmp_path / "images", "--prompt", "a photo of "],
    }
    for message, flags in calls.items():
        assert main([*map(str, ["embed", *flags, *out])]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_which_row_of_a_data_set_is_wrong(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.encoders.images.CHUNK", 3)
    encoder, options = ImageEncoder(clip, device="cpu"), {"cache_dir": tmp_path / "cache", "progress": False}
    rows = {"image": [*map(str, save_images(tmp_path / "images", 5)), None]}
    data = Dataset.from_dict(rows, features=Features({"image": Image()}))
    with pytest.raises(ValueError, match="^Of images 3 to 6, the first of which is index 0 here: .*no image at index 2"):
        embed_images(data, encoder, **options)
    data = data.select(range(5)).add_column("embedding", [[0.5]] * 5)
    with pytest.raises(ValueError, match="`images` has a column 'embedding'.*Rename or drop it first"):
        embed_images(data, encoder, **options)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["text", "image"])
def test_the_example_tells_that_random_weights_do_not_align(clip, bert, tmp_path, capsys, monkeypatch, side):  # noqa: F811
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    generator = np.random.default_rng(0)
    pixels = [pillow.fromarray(generator.integers(256, size=(32, 32, 3), dtype=np.uint8)) for _ in range(400)]
    texts = [" ".join(generator.choice(WORDS[3:], 7)) for _ in range(400)]
    Dataset.from_dict(
        {"image": pixels, "caption_0": texts}, features=Features({"image": Image(), "caption_0": Value("string")})
    ).save_to_disk(tmp_path / "data")
    examples = Path(__file__).parents[2] / "examples"
    monkeypatch.syspath_prepend(examples)  # as where it is run, for it takes a part from another one
    spec = importlib.util.spec_from_file_location("clip_example", examples / "clip.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    flags = [
        "--data",
        tmp_path / "data",
        "--text_model",
        bert,
        "--clip",
        clip,
        "--side",
        side,
        "--output",
        tmp_path / "model",
    ]
    found = example.main([*map(str, flags)])
    assert found["chance"] == [1 / 80, 5 / 80, 10 / 80]
    assert all(0 <= value < 0.3 for values in found.values() for value in values)
    printed = capsys.readouterr().out
    assert "Verdict on the alignment: not aligned" in printed
    assert "The alignment failed" in printed
    assert Vec2VecModel.from_pretrained(tmp_path / "model").config.spaces == ["clip", "text"]
