"""What a metric is: a name, a unit and a function of a case and its restoration."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.errors import ImageError
from blinddiff.evaluation.cases import Case, Restoration, to_8bit


@dataclass(frozen=True)
class Sample:
    """A case with its restoration: what a metric may look at."""

    case: Case
    restoration: Restoration

    def __post_init__(self) -> None:
        height, width = (side * self.case.scale for side in self.case.y.shape[-2:])
        if tuple(self.restoration.image.shape) != (3, height, width):
            got = "x".join(map(str, reversed(self.restoration.image.shape[-2:])))
            raise ImageError(f"{self.case.place}: the result is {got}, not {width}x{height}")

    @cached_property
    def image(self) -> Tensor:
        """The restored image as an 8-bit file would hold it, float64 in [0, 1]: what a user gets is measured."""
        return to_8bit(self.restoration.image.double().cpu())

    @cached_property
    def reference(self) -> Tensor | None:
        """The ground truth, float64 in [0, 1]."""
        return None if self.case.hr is None else self.case.hr.double()


@dataclass(frozen=True)
class Metric:
    """A number for each restoration.

    Attributes:
        name: key in records, lower case.
        label: heading in tables.
        unit: what one step of it means; empty for a pure number.
        higher_is_better: which direction is good, None for a number that only stands beside another one.
        digits: decimals in tables.
        measure: the value, or None where the metric does not apply (no ground truth, no estimated kernel, ...).
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    digits: int
    measure: Callable[[Sample], float | None]


def luma(image: Tensor) -> Tensor:
    """BT.601 studio-swing Y in grey levels, 16 to 235, not rounded: (..., 3, H, W) in [0, 1] -> (..., H, W).

    Equal to MATLAB's rgb2ycbcr on a float image, times 255. (`full_swing_luma` reads 1.32 dB lower.)
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=image.dtype, device=image.device)
    return 16 + torch.einsum("c,...chw->...hw", weights, image)


def full_swing_luma(image: Tensor) -> Tensor:
    """BT.601 luma in grey levels 0 to 255, as the Y of YIQ: (..., 3, H, W) in [0, 1] -> (..., H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return 255 * torch.einsum("c,...chw->...hw", weights, image)


def cropped_pair(image: Tensor, reference: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Both images without `crop` pixels on each side. Raises ImageError if their sizes differ or nothing is left."""
    if image.shape != reference.shape:
        raise ImageError(f"images of shapes {tuple(image.shape)} and {tuple(reference.shape)} cannot be compared")
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise ImageError(f"an image of {width}x{height} has nothing left when {crop} pixels are cropped from each side")
    inner = slice(crop, height - crop), slice(crop, width - crop)
    return image[..., inner[0], inner[1]], reference[..., inner[0], inner[1]]


CEILING = 120.0  # dB; 8-bit images cannot differ by less and still differ


def psnr(image: Tensor, reference: Tensor, peak: float) -> float:
    """10 log10(peak^2 / mean square difference) in dB over all entries; infinite for equal tensors."""
    mse = float((image - reference).square().mean())
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def psnr_y(image: Tensor, reference: Tensor, crop: int) -> float:
    """PSNR on BT.601 studio-swing Y, peak 255, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, crop)
    return psnr(luma(a), luma(b), peak=255.0)


def psnr_rgb(image: Tensor, reference: Tensor, crop: int) -> float:
    """PSNR on all three channels together, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    return psnr(*cropped_pair(image, reference, crop), peak=1.0)


def psnr_full_swing(image: Tensor, reference: Tensor) -> float:
    """PSNR on full-swing luma, peak 255, nothing cropped: images (3, H, W) in [0, 1].

    The published bicubic row of Gaussian8 agrees with this within 0.03 dB on Set5, Set14 and BSD100, while it is 1.3 to
    1.5 dB below `psnr_y`, the convention of the methods it stands beside.
    """
    a, b = cropped_pair(image, reference, 0)
    return psnr(full_swing_luma(a), full_swing_luma(b), peak=255.0)


def _psnr_y(sample: Sample) -> float | None:
    if sample.reference is None:
        return None
    return min(psnr_y(sample.image, sample.reference, sample.case.scale), CEILING)


def _psnr_rgb(sample: Sample) -> float | None:
    if sample.reference is None:
        return None
    return min(psnr_rgb(sample.image, sample.reference, sample.case.scale), CEILING)


def _psnr_full_swing(sample: Sample) -> float | None:
    if sample.reference is None:
        return None
    return min(psnr_full_swing(sample.image, sample.reference), CEILING)


PSNR_Y = Metric("psnr_y", "PSNR-Y", "dB", True, 2, _psnr_y)
PSNR_RGB = Metric("psnr_rgb", "PSNR-RGB", "dB", True, 2, _psnr_rgb)
PSNR_FULL_SWING = Metric("psnr_full_swing", "PSNR full swing, uncropped", "dB", True, 2, _psnr_full_swing)


WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(image: Tensor, reference: Tensor) -> float:
    """Mean SSIM of planes (..., H, W) in grey levels 0 to 255; the mean over planes.

    11x11 Gaussian window of standard deviation 1.5, only where it fits entirely, population variances.
    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    Raises ImageError for planes smaller than the window.
    """
    if min(image.shape[-2:]) < WINDOW:
        height, width = image.shape[-2:]
        raise ImageError(f"SSIM needs {WINDOW}x{WINDOW} pixels after cropping; {width}x{height} are left")
    a, b = (plane.double().cpu().numpy() for plane in (image, reference))  # scipy's float64 filters are the fast ones
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a**2
    variance_b = _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return float((luminance * structure).mean())


def _window_mean(x: np.ndarray) -> np.ndarray:
    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    rows: np.ndarray = correlate1d(x, weights, axis=-2)[..., inner, :]
    columns: np.ndarray = correlate1d(rows, weights, axis=-1)[..., inner]
    return columns


def ssim_y(image: Tensor, reference: Tensor, crop: int) -> float:
    """SSIM on BT.601 studio-swing Y, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, crop)
    return ssim(luma(a), luma(b))


