"""Structural similarity, on BT.601 Y and on RGB, as MATLAB's published ssim_index computes it."""

import numpy as np
from scipy.ndimage import correlate1d
from torch import Tensor

from blinddiff.errors import ImageError
from blinddiff.evaluation.metrics.luma import cropped_pair, luma
from blinddiff.evaluation.metrics.metric import Metric, Sample

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


def _measure_y(sample: Sample) -> float | None:
    return None if sample.reference is None else ssim_y(sample.image, sample.reference, sample.case.scale)


def _measure_rgb(sample: Sample) -> float | None:
    return None if sample.reference is None else ssim_rgb(sample.image, sample.reference, sample.case.scale)


SSIM_Y = Metric("ssim_y", "SSIM-Y", "", True, 4, _measure_y)
SSIM_RGB = Metric("ssim_rgb", "SSIM-RGB", "", True, 4, _measure_rgb)
