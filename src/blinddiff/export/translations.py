"""ONNX for the few operations of torch that its exporter does not translate."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnxscript import opset20

op: Any = opset20  # its types tell element types apart, which the code here does not
aten = torch.ops.aten


def _with_scalar(name: str) -> Callable[[Any, Any], Any]:
    """A binary operation with a scalar that may be computed from the image's size."""
    return lambda tensor, scalar: getattr(op, name)(tensor, op.CastLike(scalar, tensor))


def _median(values: Any, axis: int, _keepdim: bool = False) -> tuple[Any, Any]:
    """The lower median along the last axis, which is kept, and its index."""
    last = op.Gather(op.Shape(values), op.Constant(value_ints=[-1]))
    ordered, indices = op.TopK(values, last, axis=axis, largest=0, sorted=1)
    middle = op.Div(op.Sub(last, op.Constant(value_ints=[1])), op.Constant(value_ints=[2]))
    return op.Gather(ordered, middle, axis=axis), op.Gather(indices, middle, axis=axis)


def _frequencies(n: int, spacing: float = 1.0, **_: Any) -> Any:
    return op.Constant(value_floats=np.fft.fftfreq(n, spacing).tolist())


def _half_of_frequencies(n: int, spacing: float = 1.0, **_: Any) -> Any:
    return op.Constant(value_floats=np.fft.rfftfreq(n, spacing).tolist())


TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    aten.add.Scalar: lambda tensor, scalar, alpha=1: _with_scalar("Add")(tensor, scalar),
    aten.sub.Scalar: lambda tensor, scalar, alpha=1: _with_scalar("Sub")(tensor, scalar),
    aten.mul.Scalar: _with_scalar("Mul"),
    aten.div.Scalar: _with_scalar("Div"),
    aten.remainder.Scalar: _with_scalar("Mod"),
    aten.eq.Scalar: _with_scalar("Equal"),
    aten.lt.Scalar: _with_scalar("Less"),
    aten.le.Scalar: _with_scalar("LessOrEqual"),
    aten.gt.Scalar: _with_scalar("Greater"),
    aten.ge.Scalar: _with_scalar("GreaterOrEqual"),
    aten.fft_fftfreq.default: _frequencies,
    aten.fft_rfftfreq.default: _half_of_frequencies,
    aten.median.dim: _median,
}
