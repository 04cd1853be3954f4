"""Evaluation mode for a while, in several threads at once. Travels with the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from torch import nn

_SWITCHING = Lock()
_EVALUATED: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()  # by how many, and the mode before


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model without dropout; the last to leave puts back the mode that the first one found."""
    with _SWITCHING:
        count, was_training = _EVALUATED.get(model, (0, model.training))
        _EVALUATED[model] = count + 1, was_training
        model.eval()
    try:
        yield
    finally:
        with _SWITCHING:
            count, was_training = _EVALUATED.pop(model)
            if count > 1:
                _EVALUATED[model] = count - 1, was_training
            else:
                model.train(was_training)


__all__ = ["evaluating"]
