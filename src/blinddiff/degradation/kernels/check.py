"""What makes an array a blur kernel, checked in one place."""

import torch
from torch import Tensor

from blinddiff.errors import KernelError

SUM_TOLERANCE = 1e-3


def check_kernel(kernel: Tensor) -> Tensor:
    """The given kernel, unchanged, if it is one: (kh, kw), at least 1x1, floating, finite, >= 0, sum 1 within 1e-3.

    Odd and even sizes are accepted. Raises KernelError saying which of these it is not.
    """
    if kernel.ndim != 2 or kernel.numel() == 0:
        raise KernelError(f"kernel of shape {tuple(kernel.shape)}: a two-dimensional array (height, width) is accepted")
    if not kernel.is_floating_point():
        raise KernelError(f"kernel of type {kernel.dtype}: floating-point numbers are accepted")
    if not bool(torch.isfinite(kernel).all()):
        raise KernelError(f"kernel {kernel.shape[0]}x{kernel.shape[1]}: has entries that are not finite")
    lowest = float(kernel.min())
    if lowest < 0:
        raise KernelError(f"kernel {kernel.shape[0]}x{kernel.shape[1]}: has negative entries (lowest {lowest:.3g})")
    total = float(kernel.sum(dtype=torch.float32 if kernel.device.type == "mps" else torch.float64))
    if abs(total - 1) > SUM_TOLERANCE:
        raise KernelError(f"kernel {kernel.shape[0]}x{kernel.shape[1]}: sums to {total:.6g}, must sum to 1")
    return kernel
