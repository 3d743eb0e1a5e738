"""Bringing two kernels together before they are compared."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.kernel_measures import centroid, shift_kernel, widths_and_angle
from blinddiff.errors import KernelError
from blinddiff.evaluation.image_metrics import CEILING, Metric, Sample


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


def kernel_l1(estimated: Tensor, true: Tensor) -> float:
    """Sum of absolute differences of two kernels, each divided by its sum, index centres together."""
    a, b = aligned_pair(estimated, true)
    return float((a - b).abs().sum())


def kernel_l1_centred(estimated: Tensor, true: Tensor) -> float:
    """As `kernel_l1`, after `estimated` was moved so that the centroids meet: the error of shape alone."""
    a, b = aligned_pair(estimated, true)
    offset_y, offset_x = centroid(b) - centroid(a)
    return float((shift_kernel(a, offset_y, offset_x) - b).abs().sum())


def _kernel_l1(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else kernel_l1(*pair)


def _measure_centred(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else kernel_l1_centred(*pair)


KERNEL_L1 = Metric("kernel_l1", "kernel L1", "", False, 3, _kernel_l1)
KERNEL_L1_CENTRED = Metric("kernel_l1_centred", "kernel L1, centred", "", False, 3, _measure_centred)


def kernel_psnr(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB with the largest entry of the true kernel as the peak, index centres together."""
    return _psnr(estimated, true, peak=float(true.max() / true.sum()))


def kernel_psnr_fkp(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB with a peak of 1, as in J. Liang et al., "Flow-based kernel prior", CVPR 2021.

    A uniform kernel gets about 46 dB against a Gaussian of 21x21: read it beside `kernel_psnr_fkp_uniform`.
    """
    return _psnr(estimated, true, peak=1.0)


def kernel_psnr_fkp_uniform(true: Tensor) -> float:
    """What `kernel_psnr_fkp` gives a uniform kernel of the true kernel's size: the score of knowing nothing."""
    return kernel_psnr_fkp(uniform_like(true), true)


def _psnr(estimated: Tensor, true: Tensor, peak: float) -> float:
    a, b = aligned_pair(estimated, true)
    mse = float((a - b).square().sum()) / true.numel()
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def _capped(value: float) -> float:
    return min(value, CEILING)


def _peak(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr(*pair))


def _fkp(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr_fkp(*pair))


def _fkp_uniform(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr_fkp_uniform(pair[1]))


KERNEL_PSNR = Metric("kernel_psnr", "kernel PSNR, true peak", "dB", True, 2, _peak)
KERNEL_PSNR_FKP = Metric("kernel_psnr_fkp", "kernel PSNR, FKP", "dB", True, 2, _fkp)
KERNEL_PSNR_FKP_UNIFORM = Metric("kernel_psnr_fkp_uniform", "uniform kernel, FKP", "dB", None, 2, _fkp_uniform)


ROUND = 1.1  # a kernel whose widths differ by less than this factor has no direction worth comparing


def centroid_shift(estimated: Tensor, true: Tensor) -> float:
    """Distance of the centres of mass in pixels, index centres together."""
    a, b = aligned_pair(estimated, true)
    return float((centroid(a) - centroid(b)).norm())


def width_error(estimated: Tensor, true: Tensor) -> float:
    """Mean over both principal axes of the difference in standard deviation, over the true kernel's mean width.

    Both kernels' axes are taken in order of size. (Over the mean, not over each axis: the short axis of a straight
    motion has hardly any width.) Infinite if the true kernel is a single pixel and the estimate is not.
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


def _shift(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else centroid_shift(*pair)


def _width(sample: Sample) -> float | None:
    pair = pair_of(sample)
    error = math.inf if pair is None else width_error(*pair)
    return 100 * error if math.isfinite(error) else None


def _angle(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else angle_error(*pair)


KERNEL_SHIFT = Metric("kernel_shift", "centroid shift", "px", False, 2, _shift)
KERNEL_WIDTH = Metric("kernel_width_error", "width error", "%", False, 1, _width)
KERNEL_ANGLE = Metric("kernel_angle_error", "angle error", "degrees", False, 1, _angle)


def _kernel_expected(sample: Sample) -> float | None:
    known = sample.case.kernel is not None
    return sample.restoration.expected_kernel_error if known else None


KERNEL_EXPECTED = Metric("kernel_l1_expected", "kernel L1, expected", "", None, 3, _kernel_expected)


def _noise_level(sample: Sample) -> float | None:
    true, estimated = sample.case.noise_level, sample.restoration.noise_level
    return None if true is None or estimated is None else abs(estimated - true)


NOISE_LEVEL = Metric("noise_error", "noise error", "grey levels", False, 2, _noise_level)
