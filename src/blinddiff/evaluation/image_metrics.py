"""Metrics of images. A new one is a function and a line in `IMAGE_METRICS`."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import gamma
from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import bicubic_downsample
from blinddiff.errors import ImageError
from blinddiff.evaluation.data import Array, Case, Restoration, to_8bit


@dataclass(frozen=True)
class Sample:
    """A case with its restoration, the input of a metric. Raises ImageError for a restoration of the wrong size."""

    case: Case
    restoration: Restoration

    def __post_init__(self) -> None:
        height, width = (side * self.case.scale for side in self.case.y.shape[-2:])
        if tuple(self.restoration.image.shape) != (3, height, width):
            got = "x".join(map(str, reversed(self.restoration.image.shape[-2:])))
            raise ImageError(f"{self.case.id}: the result is {got}, not {width}x{height}")

    @cached_property
    def image(self) -> Tensor:
        """The restored image rounded to 8 bit, as in the file that a user gets: float64 in [0, 1]."""
        return to_8bit(self.restoration.image.double().cpu())

    @cached_property
    def reference(self) -> Tensor | None:
        """The ground truth, float64 in [0, 1]."""
        return None if self.case.hr is None else self.case.hr.double()


class Metric(NamedTuple):
    """A number that is measured for each restoration.

    Attributes:
        name: key in records, lower case.
        label: heading in tables.
        unit: empty for a number without a unit.
        higher_is_better: None if the number is only context for another metric.
        digits: decimals in tables.
        measure: gives the value, or None if the metric does not apply (no ground truth, no estimated kernel, ...).
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool | None
    digits: int
    measure: Callable[[Sample], float | None]


