"""Vectors of images, from the image side of CLIP-like models."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset, Image, concatenate_datasets, load_from_disk
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

from ..data.columns import EMBEDDING, to_dataset
from ..data.devices import chosen_device
from ..data.progress import progress_bar
from ..model.modeling_vec2vec import check_embeddings
from ..model.modes_vec2vec import evaluating
from .cache import computed_once, model_digest
from .folders import check_whole, model_folder
from .pooling import PROJECTION, is_dual

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

IMAGE = "image"
CHUNK = 2048  # images that are encoded between two saves of the cache
UPRIGHT = "upright"  # part of what the cache goes by: earlier versions saw photos as they lay in the camera
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_FORMATS = f"a folder of images ({', '.join(SUFFIXES)}), or a .parquet or Arrow folder with a column of images"


@dataclass(frozen=True)
class ImageEncoderSettings:
    """Everything that decides which vector an image gets, apart from the weights and the folder's own preprocessing.

    Args:
        model: local folder or Hub id.
        normalize: scale vectors to norm 1.
        modality: tells these settings from those of a text encoder.
        pooling: the same, for the text side of the same model.
    """

    model: str
    normalize: bool
    modality: str = "image"
    pooling: str = PROJECTION


class ImageEncoder:
    """The image side of a CLIP-like model, frozen. Its text side is a [`TextEncoder`] of the same model.

    Images are resized by Pillow, whatever else is installed: other libraries give slightly other vectors. Photos are turned
    as their files say (EXIF), which data sets of images and transformers do, too.

    Args:
        model: local folder or Hub id.
        normalize: see [`ImageEncoderSettings`].
        device: where it runs; a GPU if there is one.
        dtype: of the weights. Vectors are returned in float32.
        trust_remote_code: run the code that the model's repository brings along.

    Raises:
        ValueError: for a model without an image side, or code that is not trusted.
    """

    def __init__(
        self,
        model: str,
        *,
        normalize: bool = False,
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
        trust_remote_code: bool = False,
    ):
        self.folder = model_folder(model, trust_remote_code=trust_remote_code)
        self.device = chosen_device(device)
        self.model, report = AutoModel.from_pretrained(
            self.folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        if not is_dual(self.model):
            raise ValueError(
                f"`model` {model!r} is a {self.model.config.model_type}, which has no image side beside a text side. Give a "
                "CLIP-like model."
            )
        check_whole(self.folder, self.model, report["missing_keys"], unused=("text",))
        self.model.to(self.device).eval()
        self.processor = AutoImageProcessor.from_pretrained(self.folder, backend="pil", trust_remote_code=trust_remote_code)
        self.settings = ImageEncoderSettings(model=model, normalize=normalize)

    def encode(self, images: "Sequence[Picture | str | Path]", *, batch_size: int = 32, progress: bool = True) -> Tensor:
        """Vectors of images, in their order.

        Args:
            images: pictures or their files. A column of a data set will do: a batch is decoded at a time.
            batch_size: images at a time.
            progress: show a bar.

        Returns:
            `(len(images), d)`, float32, on the CPU.

        Raises:
            ValueError: for no images, or one that cannot be read.
        """
        if not len(images):
            raise ValueError("`images` is empty.")
        done = []
        bar = progress_bar(total=len(images), desc="embed", unit="image", shown=progress)
        with torch.inference_mode(), evaluating(self.model), bar:
            for start in range(0, len(images), batch_size):
                pictures = [_picture(image, start + i) for i, image in enumerate(_part(images, start, batch_size))]
                pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
                rows = self.model.get_image_features(pixels.to(self.device, self.model.dtype)).pooler_output.float()
                done.append((F.normalize(rows, dim=1) if self.settings.normalize else rows).cpu())
                bar.update(len(pictures))
        return check_embeddings(torch.cat(done), "images")

    def fingerprint(self) -> str:
        """Hash of the weights, of the folder's other files and of all settings: what the vectors depend on."""
        dtype, device = self.model.dtype, self.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        return model_digest(self.folder, self.model, [asdict(self.settings) | {"model": None}, str(dtype), UPRIGHT])


