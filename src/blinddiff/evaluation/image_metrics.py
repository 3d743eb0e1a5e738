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
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import bicubic_downsample
from blinddiff.errors import ImageError, WeightsError
from blinddiff.evaluation.data import Array, Case, Restoration, to_8bit


@dataclass(frozen=True)
class Sample:
    """A case with its restoration, the input of a metric. Raises ImageError for a restoration of the wrong size.

    learned_weights: folder of the weights of LPIPS and DISTS, see `lpips`.
    """

    case: Case
    restoration: Restoration
    learned_weights: Path | None = None

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

    @cached_property
    def compared(self) -> tuple[Tensor, Tensor] | None:
        """The image and the ground truth, at their best shift if the case allows shifts; None without ground truth."""
        if self.reference is None or self.case.max_shift == 0:
            return None if self.reference is None else (self.image, self.reference)
        return best_shift(self.image, self.reference, self.case.max_shift)


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


def best_shift(image: Tensor, reference: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The parts of two images (3, H, W) at the shift with the smallest mean square difference of their luma.

    Every shift of up to `reach` pixels along both axes is compared on the same part of the reference, its inner
    (H - 2 * reach, W - 2 * reach) pixels. Raises ImageError if there are none.
    """
    _, inner = cropped_pair(image, reference, reach)
    height, width = inner.shape[-2:]
    moved, fixed = luma(image), luma(inner)
    errors = {
        (top, left): float((moved[top : top + height, left : left + width] - fixed).square().mean())
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
    }
    top, left = min(errors, key=lambda corner: errors[corner])
    return image[:, top : top + height, left : left + width], inner


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


Tensors: TypeAlias = dict[str, Tensor]
Layer: TypeAlias = tuple[int, int, int, int, int]  # in, out, size, stride, padding of a convolution
Distance: TypeAlias = Callable[..., Tensor]  # of two images (1, 3, H, W) in [0, 1], float32


def _load(package: str, network: str, backbone: str, **options: Any) -> Distance | None:
    # Without torchvision's weights in torch.hub's folder, both packages would download them.
    if find_spec(package) and (Path(torch.hub.get_dir()) / "checkpoints" / backbone).is_file():
        with suppress(Exception):  # importing torchvision fails with some builds of torch
            loaded: Distance = getattr(import_module(package), network)(**options).eval()
            return loaded
    return None


ALEXNET, VGG16 = "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"  # of torchvision
LPIPS_WEIGHTS, DISTS_WEIGHTS = "alex.pth", "weights.pt"  # of the packages lpips (version 0.1) and DISTS_pytorch


@cache
def lpips(folder: Path | None = None) -> Distance | None:
    """R. Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, AlexNet; None without its weights.

    folder: contains `ALEXNET` and `LPIPS_WEIGHTS`. If it is None, the package lpips is used if it is installed.
    Raises WeightsError for a damaged file.
    """
    if folder is None:
        network = _load("lpips", "LPIPS", ALEXNET, net="alex", verbose=False)
        return None if network is None else partial(network, normalize=True)
    return _with_weights(LearnedPatchSimilarity, folder / ALEXNET, folder / LPIPS_WEIGHTS)


@cache
def dists(folder: Path | None = None) -> Distance | None:
    """K. Ding et al., "Image quality assessment: unifying structure and texture similarity", PAMI 2022; or None.

    folder: contains `VGG16` and `DISTS_WEIGHTS`. If it is None, the package DISTS_pytorch is used if it is installed.
    Raises WeightsError for a damaged file.
    """
    if folder is None:
        return _load("DISTS_pytorch", "DISTS", VGG16)
    return _with_weights(StructureTextureSimilarity, folder / VGG16, folder / DISTS_WEIGHTS)


def _with_weights(network: Callable[[Tensors, Tensors], nn.Module], *files: Path) -> Distance | None:
    """The network with the tensors of two files; None if one of them is missing."""
    if not all(path.is_file() for path in files):
        return None
    try:
        backbone, weights = (torch.load(path, map_location="cpu", weights_only=True) for path in files)
        return network(backbone, weights).eval()
    except Exception as error:  # damaged files raise errors of many types
        raise WeightsError(f"{files[0].parent}: {files[0].name} or {files[1].name} cannot be loaded") from error


def _convolutions(*layers: Layer | nn.Module) -> nn.Sequential:
    """Convolutions, each followed by a ReLU, and other layers between them."""
    made: list[nn.Module] = []
    for layer in layers:
        made += [layer] if isinstance(layer, nn.Module) else [nn.Conv2d(*layer), nn.ReLU()]
    return nn.Sequential(*made)


def _load_features(features: nn.Sequential, backbone: Tensors) -> None:
    """Load a backbone of torchvision, whose keys begin with ``features.``."""
    prefix = "features."
    own = {key.removeprefix(prefix): value for key, value in backbone.items() if key.startswith(prefix)}
    features.load_state_dict({key: own[key] for key in features.state_dict()})


def _outputs(features: nn.Sequential, x: Tensor, layers: tuple[int, ...]) -> list[Tensor]:
    found = []
    for index, layer in enumerate(features):
        x = layer(x)
        if index in layers:
            found.append(x)
    return found


def _channels(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]


class LearnedPatchSimilarity(nn.Module):
    """LPIPS, version 0.1, AlexNet: weighted squared differences of normalised features, averaged over positions.

    backbone: tensors of torchvision's AlexNet. weights: ``lin0.model.1.weight`` (1, 64, 1, 1) to ``lin4...``.
    """

    LAYERS = (1, 4, 7, 9, 11)  # the ReLUs

    def __init__(self, backbone: Tensors, weights: Tensors) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2)
        self.features = _convolutions(
            (3, 64, 11, 4, 2),
            pool,
            (64, 192, 5, 1, 2),
            pool,
            (192, 384, 3, 1, 1),
            (384, 256, 3, 1, 1),
            (256, 256, 3, 1, 1),
        )
        _load_features(self.features, backbone)
        self.weights = [weights[f"lin{i}.model.1.weight"] for i in range(len(self.LAYERS))]

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distance of two images (1, 3, H, W) in [0, 1]: (1, 1, 1, 1)."""
        a, b = (self._normalised(x) for x in (image, reference))
        parts = [(w * (p - q) ** 2).sum(1).mean() for w, p, q in zip(self.weights, a, b, strict=True)]
        return torch.stack(parts).sum()[None, None, None, None]

    def _normalised(self, x: Tensor) -> list[Tensor]:
        x = (2 * x - 1 - _channels(-0.030, -0.088, -0.188)) / _channels(0.458, 0.448, 0.450)
        return [f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in _outputs(self.features, x, self.LAYERS)]


class L2Pool(nn.Module):
    """The root of the local mean square under a 3x3 Hann window, subsampled by 2."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2), rounded up."""
        line = torch.tensor([0.25, 0.5, 0.25])
        window = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
        return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class StructureTextureSimilarity(nn.Module):
    """DISTS: weighted similarities of means and of covariances of VGG16's features and of the images themselves.

    backbone: tensors of torchvision's VGG16. weights: ``alpha`` and ``beta``, (1, 1475, 1, 1).
    """

    LAYERS = (3, 8, 15, 22, 29)  # the last ReLU of each stage

    def __init__(self, backbone: Tensors, weights: Tensors) -> None:
        super().__init__()
        layers: list[Layer | nn.Module] = []
        before = 3
        for stage, (channels, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
            layers += [L2Pool()] if stage else []
            layers += [(before if i == 0 else channels, channels, 3, 1, 1) for i in range(count)]
            before = channels
        self.features = _convolutions(*layers)
        _load_features(self.features, backbone)
        total = weights["alpha"].sum() + weights["beta"].sum()
        self.alpha, self.beta = ((weights[name] / total).flatten() for name in ("alpha", "beta"))

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Distance of two images (1, 3, H, W) in [0, 1]: a number."""
        pairs = zip(self._features(image), self._features(reference), strict=True)
        means, covariances = zip(*(self._similarities(a, b) for a, b in pairs), strict=True)
        return 1 - (self.alpha * torch.cat(means)).sum() - (self.beta * torch.cat(covariances)).sum()

    def _features(self, x: Tensor) -> list[Tensor]:
        scaled = (x - _channels(0.485, 0.456, 0.406)) / _channels(0.229, 0.224, 0.225)
        return [x, *_outputs(self.features, scaled, self.LAYERS)]

    @staticmethod
    def _similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Per channel, of features (1, C, h, w): (C,) and (C,)."""
        a, b = a[0].flatten(1), b[0].flatten(1)
        mean_a, mean_b = a.mean(1), b.mean(1)
        covariance = (a * b).mean(1) - mean_a * mean_b
        variances = a.var(1, correction=0) + b.var(1, correction=0)
        constant = 1e-6
        similarity = (2 * mean_a * mean_b + constant) / (mean_a.square() + mean_b.square() + constant)
        return similarity, (2 * covariance + constant) / (variances + constant)


def available_learned_metrics(folder: Path | None = None) -> list[str]:
    """The names of the learned metrics whose weights are installed or, if a folder is given, in the folder."""
    return [name for name, load in (("lpips", lpips), ("dists", dists)) if load(folder) is not None]


@torch.no_grad()
def _distance(load: Callable[[Path | None], Distance | None], sample: Sample) -> float | None:
    network = load(sample.learned_weights)
    if network is None or sample.compared is None:
        return None
    image, reference = sample.compared
    if min(image.shape[-2:]) < 32:  # too small for AlexNet's strides
        return None
    return float(network(image[None].float(), reference[None].float()))


BLOCK_SIDE = 16


def block_energies(image: Tensor) -> Tensor:
    """Mean square of the 5-point Laplacian of luma in each block of 16x16: (3, H, W) in [0, 1] -> (blocks,)."""
    y = luma(image)
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return F.avg_pool2d(laplacian.square()[None], BLOCK_SIDE).flatten()


def detail_energy(image: Tensor, reference: Tensor, crop: int, textured: bool) -> float | None:
    """RMS of the Laplacian over that of the truth, in the flattest or the most textured quarter of the blocks.

    Blocks are ranked by the truth's energy. 1 is right; more means invented detail or noise, less means blur. None for
    images with fewer than four blocks, or without any structure there.
    """
    image, reference = cropped_pair(image, reference, crop)
    if min(reference.shape[-2:]) < BLOCK_SIDE + 2:
        return None
    own, true = block_energies(image), block_energies(reference)
    chosen = true.argsort(descending=textured, stable=True)[: len(true) // 4]
    total = float(true[chosen].sum())
    return math.sqrt(float(own[chosen].sum()) / total) if total > 0 else None


def lr_consistency(image: Tensor, y: Tensor, operator: DegradationOperator) -> float:
    """Root mean square of y - A x in grey levels: image x (3, s*h, s*w) and y (3, h, w) in [0, 1].

    For the true x, this is the standard deviation of the noise and of 8-bit rounding, which alone is about 0.3 grey
    levels. Smaller values are not better: they mean that the image reproduces the noise.
    """
    residual = y.to(image) - operator.forward(image[None])[0]
    return 255 * float(residual.square().mean().sqrt())


def _lr_true_kernel(sample: Sample) -> float | None:
    case = sample.case
    if case.kernel is None or case.max_shift:  # an image restored up to a shift does not agree with the kernel's shift
        return None
    return lr_consistency(sample.image, case.y, case.operator())


def _lr_estimated_kernel(sample: Sample) -> float | None:
    case, kernel = sample.case, sample.restoration.kernel
    # estimated kernels are defined with bicubic downsampling
    operator = None if kernel is None else DegradationOperator(kernel.cpu(), case.scale)
    return None if operator is None else lr_consistency(sample.image, case.y, operator)


def colour_shift(image: Tensor, y: Tensor) -> float:
    """Largest difference between the channel means of image (3, H, W) and y (3, h, w) in [0, 1], in grey levels."""
    return 255 * float((image.double().mean((1, 2)) - y.double().mean((1, 2))).abs().max())


def _niqe_cropped(sample: Sample) -> float | None:
    border, (height, width) = sample.case.border, sample.image.shape[-2:]
    return niqe(luma(sample.image)[border : height - border, border : width - border])


def _with_truth(measure: Callable[[Tensor, Tensor, int], float | None]) -> Callable[[Sample], float | None]:
    """A metric of image, ground truth and border to crop; None without ground truth."""
    return lambda s: None if s.compared is None else measure(*s.compared, s.case.border)


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
    Metric("lpips", "LPIPS (AlexNet)", "", False, 3, partial(_distance, lpips)),
    Metric("dists", "DISTS", "", False, 3, partial(_distance, dists)),
    Metric("flat_energy", "detail in flat areas", "", None, 2, _with_truth(partial(detail_energy, textured=False))),
    Metric("texture_energy", "detail in textures", "", None, 2, _with_truth(partial(detail_energy, textured=True))),
    Metric("lr_rms", "LR residual, true k", "grey levels", None, 2, _lr_true_kernel),
    Metric("lr_rms_own", "LR residual, own k", "grey levels", None, 2, _lr_estimated_kernel),
    Metric("colour_shift", "colour shift", "grey levels", False, 2, lambda s: colour_shift(s.image, s.case.y)),
)
COST_METRICS: tuple[Metric, ...] = (
    Metric("seconds", "time", "s", False, 2, lambda sample: sample.restoration.seconds),
    Metric("calls", "network calls", "", False, 1, lambda sample: float(sample.restoration.calls)),
)
