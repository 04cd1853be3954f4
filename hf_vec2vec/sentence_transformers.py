"""A translator as the last module of a `SentenceTransformer`, whose vectors are then of the other space."""

from typing import Any

from sentence_transformers.base.modules import Module

from .model.modeling_vec2vec import Map, Vec2VecModel


class Vec2VecModule(Module):
    """Translates sentence embeddings, differentiably.

    `SentenceTransformer.encode_query` takes the linear map, where there is one, all else the full one, unless `map` names
    one: see [`Vec2VecModel.translate`].

    Args:
        model ([`Vec2VecModel`]): the translator.
        source: name of the space that the modules before it make vectors of.
        target: name of the space to translate into.
        map: which of its maps.

    Raises:
        ValueError: for a space or a map that the model does not have.

    Example:
    ```python
    >>> from sentence_transformers import SentenceTransformer

    >>> encoder = SentenceTransformer("sentence-transformers/all-MiniLM-L6-v2")
    >>> translator = Vec2VecModule(Vec2VecModel.from_pretrained("org/name"), source="minilm", target="wordllama")
    >>> model = SentenceTransformer(modules=[*encoder, translator])
    ```

    A saved one is loaded with `SentenceTransformer(folder, trust_remote_code=True)`, which sentence-transformers asks for
    where a module is not its own; the class is then imported from this package.
    """

    config_keys = ["source", "target", "map"]
    forward_kwargs = {"task"}  # that sentence-transformers hands on
    config_file_name = "translation.json"

    def __init__(self, model: Vec2VecModel, source: str, target: str, map: Map = "auto"):
        super().__init__()
        model.chosen_map(map, source, target)  # raises
        self.model, self.source, self.target, self.map = model, source, target, map

    def forward(self, features: dict[str, Any], task: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Replace `sentence_embedding`, `(n, d_source)`, by its translation, `(n, d_target)`.

        Raises:
            ValueError: for vectors of another dimension than the source space has.
        """
        rows, normalizer = features["sentence_embedding"], self.model.normalizer(self.source)
        if rows.shape[-1] != len(normalizer.mean):
            raise ValueError(
                f"The modules before this one make vectors of dimension {rows.shape[-1]}, but `source` {self.source!r} has "
                f"dimension {len(normalizer.mean)}: put it behind the encoder of that space."
            )
        rows = normalizer(rows.to(self.model.dtype))
        chosen = self.model.chosen_map(self.map, self.source, self.target, queries=task == "query")
        translated = self.model.mapped(rows, self.source, self.target, chosen)
        return features | {"sentence_embedding": self.model.normalizer(self.target).inverse(translated)}

    def get_embedding_dimension(self) -> int:
        """Dimension of the target space."""
        return len(self.model.normalizer(self.target).mean)

    def save(self, output_path: str, *args, **kwargs) -> None:
        """Write the translator, and which way it translates."""
        self.model.save_pretrained(output_path)
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "Vec2VecModule":  # type: ignore[override]
        """Read what `save` wrote, from a folder or the Hub."""
        hub: dict[str, Any] = {name: kwargs.get(name) for name in ("token", "cache_folder", "revision")}
        hub["local_files_only"] = kwargs.get("local_files_only", False)
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        return cls(Vec2VecModel.from_pretrained(str(folder)), **config)
