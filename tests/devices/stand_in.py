"""A stand-in for a GPU: tensors that compute on the CPU, but refuse operations that mix devices.

Inside `stand_in_device()`, every tensor made on `DEVICE` or moved there reports that device and has values. An
operation raises `MixedDevices` where CUDA would raise: for tensors of both devices, and for a generator of the other
device. As with CUDA, 0-dimensional CPU tensors, CPU indices into a tensor on the device, and copies are accepted.

torch's own fake CUDA tensors do not serve: builds of torch without CUDA cannot index them, and as they have no values,
no pipeline runs to its end.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from blinddiff.models.denoiser import alpha_bar_on

DEVICE = torch.device("meta")
"""One that every build of torch knows. True meta tensors, which have no values, are refused."""
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}

EAGER = {aten._conj.default: aten._conj_physical.default}
"""Below a subclass, torch does not resolve conjugate views: conjugates are computed at once."""


class MixedDevices(RuntimeError):
    """An operation got tensors, or a generator, of different devices."""


class OnDevice(Tensor):
    """A tensor that reports `DEVICE`; `values` is the CPU tensor with its values."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "OnDevice":
        layout = {"strides": values.stride(), "storage_offset": values.storage_offset()}
        new: OnDevice = Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype, device=DEVICE, **layout)
        new.values = values
        return new

    def tolist(self) -> Any:
        return self.values.tolist()

    def new_tensor(self, data: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor(data, dtype=self.dtype, device=self.device)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.__getitem__, Tensor.__setitem__):  # torch would make a tensor of a list on `DEVICE`
            args = args[0], _without_lists(args[1]), *args[2:]
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class OnDeviceMode(TorchDispatchMode):
    """Catches operations without a tensor of the device, which may make one or move one there."""

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the values; its results are on the device if it names that one, or if its inputs are."""
    func = EAGER.get(func, func)
    leaves = tree_leaves((args, kwargs))
    named = kwargs.get("device")
    if func is aten.copy_.default:
        on_device = isinstance(args[0], OnDevice)
    elif named is not None:
        on_device = torch.device(named) == DEVICE
    else:
        on_device = any(isinstance(each, OnDevice) for each in leaves)
    true_meta = [
        each for each in leaves if isinstance(each, Tensor) and each.is_meta and not isinstance(each, OnDevice)
    ]
    assert not true_meta, f"{func}: a tensor without values"
    if func not in COPIES:
        indexed = func in INDEXING and isinstance(args[0], OnDevice)
        check(func, tree_leaves([args[0], *args[2:]]) if indexed else leaves, on_device)
    on_cpu = kwargs if named is None else {**kwargs, "device": torch.device("cpu")}
    out = func(*_values(args), **_values(on_cpu))
    if not on_device:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map_only(Tensor, OnDevice, out))


def check(func: Any, leaves: list[Any], on_device: bool) -> None:
    """Raise MixedDevices if the inputs of an operation are not all on the device, or all on the CPU."""
    tensors = [each for each in leaves if isinstance(each, Tensor)]
    wrapped = [each for each in tensors if isinstance(each, OnDevice)]
    if wrapped and any(each.ndim for each in tensors if not isinstance(each, OnDevice)):
        shapes = [f"{tuple(each.shape)} on {each.device}" for each in tensors]
        raise MixedDevices(f"{func}: {', '.join(shapes)}")
    if on_device and any(isinstance(each, torch.Generator) for each in leaves):
        raise MixedDevices(f"{func}: a CPU generator for a tensor on {DEVICE}")


def _values(tree: Any) -> Any:
    return tree_map_only(OnDevice, lambda each: each.values, tree)


def _without_lists(index: Any) -> Any:
    """An index of a tensor with its lists as CPU tensors."""
    if isinstance(index, tuple):
        return tuple(map(_without_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


@contextmanager
def stand_in_device() -> Iterator[torch.device]:
    """Within this block, `DEVICE` is the stand-in."""
    alpha_bar_on.cache_clear()  # keeps a tensor for each device
    try:
        with (
            OnDeviceMode(),
            mock.patch.object(torch, "tensor", _by_copy(torch.tensor)),
            mock.patch.object(torch, "as_tensor", _by_copy(torch.as_tensor)),
        ):
            yield DEVICE
    finally:
        alpha_bar_on.cache_clear()


def _by_copy(new: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` or `torch.as_tensor`, which report no operation; they would make tensors without values."""

    def made(data: Any, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        if isinstance(data, OnDevice):
            return data.to(device=device, dtype=dtype)
        return new(data, dtype=dtype).to(device)

    return made
