"""The pixel grid that kernels are drawn on, and what all families share: broadcasting, normalising, argument checks."""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from blinddiff.errors import ParameterError

Value: TypeAlias = float | Tensor
"""A kernel parameter: a number makes one kernel, a (B,) tensor a batch of them."""


def axis(size: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(size,) pixel positions relative to the "no shift" index size // 2."""
    if size < 1:
        raise ParameterError(f"kernel size {size}: a kernel has at least 1 pixel a side")
    return torch.arange(size, device=device, dtype=dtype) - size // 2


def normalise(kernel: Tensor) -> Tensor:
    """(..., kh, kw) divided by its sum, so that blurring keeps the mean of an image."""
    return kernel / kernel.sum(dim=(-2, -1), keepdim=True)


def as_tensors(*values: Value) -> list[Tensor]:
    """Parameters as floating tensors of one shape, () or (B,), with the dtype and device of the first tensor."""
    like = next((value for value in values if isinstance(value, Tensor) and value.is_floating_point()), None)
    like = torch.empty(()) if like is None else like
    tensors = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values]
    shapes = {tensor.shape for tensor in tensors if tensor.ndim}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
        listed = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ParameterError(
            f"kernel parameters of shapes {listed}: numbers and tensors of one shape (B,) are accepted"
        )
    batch = next(iter(shapes), torch.Size())
    return [tensor.expand(batch) for tensor in tensors]


def require_positive(name: str, value: Tensor) -> None:
    """Raise ParameterError unless every element is finite and above zero."""
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ParameterError(f"{name} {value.tolist()}: must be a finite number above 0")


def for_scale(table: Mapping[int, float], scale: int) -> float:
    """The entry of a family's range table for a scale factor, or ParameterError naming the scale."""
    if scale not in table:
        raise ParameterError(f"scale {scale}: one of {', '.join(map(str, table))} is accepted")
    return table[scale]


def squared_radius(sigma_x: Tensor, sigma_y: Tensor, theta: Tensor, size: int) -> Tensor:
    """d^T Sigma^-1 d at every pixel d = (column, row), of shape theta.shape + (size, size).

    Sigma = U diag(sigma_x^2, sigma_y^2) U^T with U = [[cos, -sin], [sin, cos]], theta in radians: sigma_x lies along
    the direction (cos theta, sin theta), which turns clockwise on the screen because rows count downwards.
    """
    position = axis(size, theta.device, theta.dtype)
    x, y = position[None, :], position[:, None]
    cos, sin = torch.cos(theta)[..., None, None], torch.sin(theta)[..., None, None]
    along = (cos * x + sin * y) / sigma_x[..., None, None]
    across = (cos * y - sin * x) / sigma_y[..., None, None]
    return along.square() + across.square()