def embed_images(
    images: Dataset | Sequence[str | Path] | str | Path,
    encoder: ImageEncoder,
    *,
    batch_size: int = 32,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Images and their vectors as an Arrow data set, computed once and cached, as `embed` does with texts.

    Args:
        images: a data set with a column of images, files, or a path (see `load_images`).
        encoder: what makes the vectors.
        batch_size: images at a time.
        cache_dir: see `embed`.
        progress: show a bar.

    Returns:
        A memory-mapped data set with the column `embedding`, and the files in `image`, or, of a data set, its other columns;
        the encoder's settings, as JSON, are its `info.description`.

    Raises:
        FileNotFoundError, ValueError: see `load_images` and [`ImageEncoder.encode`].
    """
    found = load_images(images) if isinstance(images, str | Path) else images
    if isinstance(found, Dataset):
        parts, known = _column_in_parts(found), found._fingerprint
        others = found.remove_columns(image_column(found))
        if EMBEDDING in others.column_names:
            raise ValueError(f"`images` has a column {EMBEDDING!r}, which the vectors would be. Rename or drop it first.")
    else:
        files = [Path(file) for file in found]
        known = [(str(file.absolute()), stat.st_size, stat.st_mtime_ns) for file in files if (stat := file.stat())]
        parts, others = files.__getitem__, Dataset.from_dict({IMAGE: [str(file) for file in files]})
    key = hashlib.sha256(json.dumps([encoder.fingerprint(), known]).encode()).hexdigest()[:32]

    def encode(start: int, stop: int) -> Tensor:
        try:
            return encoder.encode(parts(slice(start, stop)), batch_size=batch_size, progress=progress)
        except ValueError as error:
            if not start:
                raise
            raise ValueError(f"Of images {start:,} to {stop:,}, the first of which is index 0 here: {error}") from error

    def finish(rows: np.ndarray) -> Dataset:
        vectors = to_dataset(rows)
        return concatenate_datasets([others, vectors], axis=1) if others.column_names else vectors

    return computed_once(key, len(found), CHUNK, encode, finish, asdict(encoder.settings), cache_dir)


def _column_in_parts(data: Dataset) -> Callable[[slice], Sequence]:
    column = image_column(data)
    return lambda part: data.select(range(part.start, part.stop))[column]


def load_images(path: str | Path) -> Dataset | list[Path]:
    """Images of a folder (all below it, by name), or a data set with a column of images from Parquet or an Arrow folder.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if there is no image.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` is {str(path)!r}, where there is nothing. Give {IMAGE_FORMATS}.")
    if path.suffix.lower() == ".parquet":
        return Dataset.from_parquet(str(path))
    if (path / "dataset_info.json").exists():
        return load_from_disk(str(path))
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES) if path.is_dir() else []
    if not files:
        raise ValueError(f"`path` {str(path)!r} holds no image. Give {IMAGE_FORMATS}.")
    return files


def image_column(data: Dataset) -> str:
    """Name of the only column of images."""
    columns = [name for name, feature in data.features.items() if isinstance(feature, Image)]
    if len(columns) != 1:
        raise ValueError(f"`images` has the columns {data.column_names}, of which {columns} hold images; one must.")
    return columns[0]


def _part(images: Sequence, start: int, count: int) -> Sequence:
    try:
        return images[start : start + count]
    except OSError as error:
        raise ValueError(f"`images` {start:,} to {start + count:,}: one cannot be read: {error}") from error


def _picture(image: "Picture | str | Path | None", number: int) -> "Picture":
    from PIL import Image as pillow
    from PIL.ImageOps import exif_transpose

    if image is None:
        raise ValueError(f"`images` has no image at index {number}. Drop the row.")
    try:
        opened = pillow.open(image) if isinstance(image, str | Path) else image
        return exif_transpose(opened).convert("RGB")
    except OSError as error:
        name = image if isinstance(image, str | Path) else f"index {number}"
        raise ValueError(f"`images`: {name} cannot be read: {error}") from error


__all__ = ["ImageEncoder", "ImageEncoderSettings", "embed_images", "load_images"]
