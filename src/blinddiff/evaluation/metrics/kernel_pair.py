"""Bringing two kernels together before they are compared."""

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.errors import KernelError
from blinddiff.evaluation.metrics.metric import Sample


def aligned_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both kernels (kh, kw) as float64 of sum 1 on one grid: index centres (kh // 2, kw // 2) together, zeros around.

    Raises KernelError for arrays that are not 2-D or whose sum is not positive.
    """
    for kernel in (a, b):
        if kernel.ndim != 2:
            raise KernelError(f"a kernel of shape {tuple(kernel.shape)} is not (height, width)")
        if not float(kernel.sum()) > 0:
            raise KernelError(f"a kernel with sum {float(kernel.sum()):g} cannot be normalised")
    before = [max(a.shape[axis] // 2, b.shape[axis] // 2) for axis in (0, 1)]
    after = [max((k.shape[axis] - 1) // 2 for k in (a, b)) for axis in (0, 1)]

    def place(kernel: Tensor) -> Tensor:
        kh, kw = kernel.shape
        kernel = kernel.double().cpu() / kernel.double().cpu().sum()
        top, bottom = before[0] - kh // 2, after[0] - (kh - 1) // 2
        left, right = before[1] - kw // 2, after[1] - (kw - 1) // 2
        return F.pad(kernel, (left, right, top, bottom))

    return place(a), place(b)


def pair_of(sample: Sample) -> tuple[Tensor, Tensor] | None:
    """(estimated, true) kernels of a sample, as large as each is, or None if either is not known."""
    true, estimated = sample.case.kernel_at_pixel_centre, sample.restoration.kernel
    return None if true is None or estimated is None else (estimated, true)


def uniform_like(kernel: Tensor) -> Tensor:
    """The kernel of the same size that knows nothing: every entry the same."""
    return torch.full_like(kernel, 1 / kernel.numel())
