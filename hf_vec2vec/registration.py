"""Makes `AutoConfig`, `AutoModel` and `pipeline` know the package, when they are loaded: to load them here costs seconds."""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def _register_config() -> None:
    from transformers import AutoConfig

    from .model.configuration_vec2vec import Vec2VecConfig

    AutoConfig.register("vec2vec", Vec2VecConfig, exist_ok=True)


def _register_model() -> None:
    from transformers import AutoModel

    from .model.configuration_vec2vec import Vec2VecConfig
    from .model.modeling_vec2vec import Vec2VecModel

    AutoModel.register(Vec2VecConfig, Vec2VecModel, exist_ok=True)


def _register_pipeline() -> None:
    from . import pipelines  # noqa: F401  registers itself


REGISTER = {
    "transformers.models.auto.configuration_auto": _register_config,
    "transformers.models.auto.modeling_auto": _register_model,
    "transformers.pipelines": _register_pipeline,
}


class RegisterOnImport:
    """Finder on `sys.meta_path` that registers the classes right after a module of `REGISTER` was executed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None, /) -> ModuleSpec | None:
        """Spec of a module of `REGISTER`; no other."""
        spec = PathFinder.find_spec(name, path, target) if name in REGISTER else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            REGISTER[name]()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]  # of this one loader
        return spec


def register_when_loaded() -> None:
    """Register now what transformers has loaded already, and the rest once it does."""
    sys.meta_path.insert(0, RegisterOnImport)
    for name, register in REGISTER.items():
        if name in sys.modules:
            register()
