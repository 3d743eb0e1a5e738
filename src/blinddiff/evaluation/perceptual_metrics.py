"""NIQE: how far an image's local statistics are from those of pristine photographs, without a reference."""

import json
from collections.abc import Callable
from functools import cache
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import correlate1d
from scipy.special import gamma
from torch import Tensor

from blinddiff.degradation.resize import bicubic_downsample
from blinddiff.evaluation.image_metrics import Metric, Sample, luma

Array = npt.NDArray[Any]

BLOCK = 96  # side of the blocks whose statistics are taken, at full size; half of it at half size
FEWEST_BLOCKS = 4  # a covariance of fewer says nothing
WINDOW, SIGMA = 7, 7 / 6  # of local mean and deviation
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the neighbours whose products are looked at
ROUNDING = 1e-9  # a pixel that equals its surroundings is neither above nor below them
SHAPES = np.arange(0.2, 10.0005, 0.001)  # of the generalised Gaussian, as the authors search them


def niqe(y: Tensor) -> float | None:
    """NIQE of a luma plane (H, W) in grey levels 0 to 255, rounded first; lower is more natural, 2 to 4 is usual.

    A. Mittal et al., "Making a completely blind image quality analyzer", IEEE SPL 2013. On 8-bit Y (BT.601) of a file
    this is what the authors' MATLAB release gives. None for images of fewer than `FEWEST_BLOCKS` blocks of 96x96 with
    any structure in them.
    """
    height, width = (side // BLOCK * BLOCK for side in y.shape)
    if height * width < FEWEST_BLOCKS * BLOCK**2:
        return None
    plane = y[:height, :width].double().cpu().round()
    half = bicubic_downsample(plane[None, None], 2)[0, 0]
    features = np.hstack([_features(plane.numpy(), BLOCK), _features(half.numpy(), BLOCK // 2)])
    features = features[np.isfinite(features).all(axis=1)]  # a block of one grey level has no shape
    if len(features) < FEWEST_BLOCKS:
        return None
    mean, covariance = _pristine()
    difference = mean - features.mean(0)
    pooled = (covariance + np.cov(features, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(pooled) @ difference))


def _features(plane: Array, block: int) -> Array:
    """18 features of each block of (H, W): (blocks, 18)."""
    mean = _window_mean(plane)
    deviation = np.sqrt(np.abs(_window_mean(plane * plane) - mean**2))
    normalised = (plane - mean) / (deviation + 1)
    normalised[np.abs(normalised) < ROUNDING] = 0
    rows, columns = (side // block for side in plane.shape)
    blocks = normalised.reshape(rows, block, columns, block).transpose(0, 2, 1, 3).reshape(-1, block, block)
    shape, _, left, right = _fit(blocks)
    parts = [shape, (left + right) / 2]
    for shift in SHIFTS:
        parts += _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
    return np.stack(parts, axis=1)


def _window_mean(plane: Array) -> Array:
    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = correlate1d(plane, weights, axis=0, mode="nearest")
    columns: Array = correlate1d(rows, weights, axis=1, mode="nearest")
    return columns


@cache
def _ratios() -> Array:
    """Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) for each of `SHAPES`: rises with a."""
    ratios: Array = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
    return ratios


def _fit(blocks: Array) -> tuple[Array, Array, Array, Array]:
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
    found = np.full(len(values), np.nan)
    known = np.isfinite(ratio)
    midpoints = (_ratios()[1:] + _ratios()[:-1]) / 2
    found[known] = SHAPES[np.searchsorted(midpoints, ratio[known])]
    scale = np.sqrt(gamma(1 / found) / gamma(3 / found))
    left, right = left * scale, right * scale
    return found, (right - left) * gamma(2 / found) / gamma(1 / found), left, right


@cache
def _pristine() -> tuple[Array, Array]:
    """Mean (36,) and covariance (36, 36) of the features of pristine photographs; the file names its source."""
    text = resources.files(__package__).joinpath("niqe_parameters.json").read_text(encoding="utf-8")
    content = json.loads(text)
    return np.array(content["mean"]), np.array(content["covariance"])


def _measure(sample: Sample) -> float | None:
    crop = sample.case.scale
    inner = slice(crop, -crop)
    return niqe(luma(sample.image)[inner, inner])


NIQE = Metric("niqe", "NIQE", "", False, 2, _measure)


Distance: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Of two images (1, 3, H, W) in [0, 1], float32."""


def _backbone_is_here(file: str) -> bool:
    """Whether torchvision's weights are where torch.hub keeps them: without them both packages would download."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / file).is_file()


@cache
def lpips() -> Distance | None:
    """R. Zhang et al., "The unreasonable effectiveness of deep features", CVPR 2018, on AlexNet; or None."""
    if find_spec("lpips") is None or not _backbone_is_here("alexnet-owt-7be5be79.pth"):
        return None
    try:
        network = import_module("lpips").LPIPS(net="alex", verbose=False).eval()
    except Exception:  # noqa: BLE001  # beside some builds of torch, torchvision does not even import
        return None
    return lambda image, reference: network(image, reference, normalize=True)


@cache
def dists() -> Distance | None:
    """K. Ding et al., "Image quality assessment: unifying structure and texture similarity", PAMI 2022; or None."""
    if find_spec("DISTS_pytorch") is None or not _backbone_is_here("vgg16-397923af.pth"):
        return None
    try:
        network = import_module("DISTS_pytorch").DISTS().eval()
    except Exception:  # noqa: BLE001  # as above
        return None
    return lambda image, reference: network(image, reference)


def available() -> list[str]:
    """The names of the learned metrics that this machine can measure."""
    return [name for name, load in (("lpips", lpips), ("dists", dists)) if load() is not None]


@torch.no_grad()
def _distance(sample: Sample, load: Callable[[], Distance | None]) -> float | None:
    distance = load()
    if distance is None or sample.reference is None:
        return None
    return float(distance(sample.image[None].float(), sample.reference[None].float()))


LPIPS = Metric("lpips", "LPIPS (AlexNet)", "", False, 3, lambda sample: _distance(sample, lpips))
DISTS = Metric("dists", "DISTS", "", False, 3, lambda sample: _distance(sample, dists))