def luma(image: Tensor) -> Tensor:
    """BT.601 studio-swing Y in grey levels, 16 to 235, not rounded: (..., 3, H, W) in [0, 1] -> (..., H, W).

    Equal to MATLAB's rgb2ycbcr on a float image, times 255. (PSNR on `full_swing_luma` is 1.32 dB lower.)
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=image.dtype, device=image.device)
    return 16 + torch.einsum("c,...chw->...hw", weights, image)


def full_swing_luma(image: Tensor) -> Tensor:
    """BT.601 luma in grey levels 0 to 255, the Y of YIQ: (..., 3, H, W) in [0, 1] -> (..., H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return 255 * torch.einsum("c,...chw->...hw", weights, image)


def cropped_pair(image: Tensor, reference: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Crop `crop` pixels on each side of both images. Raises ImageError if their sizes differ or nothing is left."""
    if image.shape != reference.shape:
        raise ImageError(f"images of shapes {tuple(image.shape)} and {tuple(reference.shape)} cannot be compared")
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise ImageError(f"an image of {width}x{height} has nothing left when {crop} pixels are cropped from each side")
    inner = ..., slice(crop, height - crop), slice(crop, width - crop)
    return image[inner], reference[inner]


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
    """PSNR on full-swing luma, peak 255, nothing cropped, as in a row of `published_results`: (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, 0)
    return psnr(full_swing_luma(a), full_swing_luma(b), peak=255.0)


def window_mean(x: Array, size: int, sigma: float) -> Array:
    """Mean of (..., H, W) in a Gaussian window of `size` x `size`, edge pixels repeated."""
    return np.asarray(gaussian_filter(x, sigma, mode="nearest", radius=size // 2, axes=(-2, -1)))


def ssim(image: Tensor, reference: Tensor) -> float:
    """Mean SSIM of planes (..., H, W) in grey levels 0 to 255; the mean over planes.

    11x11 Gaussian window of standard deviation 1.5, only positions where it fits entirely, population variances.
    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    Raises ImageError for planes smaller than the window.
    """
    size = 11
    if min(image.shape[-2:]) < size:
        height, width = image.shape[-2:]
        raise ImageError(f"SSIM needs {size}x{size} pixels after cropping; {width}x{height} are left")

    def mean(x: Array) -> Array:
        inner = slice(size // 2, -(size // 2))
        return window_mean(x, size, 1.5)[..., inner, inner]

    a, b = (plane.double().cpu().numpy() for plane in (image, reference))  # scipy's filters are faster than torch's
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float((luminance * structure).mean())


def ssim_y(image: Tensor, reference: Tensor, crop: int) -> float:
    """SSIM on BT.601 studio-swing Y, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, crop)
    return ssim(luma(a), luma(b))


def ssim_rgb(image: Tensor, reference: Tensor, crop: int) -> float:
    """Mean of the three channels' SSIM, `crop` pixels cropped: images (3, H, W) in [0, 1]."""
    a, b = cropped_pair(image, reference, crop)
    return ssim(a * 255, b * 255)


BLOCK = 96  # side in pixels of NIQE's blocks; half of it in the image of half size
FEWEST_BLOCKS = 4  # for a covariance
SHAPES = np.arange(0.2, 10.0005, 0.001)  # shape parameters a of the generalised Gaussian: the grid of the authors' code
RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))  # E|x|^2 / E x^2; it rises with a


def niqe(y: Tensor) -> float | None:
    """NIQE of a luma plane (H, W) in grey levels 0 to 255, rounded first; lower is more natural, 2 to 4 is usual.

    A. Mittal et al., "Making a completely blind image quality analyzer", IEEE SPL 2013. Equal to the authors' MATLAB
    release on the 8-bit Y (BT.601) of a file. None if fewer than `FEWEST_BLOCKS` blocks of 96x96 have any structure.
    """
    height, width = (side // BLOCK * BLOCK for side in y.shape)
    if height * width < FEWEST_BLOCKS * BLOCK**2:
        return None
    plane = y[:height, :width].double().cpu().round()
    half = bicubic_downsample(plane[None, None], 2)[0, 0]
    features = np.hstack([_niqe_features(plane.numpy(), BLOCK), _niqe_features(half.numpy(), BLOCK // 2)])
    features = features[np.isfinite(features).all(axis=1)]  # the fit fails in a block of one grey level
    if len(features) < FEWEST_BLOCKS:
        return None
    mean, covariance = niqe_parameters()
    difference = mean - features.mean(0)
    pooled = (covariance + np.cov(features, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def _niqe_features(plane: Array, block: int) -> Array:
    """18 features of each block of (H, W): (blocks, 18)."""
    mean = window_mean(plane, 7, 7 / 6)
    deviation = np.sqrt(np.abs(window_mean(plane * plane, 7, 7 / 6) - mean**2))
    normalised = (plane - mean) / (deviation + 1)
    normalised[np.abs(normalised) < 1e-9] = 0  # rounding errors of flat areas, whose sign would count
    rows, columns = (side // block for side in plane.shape)
    blocks = normalised.reshape(rows, block, columns, block).transpose(0, 2, 1, 3).reshape(-1, block, block)
    shape, _, left, right = _fit_asymmetric_gaussian(blocks)
    parts = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        parts += _fit_asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
    return np.stack(parts, axis=1)


def _fit_asymmetric_gaussian(blocks: Array) -> tuple[Array, Array, Array, Array]:
    """Asymmetric generalised Gaussian of each block by its moments: shape, mean, left and right scale, (blocks,)."""
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    with np.errstate(invalid="ignore", divide="ignore"):
        below, above = values < 0, values > 0
        left = np.sqrt((squares * below).sum(1) / below.sum(1))
        right = np.sqrt((squares * above).sum(1) / above.sum(1))
        skew = left / right
        ratio = np.abs(values).mean(1) ** 2 / squares.mean(1)
        ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = np.full(len(values), np.nan)
    known = np.isfinite(ratio)
    shape[known] = SHAPES[np.searchsorted((RATIOS[1:] + RATIOS[:-1]) / 2, ratio[known])]
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    left, right = left * scale, right * scale
    return shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right


@cache
def niqe_parameters() -> tuple[Array, Array]:
    """Mean (36,) and covariance (36, 36) of the features of undistorted photographs; the file names its source."""
    content = json.loads(resources.files(__package__).joinpath("niqe_parameters.json").read_text(encoding="utf-8"))
    return np.array(content["mean"]), np.array(content["covariance"])


Distance: TypeAlias = Callable[..., Tensor]  # of two images (1, 3, H, W) in [0, 1], float32


def _load(package: str, network: str, backbone: str, **options: Any) -> Distance | None:
    # Without torchvision's weights in torch.hub's folder, both packages would download them.
    if find_spec(package) and (Path(torch.hub.get_dir()) / "checkpoints" / backbone).is_file():
        with suppress(Exception):  # importing torchvision fails with some builds of torch
            loaded: Distance = getattr(import_module(package), network)(**options).eval()
            return loaded
    return None


@cache
def lpips() -> Distance | None:
    """R. Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, AlexNet; None if not installed."""
    network = _load("lpips", "LPIPS", "alexnet-owt-7be5be79.pth", net="alex", verbose=False)
    return None if network is None else partial(network, normalize=True)


@cache
def dists() -> Distance | None:
    """K. Ding et al., "Image quality assessment: unifying structure and texture similarity", PAMI 2022; or None."""
    return _load("DISTS_pytorch", "DISTS", "vgg16-397923af.pth")


def available_learned_metrics() -> list[str]:
    """The names of the learned metrics that are installed with their weights."""
    return [name for name, load in (("lpips", lpips), ("dists", dists)) if load() is not None]


@torch.no_grad()
def _distance(network: Distance | None, image: Tensor, reference: Tensor) -> float | None:
    return None if network is None else float(network(image[None].float(), reference[None].float()))


def lr_consistency(image: Tensor, y: Tensor, operator: DegradationOperator) -> float:
    """Root mean square of y - A x in grey levels: image x (3, s*h, s*w) and y (3, h, w) in [0, 1].

    For the true x, this is the standard deviation of the noise and of 8-bit rounding, which alone is about 0.3 grey
    levels. Smaller values are not better: they mean that the image reproduces the noise.
    """
    residual = y.to(image) - operator.forward(image[None])[0]
    return 255 * float(residual.square().mean().sqrt())


def _lr_true_kernel(sample: Sample) -> float | None:
    case = sample.case
    return None if case.kernel is None else lr_consistency(sample.image, case.y, case.operator())


def _lr_estimated_kernel(sample: Sample) -> float | None:
    case, kernel = sample.case, sample.restoration.kernel
    # estimated kernels are defined with bicubic downsampling
    operator = None if kernel is None else DegradationOperator(kernel.cpu(), case.scale)
    return None if operator is None else lr_consistency(sample.image, case.y, operator)


def colour_shift(image: Tensor, y: Tensor) -> float:
    """Largest difference between the channel means of image (3, H, W) and y (3, h, w) in [0, 1], in grey levels."""
    return 255 * float((image.double().mean((1, 2)) - y.double().mean((1, 2))).abs().max())


def _niqe_cropped(sample: Sample) -> float | None:
    inner = slice(sample.case.scale, -sample.case.scale)
    return niqe(luma(sample.image)[inner, inner])


def _with_truth(measure: Callable[[Tensor, Tensor, int], float | None]) -> Callable[[Sample], float | None]:
    """A metric of image, ground truth and border to crop, which is the scale; None without ground truth."""
    return lambda s: None if s.reference is None else measure(s.image, s.reference, s.case.scale)


def _uncropped(measure: Callable[[Tensor, Tensor], float | None]) -> Callable[[Sample], float | None]:
    """A metric of image and ground truth; None without ground truth."""
    return _with_truth(lambda image, truth, _: measure(image, truth))


IMAGE_METRICS: tuple[Metric, ...] = (
    Metric("psnr_y", "PSNR-Y", "dB", True, 2, _with_truth(psnr_y)),
    Metric("ssim_y", "SSIM-Y", "", True, 4, _with_truth(ssim_y)),
    Metric("psnr_rgb", "PSNR-RGB", "dB", True, 2, _with_truth(psnr_rgb)),
    Metric("ssim_rgb", "SSIM-RGB", "", True, 4, _with_truth(ssim_rgb)),
    Metric("psnr_full_swing", "PSNR full swing, uncropped", "dB", True, 2, _uncropped(psnr_full_swing)),
    Metric("niqe", "NIQE", "", False, 2, _niqe_cropped),
    Metric("lpips", "LPIPS (AlexNet)", "", False, 3, _uncropped(lambda a, b: _distance(lpips(), a, b))),
    Metric("dists", "DISTS", "", False, 3, _uncropped(lambda a, b: _distance(dists(), a, b))),
    Metric("lr_rms", "LR residual, true k", "grey levels", None, 2, _lr_true_kernel),
    Metric("lr_rms_own", "LR residual, own k", "grey levels", None, 2, _lr_estimated_kernel),
    Metric("colour_shift", "colour shift", "grey levels", False, 2, lambda s: colour_shift(s.image, s.case.y)),
)
COST_METRICS: tuple[Metric, ...] = (
    Metric("seconds", "time", "s", False, 2, lambda sample: sample.restoration.seconds),
    Metric("calls", "network calls", "", False, 1, lambda sample: float(sample.restoration.calls)),
)
