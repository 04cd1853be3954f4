"""A device that is none: tensors that say they are elsewhere and refuse what a GPU would refuse, computed on the CPU.

`OTHER` stands in for "cuda". It is called `meta`, which torch knows without a driver; here such tensors have values.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

OTHER = torch.device("meta")
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}  # may cross from device to device
# Which add in another order each time, on a GPU: the same seed would give another alignment.
UNREPEATABLE = {torch.ops.aten.index_add.default, torch.ops.aten.index_add_.default, torch.ops.aten.scatter_add_.default}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}  # take their indices from the CPU, too


class Elsewhere(torch.Tensor):
    """A tensor of `OTHER`."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=OTHER, **layout)

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    def __repr__(self, **kwargs):
        return f"Elsewhere({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return on_other_device(func, args, kwargs or {})


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return on_other_device(func, args, kwargs or {})


class _Lists(TorchFunctionMode):
    """`torch.tensor` drops its values for a device of this name before any operator is called."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.tolist and isinstance(args[0], Elsewhere):  # which torch refuses to subclasses
            return args[0].inner.tolist()
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu") == OTHER:
            return func(*args, **kwargs | {"device": None}).to(OTHER)
        return func(*args, **kwargs)


@contextmanager
def other_device():
    """While it is entered, `device=OTHER` and `.to(OTHER)` give tensors with values."""
    with _Operators(), _Lists():
        yield OTHER


def on_other_device(func, args: tuple, kwargs: dict):
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
    asked = kwargs.get("device")
    goes_there = bool(there) if asked is None else torch.device(asked) == OTHER
    allowed = func in COPIES or (func in INDEXING and isinstance(args[0], Elsewhere))
    if there and not allowed and any(tensor.ndim for tensor in here):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found two.")
    if there and func in UNREPEATABLE:
        raise RuntimeError(f"{func}: not repeatable on a GPU.")
    if goes_there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: expected a generator of the other device, but found one of the CPU.")
    if asked is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    inner_args, inner_kwargs = tree_map(lambda leaf: leaf.inner if isinstance(leaf, Elsewhere) else leaf, (args, kwargs))
    found = func(*inner_args, **inner_kwargs)
    if not goes_there or func is torch.ops.aten.copy_.default:
        return args[0] if func is torch.ops.aten.copy_.default else found
    known = {id(tensor.inner): tensor for tensor in there}  # what works in place gives back what it was given

    def wrap(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else Elsewhere(leaf)

    return tree_map(wrap, found)
