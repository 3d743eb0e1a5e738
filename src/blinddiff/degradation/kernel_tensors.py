"""Operations on kernels as tensors: pixel grid, parameters, shifts and resizing of the support."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.kernel_measures import centroid, normalise
from blinddiff.degradation.model import cubic
from blinddiff.errors import KernelError, ParameterError

Value: TypeAlias = float | Tensor
"""A kernel parameter: a number makes one kernel, a (B,) tensor a batch of them."""


def axis(size: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(size,) pixel positions relative to the "no shift" index size // 2."""
    _check_size(size)
    return torch.arange(size, device=device, dtype=dtype) - size // 2


def _check_size(size: int) -> None:
    if size < 1:
        raise ParameterError(f"kernel size {size}: a kernel has at least 1 pixel a side")


def as_tensors(*values: Value) -> list[Tensor]:
    """Parameters as floating tensors of one shape, () or (B,), with the dtype and device of the first tensor."""
    like = next((value for value in values if isinstance(value, Tensor) and value.is_floating_point()), None)
    like = torch.empty(()) if like is None else like
    tensors = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values]
    shapes = {tensor.shape for tensor in tensors if tensor.ndim}
    if len(shapes) > 1 or any(len(shape) > 1 for shape in shapes):
        listed = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ParameterError(f"kernel parameters of shapes {listed}: needs numbers and (B,) tensors of one shape")
    return list(torch.broadcast_tensors(*tensors))


def require_positive(**values: Tensor) -> None:
    """Raise ParameterError unless every element is finite and above zero, naming the first parameter that is not."""
    for name, value in values.items():
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ParameterError(f"{name} {value.tolist()}: must be a finite number above 0")


def for_scale(table: Mapping[int, float], scale: int) -> float:
    """The entry of a family's range table for a scale. Raises ParameterError if the table has none."""
    if scale not in table:
        raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, table))}")
    return table[scale]


def squared_radius(sigma_x: Tensor, sigma_y: Tensor, theta: Tensor, size: int) -> Tensor:
    """d^T Sigma^-1 d at every pixel d = (column, row), of shape theta.shape + (size, size).

    Sigma = U diag(sigma_x^2, sigma_y^2) U^T with U = [[cos, -sin], [sin, cos]], theta in radians: sigma_x is along
    (cos theta, sin theta), which turns clockwise on the screen because rows count downwards.
    """
    position = axis(size, theta.device, theta.dtype)
    x, y = position[None, :], position[:, None]
    cos, sin = torch.cos(theta)[..., None, None], torch.sin(theta)[..., None, None]
    along = (cos * x + sin * y) / sigma_x[..., None, None]
    across = (cos * y - sin * x) / sigma_y[..., None, None]
    return along.square() + across.square()


CENTRING_ROUNDS = 3


def shift_kernel(kernel: Tensor, dy: Value, dx: Value) -> Tensor:
    """Shift the kernel by (dy, dx) HR pixels, which may be fractional; the result has sum 1.

    No entry becomes lower than the kernel's lowest one, or than 0 if that is positive. Mass that leaves the support is
    lost, and the rest is normalised. Cubic interpolation, which keeps the width (linear would blur); integer shifts are
    exact. dy, dx: numbers, or (B,) tensors for a batch.
    """
    offset_y, offset_x = (torch.as_tensor(d, device=kernel.device, dtype=kernel.dtype) for d in (dy, dx))
    moved = _resample(kernel, offset_y, offset_x, cubic)
    clipped = normalise(moved.maximum(kernel.amin((-2, -1), keepdim=True).clamp_max(0)))
    # Clipping the undershoots of a sharp kernel moves its centroid by some hundredths of a pixel. A linear shift, whose
    # blur is negligible at this distance, corrects it.
    error_y, error_x = (centroid(moved) - centroid(clipped)).unbind(-1)
    return normalise(_resample(clipped, error_y, error_x, _linear_weight))


def centre_kernel(kernel: Tensor) -> Tensor:
    """Shift the kernel so that its centroid is the "no shift" index and blurring does not move the image.

    Accurate to a thousandth of a pixel, unless much of the kernel's mass lies at the edge of its support.
    """
    offset = -centroid(kernel)
    centred = shift_kernel(kernel, offset[..., 0], offset[..., 1])
    # Mass lost at the border moves the centroid; each round starts from the given kernel to avoid repeated blur.
    for _ in range(CENTRING_ROUNDS):
        offset = offset - centroid(centred)
        centred = shift_kernel(kernel, offset[..., 0], offset[..., 1])
    return centred


def resize_support(kernel: Tensor, size: int, max_cut: float = 0.01) -> Tensor:
    """Zero-pad or crop a kernel about its centre, entry (n // 2, m // 2): (size, size) or (B, size, size).

    A cropped kernel is normalised to sum 1. Raises KernelError if the crop would remove more than the fraction
    `max_cut` of the mass (the sum of absolute entries) of any kernel, or all of it; ParameterError for a size below 1.
    """
    _check_size(size)
    pads = []
    for length in (kernel.shape[-1], kernel.shape[-2]):
        before = length // 2 - size // 2
        pads += [-before, size - length + before]
    if not any(pads):
        return kernel
    resized = torch.nn.functional.pad(kernel, pads)
    left = resized.detach().abs().sum((-2, -1)) / kernel.detach().abs().sum((-2, -1))
    cut = float((1 - left).max()) if resized.numel() else 0.0
    given = f"kernel {kernel.shape[-2]}x{kernel.shape[-1]}"
    if cut > 1 - 1e-6:
        raise KernelError(f"{given}: has no mass within {size}x{size} pixels about its centre")
    if cut > max_cut:
        raise KernelError(f"{given}: size {size} would cut off {cut:.1%} of its mass, more than {max_cut:.1%}")
    return normalise(resized) if min(pads) < 0 else resized


def _resample(kernel: Tensor, dy: Tensor, dx: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Shift by (dy, dx) pixels by interpolation; weight: interpolation kernel as a function of distance in pixels."""
    down, across = (_shift_matrix(length, d, weight) for length, d in ((kernel.shape[-2], dy), (kernel.shape[-1], dx)))
    return down @ kernel @ across.transpose(-1, -2)


def _shift_matrix(size: int, offset: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    position = axis(size, offset.device, offset.dtype)
    return weight((position[:, None] - position[None, :] - offset[..., None, None]).abs())


def _linear_weight(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min(0)
