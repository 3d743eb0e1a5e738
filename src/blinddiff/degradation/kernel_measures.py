"""Validity, sum and moments of kernels, as arrays of NumPy or tensors; without torch, for kernels in files."""

import sys
from typing import Any

import numpy as np

from blinddiff.errors import KernelError

Kernel = Any
"""An array of NumPy, or a tensor: of both, only what has the same name is used."""
MAX_NEGATIVE = 4.0
"""Largest sum of a kernel's negative entries, without the sign; an unsharp mask of strength a adds at most a."""


def namespace(array: Any) -> Any:
    """The functions for an array: NumPy, or torch."""
    return np if isinstance(array, np.ndarray | np.generic) else sys.modules["torch"]


def normalise(kernel: Kernel) -> Kernel:
    """(..., kh, kw) divided by its sum, so that blurring keeps the mean of an image."""
    return kernel / kernel.sum((-2, -1), keepdims=True)


def check_kernel(kernel: Kernel) -> Kernel:
    """Return the kernel if it is valid: (kh, kw), at least 1x1, floating, finite, sum 1 within 1e-3.

    Odd and even sizes are accepted, and negative entries (of an image that was sharpened) of up to `MAX_NEGATIVE` in
    sum. Raises KernelError saying what is wrong.
    """
    xp = namespace(kernel)
    if kernel.ndim != 2 or 0 in kernel.shape:
        raise KernelError(f"kernel of shape {tuple(kernel.shape)}: a two-dimensional array (height, width) is accepted")
    if "float" not in str(kernel.dtype):
        raise KernelError(f"kernel of type {kernel.dtype}: floating-point numbers are accepted")
    given = f"kernel {kernel.shape[0]}x{kernel.shape[1]}"
    if not bool(xp.isfinite(kernel).all()):
        raise KernelError(f"{given}: has entries that are not finite")
    total = float(kernel.sum(dtype=xp.float32 if str(getattr(kernel, "device", "")).startswith("mps") else xp.float64))
    if abs(total - 1) > 1e-3:
        raise KernelError(f"{given}: sums to {total:.6g}, must sum to 1")
    if (negative := float((-kernel).clip(0).sum())) > MAX_NEGATIVE:
        raise KernelError(f"{given}: its negative entries sum to -{negative:.3g}, beyond -{MAX_NEGATIVE:g}")
    return kernel


def drop_slight_negatives(kernel: Kernel, limit: float) -> Kernel:
    """Set negative entries of kernels (..., n, m) to 0 if they are at most a share of the positive mass; keep sums."""
    positive = kernel.clip(0)
    mass = positive.sum((-2, -1), keepdims=True)
    negative = (positive - kernel).sum((-2, -1), keepdims=True)
    slight = (negative > 0) & (negative <= limit * mass)
    return namespace(kernel).where(slight, positive / mass * kernel.sum((-2, -1), keepdims=True), kernel)


def _positions(profile: Kernel) -> Kernel:
    """Pixel positions along the last axis, relative to the "no shift" index n // 2: (..., n)."""
    return namespace(profile).ones_like(profile).cumsum(-1) - (profile.shape[-1] // 2 + 1)


def centroid(kernel: Kernel) -> Kernel:
    """(2,) or (B, 2): the centre of mass (y, x), relative to the "no shift" index; the shift that blurring causes."""
    kernel = normalise(kernel)
    rows, columns = kernel.sum(-1), kernel.sum(-2)
    means = (rows * _positions(rows)).sum(-1), (columns * _positions(columns)).sum(-1)
    return namespace(kernel).stack(means, -1)


def widths_and_angle(kernel: Kernel) -> tuple[Kernel, Kernel, Kernel]:
    """(major, minor, angle), each () or (B,): the ellipse of the second moments.

    major >= minor >= 0: standard deviations along the principal axes in HR pixels, that is sigma for a Gaussian that
    fits its support and 0 for a delta. angle: direction of the major axis in (-90, 90] degrees; for a round kernel it
    is undefined (0 if the moments are exactly equal).
    """
    xp, kernel = namespace(kernel), normalise(kernel)
    rows, columns, mean = kernel.sum(-1), kernel.sum(-2), centroid(kernel)
    y, x = _positions(rows) - mean[..., :1], _positions(columns) - mean[..., 1:]
    var_y, var_x = (rows * y**2).sum(-1), (columns * x**2).sum(-1)
    cov = (y[..., None, :] @ kernel @ x[..., :, None])[..., 0, 0]
    # Eigenvalues of a 2x2 matrix in closed form; `spread` is half their difference.
    middle, difference = (var_x + var_y) / 2, (var_x - var_y) / 2
    spread = xp.hypot(difference, cov)
    angle = xp.rad2deg(xp.arctan2(cov, difference)) / 2
    angle = xp.where(angle <= -90, angle + 180, angle)
    return (middle + spread).clip(0) ** 0.5, (middle - spread).clip(0) ** 0.5, angle


def is_round(major: float, minor: float) -> bool:
    """Whether the widths of `widths_and_angle` are equal within 5 %, so that the angle is meaningless."""
    return major <= 1.05 * minor