def ssim_rgb(image: Tensor, reference: Tensor, crop: int) -> float:
    """Mean of the three channels' SSIM, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, crop)
    return ssim(a * 255, b * 255)


def _ssim_y(sample: Sample) -> float | None:
    return None if sample.reference is None else ssim_y(sample.image, sample.reference, sample.case.scale)


def _ssim_rgb(sample: Sample) -> float | None:
    return None if sample.reference is None else ssim_rgb(sample.image, sample.reference, sample.case.scale)


SSIM_Y = Metric("ssim_y", "SSIM-Y", "", True, 4, _ssim_y)
SSIM_RGB = Metric("ssim_rgb", "SSIM-RGB", "", True, 4, _ssim_rgb)


def lr_consistency(image: Tensor, y: Tensor, operator: DegradationOperator) -> float:
    """Root mean square of y - A x in grey levels: image (3, s*h, s*w) and y (3, h, w) in [0, 1].

    A perfect x leaves the noise of y: about its standard deviation, 0.3 grey levels more for 8-bit rounding. So
    less is not better: below that, the image repeats the noise.
    """
    residual = y.to(image) - operator.forward(image[None])[0]
    return 255 * float(residual.square().mean().sqrt())


def _measure_true(sample: Sample) -> float | None:
    if sample.case.kernel is None:
        return None
    return lr_consistency(sample.image, sample.case.y, sample.case.operator())


def _measure_own(sample: Sample) -> float | None:
    kernel = sample.restoration.kernel
    if kernel is None:
        return None
    # A method's own kernel is read in the package's own model of the camera, antialiased bicubic.
    operator = DegradationOperator(kernel.cpu(), sample.case.scale)
    return lr_consistency(sample.image, sample.case.y, operator)


LR_CONSISTENCY = Metric("lr_rms", "LR residual, true k", "grey levels", None, 2, _measure_true)
LR_SELF_CONSISTENCY = Metric("lr_rms_own", "LR residual, own k", "grey levels", None, 2, _measure_own)


def colour_shift(image: Tensor, y: Tensor) -> float:
    """Largest difference of a channel's mean from y's, in grey levels: image (3, H, W) and y (3, h, w) in [0, 1]."""
    return 255 * float((image.double().mean((1, 2)) - y.double().mean((1, 2))).abs().max())


def _measure(sample: Sample) -> float:
    return colour_shift(sample.image, sample.case.y)


COLOUR_SHIFT = Metric("colour_shift", "colour shift", "grey levels", False, 2, _measure)


def _seconds(sample: Sample) -> float:
    return sample.restoration.seconds


def _calls(sample: Sample) -> float:
    return float(sample.restoration.calls)


SECONDS = Metric("seconds", "time", "s", False, 2, _seconds)
CALLS = Metric("calls", "network calls", "", False, 1, _calls)
