"""Operations on kernels: pixel grid, validation, moments, shifts and resizing of the support."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.resize import cubic
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


MAX_NEGATIVE = 4.0
"""Largest sum of a kernel's negative entries, without the sign; an unsharp mask of strength a adds at most a."""


def check_kernel(kernel: Tensor) -> Tensor:
    """Return the kernel if it is valid: (kh, kw), at least 1x1, floating, finite, sum 1 within 1e-3.

    Odd and even sizes are accepted, and negative entries (of an image that was sharpened) of up to `MAX_NEGATIVE` in
    sum. Raises KernelError saying what is wrong.
    """
    if kernel.ndim != 2 or kernel.numel() == 0:
        raise KernelError(f"kernel of shape {tuple(kernel.shape)}: a two-dimensional array (height, width) is accepted")
    if not kernel.is_floating_point():
        raise KernelError(f"kernel of type {kernel.dtype}: floating-point numbers are accepted")
    given = f"kernel {kernel.shape[0]}x{kernel.shape[1]}"
    if not bool(torch.isfinite(kernel).all()):
        raise KernelError(f"{given}: has entries that are not finite")
    total = float(kernel.sum(dtype=torch.float32 if kernel.device.type == "mps" else torch.float64))
    if abs(total - 1) > 1e-3:
        raise KernelError(f"{given}: sums to {total:.6g}, must sum to 1")
    if (negative := float(-kernel.clamp_max(0).sum())) > MAX_NEGATIVE:
        raise KernelError(f"{given}: its negative entries sum to -{negative:.3g}, beyond -{MAX_NEGATIVE:g}")
    return kernel


def drop_slight_negatives(kernel: Tensor, limit: float) -> Tensor:
    """Set negative entries of kernels (..., n, m) to 0 if they are at most a share of the positive mass; keep sums."""
    positive = kernel.clamp_min(0)
    mass = positive.sum((-2, -1), keepdim=True)
    negative = (positive - kernel).sum((-2, -1), keepdim=True)
    slight = (negative > 0) & (negative <= limit * mass)
    return torch.where(slight, positive / mass * kernel.sum((-2, -1), keepdim=True), kernel)


CENTRING_ROUNDS = 3


def centroid(kernel: Tensor) -> Tensor:
    """(2,) or (B, 2): the centre of mass (y, x), relative to the "no shift" index; the shift that blurring causes."""
    kernel = normalise(kernel)
    y, x = (axis(length, kernel.device, kernel.dtype) for length in kernel.shape[-2:])
    return torch.stack(((kernel.sum(-1) * y).sum(-1), (kernel.sum(-2) * x).sum(-1)), dim=-1)


def widths_and_angle(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(major, minor, angle), each () or (B,): the ellipse of the second moments.

    major >= minor >= 0: standard deviations along the principal axes in HR pixels, that is sigma for a Gaussian that
    fits its support and 0 for a delta. angle: direction of the major axis in (-90, 90] degrees; for a round kernel it
    is undefined (0 if the moments are exactly equal).
    """
    kernel = normalise(kernel)
    mean_y, mean_x = centroid(kernel).unbind(-1)
    y = axis(kernel.shape[-2], kernel.device, kernel.dtype) - mean_y[..., None]
    x = axis(kernel.shape[-1], kernel.device, kernel.dtype) - mean_x[..., None]
    var_y = (kernel.sum(-1) * y.square()).sum(-1)
    var_x = (kernel.sum(-2) * x.square()).sum(-1)
    cov = (y[..., None, :] @ kernel @ x[..., :, None])[..., 0, 0]
    # Eigenvalues of a 2x2 matrix in closed form; `spread` is half their difference.
    mean, difference = (var_x + var_y) / 2, (var_x - var_y) / 2
    spread = torch.hypot(difference, cov)
    angle = torch.rad2deg(torch.atan2(cov, difference)) / 2
    angle = torch.where(angle <= -90, angle + 180, angle)
    return (mean + spread).clamp_min(0).sqrt(), (mean - spread).clamp_min(0).sqrt(), angle


def is_round(major: float, minor: float) -> bool:
    """Whether the widths of `widths_and_angle` are equal within 5 %, so that the angle is meaningless."""
    return major <= 1.05 * minor


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
