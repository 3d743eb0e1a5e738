"""Metrics of estimated kernels and noise levels. A new one is a function and a line in `KERNEL_METRICS`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.kernel_measures import centroid, widths_and_angle
from blinddiff.degradation.kernel_tensors import shift_kernel
from blinddiff.errors import KernelError
from blinddiff.evaluation.image_metrics import Metric, Sample


def aligned_pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both kernels (kh, kw) as float64 of sum 1 on one grid, zero-padded so that their index centres coincide.

    The index centre is (kh // 2, kw // 2). Raises KernelError for arrays that are not 2-D or whose sum is not positive.
    """
    for kernel in (a, b):
        if kernel.ndim != 2:
            raise KernelError(f"a kernel of shape {tuple(kernel.shape)} is not (height, width)")
        if not float(kernel.sum()) > 0:
            raise KernelError(f"a kernel with sum {float(kernel.sum()):g} cannot be normalised")
    before_y, before_x = (max(k.shape[axis] // 2 for k in (a, b)) for axis in (0, 1))
    after_y, after_x = (max((k.shape[axis] - 1) // 2 for k in (a, b)) for axis in (0, 1))

    def place(kernel: Tensor) -> Tensor:
        kh, kw = kernel.shape
        kernel = kernel.double().cpu()
        padding = (before_x - kw // 2, after_x - (kw - 1) // 2, before_y - kh // 2, after_y - (kh - 1) // 2)
        return F.pad(kernel / kernel.sum(), padding)

    return place(a), place(b)


def kernel_l1(estimated: Tensor, true: Tensor) -> float:
    """Sum of absolute differences of two kernels, each divided by its sum, index centres aligned."""
    a, b = aligned_pair(estimated, true)
    return float((a - b).abs().sum())


def kernel_l1_centred(estimated: Tensor, true: Tensor) -> float:
    """`kernel_l1` after shifting `estimated` so that the centroids coincide: the error of the shape alone."""
    a, b = aligned_pair(estimated, true)
    offset_y, offset_x = centroid(b) - centroid(a)
    return float((shift_kernel(a, offset_y, offset_x) - b).abs().sum())


def kernel_psnr(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB; the peak is the largest entry of the true kernel; index centres aligned."""
    return _psnr(estimated, true, peak=float(true.max() / true.sum()))


def kernel_psnr_fkp(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB with a peak of 1, as in J. Liang et al., "Flow-based kernel prior", CVPR 2021.

    A uniform kernel gets about 46 dB against a Gaussian of 21x21: compare it with `kernel_psnr_fkp_uniform`.
    """
    return _psnr(estimated, true, peak=1.0)


def kernel_psnr_fkp_uniform(true: Tensor) -> float:
    """`kernel_psnr_fkp` of a uniform kernel of the true kernel's size, an estimate without information."""
    return kernel_psnr_fkp(torch.full_like(true, 1 / true.numel()), true)


def _psnr(estimated: Tensor, true: Tensor, peak: float) -> float:
    a, b = aligned_pair(estimated, true)
    mse = float((a - b).square().sum()) / true.numel()
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


ROUND = 1.1  # kernels whose widths differ by less than this factor have no meaningful direction


def centroid_shift(estimated: Tensor, true: Tensor) -> float:
    """Distance between the centres of mass in pixels, index centres aligned."""
    a, b = aligned_pair(estimated, true)
    return float((centroid(a) - centroid(b)).norm())


def width_error(estimated: Tensor, true: Tensor) -> float:
    """Mean difference in standard deviation along both principal axes, divided by the true kernel's mean width.

    Axes are compared in order of size. The divisor is the mean width, because the width of a straight motion's short
    axis is nearly 0. Infinite if the true kernel is a single pixel and the estimate is not.
    """
    a, b = aligned_pair(estimated, true)
    (major_a, minor_a, _), (major_b, minor_b, _) = widths_and_angle(a), widths_and_angle(b)
    difference = float((major_a - major_b).abs() + (minor_a - minor_b).abs())
    total = float(major_b + minor_b)
    if total == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / total


def angle_error(estimated: Tensor, true: Tensor) -> float | None:
    """Angle between the longer axes in degrees, 0 to 90; None if the true kernel is (nearly) round."""
    a, b = aligned_pair(estimated, true)
    (_, _, angle_a), (major, minor, angle_b) = widths_and_angle(a), widths_and_angle(b)
    if float(major) < ROUND * float(minor) or float(major) == 0:
        return None
    difference = float((angle_a - angle_b).abs())
    return min(difference, 180 - difference)


def _of_pair(measure: Callable[[Tensor, Tensor], float | None]) -> Callable[[Sample], float | None]:
    """A metric of the estimated and the true kernel; None if either is unknown."""

    def measured(sample: Sample) -> float | None:
        true, estimated = sample.case.kernel_centred_on_lr_pixel, sample.restoration.kernel
        return None if true is None or estimated is None else measure(estimated, true)

    return measured


def _expected_error(sample: Sample) -> float | None:
    return None if sample.case.kernel is None else sample.restoration.expected_kernel_error


def _noise_error(sample: Sample) -> float | None:
    true, estimated = sample.case.noise_level, sample.restoration.noise_level
    return None if true is None or estimated is None else abs(estimated - true)


KERNEL_METRICS: tuple[Metric, ...] = (
    Metric("kernel_l1", "kernel L1", "", False, 3, _of_pair(kernel_l1)),
    Metric("kernel_l1_centred", "kernel L1, centred", "", False, 3, _of_pair(kernel_l1_centred)),
    Metric("kernel_l1_expected", "kernel L1, expected", "", None, 3, _expected_error),
    Metric("kernel_shift", "centroid shift", "px", False, 2, _of_pair(centroid_shift)),
    Metric("kernel_width_error", "width error", "%", False, 1, _of_pair(lambda k, true: 100 * width_error(k, true))),
    Metric("kernel_angle_error", "angle error", "degrees", False, 1, _of_pair(angle_error)),
    Metric("kernel_psnr", "kernel PSNR, true peak", "dB", True, 2, _of_pair(kernel_psnr)),
    Metric("kernel_psnr_fkp", "kernel PSNR, FKP", "dB", True, 2, _of_pair(kernel_psnr_fkp)),
    Metric(
        "kernel_psnr_fkp_uniform",
        "uniform kernel, FKP",
        "dB",
        None,
        2,
        _of_pair(lambda _, k: kernel_psnr_fkp_uniform(k)),
    ),
    Metric("noise_error", "noise error", "grey levels", False, 2, _noise_error),
)
