"""Where a kernel sits, how wide it is and which way it points; moving, centring and resizing it.

All work on (kh, kw) and on batches (B, kh, kw), and measure in HR pixels from the "no shift" index (kh // 2, kw // 2).
Angles are degrees from the x axis (columns) towards the y axis (rows): clockwise on the screen.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.kernels.grid import Value, axis, normalise
from blinddiff.degradation.resize import cubic
from blinddiff.errors import KernelError

CENTRING_ROUNDS = 3
NOTHING = 1e-6
"""Share of a kernel's mass of which a kernel cannot be made again."""
ROUND_BELOW = 1.05
"""Ratio of the widths, up to which the direction of the longer axis says nothing."""

Weight: TypeAlias = Callable[[Tensor], Tensor]
"""Interpolation weight as a function of the distance in pixels."""


def centroid(kernel: Tensor) -> Tensor:
    """(2,) or (B, 2): the centre of mass (y, x), relative to the "no shift" index; the shift that blurring causes."""
    kernel = normalise(kernel)
    y = axis(kernel.shape[-2], kernel.device, kernel.dtype)
    x = axis(kernel.shape[-1], kernel.device, kernel.dtype)
    return torch.stack(((kernel.sum(-1) * y).sum(-1), (kernel.sum(-2) * x).sum(-1)), dim=-1)


def widths_and_angle(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(major, minor, angle), each () or (B,): the ellipse of the second moments.

    major >= minor >= 0: standard deviations along the principal axes in HR pixels, that is sigma for a Gaussian that
    fits its support and 0 for a delta. angle: direction of the major axis in (-90, 90] degrees; for a round kernel it
    means nothing (0 where the moments are exactly equal).
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
    """Whether the widths, see `widths_and_angle`, are so nearly equal that the angle is not worth saying."""
    return major <= ROUND_BELOW * minor


def shift_kernel(kernel: Tensor, dy: Value, dx: Value) -> Tensor:
    """The kernel moved by (dy, dx) HR pixels, which may be fractions; non-negative and of sum 1 again.

    dy, dx: numbers, or (B,) tensors for a batch. Cubic interpolation, which keeps the width where a linear one would
    blur; whole pixels are exact. Mass that leaves the support is lost, and the rest normalised.
    """
    offset_y, offset_x = (torch.as_tensor(d, device=kernel.device, dtype=kernel.dtype) for d in (dy, dx))
    moved = _resample(kernel, offset_y, offset_x, cubic)
    clipped = normalise(moved.clamp_min(0))
    # Clipping the undershoots of a sharp kernel pulls its centroid by some hundredths of a pixel: put that right by a
    # linear step, whose blur is negligible at such a distance.
    error_y, error_x = (centroid(moved) - centroid(clipped)).unbind(-1)
    return normalise(_resample(clipped, error_y, error_x, _linear_weight))


def centre_kernel(kernel: Tensor) -> Tensor:
    """The kernel moved so that its centroid is the "no shift" index: blurring with it moves nothing.

    Within a thousandth of a pixel, unless much of the kernel's mass lies at the edge of its support.
    """
    offset = -centroid(kernel)
    centred = shift_kernel(kernel, offset[..., 0], offset[..., 1])
    # Mass lost at the border moves the centroid again; each round starts from the given kernel, so nothing blurs twice.
    for _ in range(CENTRING_ROUNDS):
        offset = offset - centroid(centred)
        centred = shift_kernel(kernel, offset[..., 0], offset[..., 1])
    return centred


def fit_size(kernel: Tensor, size: int, max_cut: float = 0.01) -> Tensor:
    """(size, size) or (B, size, size): the kernel padded with zeros or cropped, its "no shift" index kept at size // 2.

    What remains after a crop is normalised to sum 1. Raises KernelError if the crop would cut off more than the share
    `max_cut` of the mass of any kernel, or leave nothing of one; ParameterError for a size below 1.
    """
    position = axis(size)  # also refuses a size below 1
    first = int(position[0])
    pads = []
    for length in (kernel.shape[-1], kernel.shape[-2]):
        before = length // 2 + first
        pads += [-before, size - length + before]
    fitted = torch.nn.functional.pad(kernel, pads)
    cut = float((1 - fitted.detach().sum((-2, -1)) / kernel.detach().sum((-2, -1))).max()) if fitted.numel() else 0.0
    given = f"kernel {kernel.shape[-2]}x{kernel.shape[-1]}"
    if cut > 1 - NOTHING:
        raise KernelError(f"{given}: has no mass within {size}x{size} pixels about its centre")
    if cut > max_cut:
        raise KernelError(
            f"{given}: size {size} would cut off {cut:.1%} of its mass, at most {max_cut:.1%} is accepted"
        )
    return normalise(fitted) if min(pads) < 0 else fitted


def _resample(kernel: Tensor, dy: Tensor, dx: Tensor, weight: Weight) -> Tensor:
    down, across = (_shift_matrix(length, d, weight) for length, d in ((kernel.shape[-2], dy), (kernel.shape[-1], dx)))
    return down @ kernel @ across.transpose(-1, -2)


def _shift_matrix(size: int, offset: Tensor, weight: Weight) -> Tensor:
    position = axis(size, offset.device, offset.dtype)
    return weight((position[:, None] - position[None, :] - offset[..., None, None]).abs())


def _linear_weight(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_min(0)
