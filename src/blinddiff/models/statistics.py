"""Spectral statistics of an image, from which its blur and noise can be estimated regardless of its content.

A blur multiplies the power spectrum of the scene by that of the kernel, and natural scenes have similar spectra. So the
mean power spectrum of small blocks reveals the kernel, and that of the flattest blocks reveals the noise.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from blinddiff.degradation.resize import extend

BLOCK = 16
STRIDE = 8
GROUPS = 4  # groups of blocks whose spectra are averaged, see `spectral_statistics`
QUANTILES = (0.5, 0.9, 0.97, 0.99, 0.999)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
FLOOR = 1e-8  # added to a power spectrum: the power of noise of 0.03 grey levels, less than rounding
WINDOW = 128  # side of the windows sampled from a large image; a multiple of JPEG's block size
MAX_WINDOWS = 64  # as many pixels as 1024 x 1024

STATISTICS = GROUPS * BLOCK * (BLOCK // 2 + 1) + len(DIRECTIONS) * len(QUANTILES) + 8
"""Number of statistics of an image."""


@lru_cache
def _window() -> Tensor:
    hann = torch.hann_window(BLOCK, periodic=False, dtype=torch.float32)
    window = hann[:, None] * hann
    return window / window.square().sum().sqrt()


def spectral_statistics(y: Tensor, *, windows: Literal["textured", "even"] = "textured") -> Tensor:
    """Log power spectra of Hann-windowed 16x16 blocks (stride 8) of the mean channel, and gradient statistics.

    In this order: the log of the mean power spectrum; the mean log of the energy-normalised spectra, over all blocks,
    and over the tenth with most energy; the log of the mean power spectrum over the tenth with least; log quantiles of
    absolute differences in four directions; harmonics of absolute second differences over the 8-pixel grid of JPEG.

    If an image has more pixels than `MAX_WINDOWS` windows, only that many windows are used, which bounds the cost.

    Args:
        y: images, (B, C, h, w), in [0, 1]; sides under 24 are padded symmetrically.
        windows: those with most gradient energy, which are the most informative, or evenly spaced ones.

    The result is (B, `STATISTICS`), float32.
    """
    grey = y.float().mean(1, keepdim=True)
    short = [max(BLOCK + STRIDE - n, 0) for n in grey.shape[-2:]]
    grey = extend(grey, (0, short[0]), (0, short[1]), "symmetric")
    if grey.shape[-2] * grey.shape[-1] > MAX_WINDOWS * WINDOW**2:
        grey = _some_windows(grey, windows)
    blocks = grey.unfold(2, BLOCK, STRIDE).unfold(3, BLOCK, STRIDE).flatten(1, 3)  # (B, N, 16, 16)
    blocks = (blocks - blocks.mean((-2, -1), keepdim=True)) * _window().to(grey)
    power = torch.fft.rfft2(blocks).abs().square().flatten(2) + FLOOR  # (B, N, 144)
    energy = power.sum(-1)
    shape = (power / energy[..., None]).log()
    order = energy.argsort(1)
    tenth = max(1, round(order.shape[1] / 10))
    strongest = order[:, -tenth:, None].expand(-1, -1, power.shape[-1])
    weakest = order[:, :tenth, None].expand(-1, -1, power.shape[-1])
    spectra = [
        power.mean(1).log(),
        shape.mean(1),
        shape.gather(1, strongest).mean(1),
        power.gather(1, weakest).mean(1).log(),
    ]
    return torch.cat([*spectra, _gradient_quantiles(grey), _lattice_harmonics(grey)], 1)


def gradient_energy(grey: Tensor) -> Tensor:
    """Sum of squared differences of neighbouring pixels over the last two axes."""
    return sum((grey.diff(dim=axis).square().sum((-2, -1)) for axis in (-2, -1)), torch.zeros(()).to(grey))


def _some_windows(grey: Tensor, choice: Literal["textured", "even"]) -> Tensor:
    """Windows of (B, 1, h, w), those with most gradient energy or evenly spaced ones: (B, windows, n, m)."""
    rows, columns = min(WINDOW, grey.shape[-2]), min(WINDOW, grey.shape[-1])
    windows = grey[:, 0].unfold(1, rows, rows).unfold(2, columns, columns).flatten(1, 2)
    count = min(MAX_WINDOWS * WINDOW**2 // (rows * columns), windows.shape[1])
    if choice == "even":
        return windows[:, torch.linspace(0, windows.shape[1] - 1, count).round().long()]
    # Window by window, to save memory.
    energy = torch.stack([gradient_energy(window) for window in windows.unbind(1)], 1)
    best = energy.topk(count).indices.sort().values
    return torch.stack([image[chosen] for image, chosen in zip(windows, best, strict=True)])


def _gradient_quantiles(grey: Tensor) -> Tensor:
    """Log quantiles of the absolute differences along each direction: (B, 20)."""
    height, width = grey.shape[-2:]
    out = []
    for down, right in DIRECTIONS:
        a = grey[..., : height - down, max(-right, 0) : width - max(right, 0)]
        b = grey[..., down:, max(right, 0) : width + min(right, 0)]
        steps = (a - b).abs().flatten(1)
        ranks = [min(math.floor(q * steps.shape[1]), steps.shape[1] - 1) for q in QUANTILES]
        out.append((_of_rank(steps, ranks) + 1e-4).log())
    return torch.cat(out, 1)


def _of_rank(values: Tensor, ranks: list[int]) -> Tensor:
    """Order statistics of (B, N) at the given ranks, from 0: (B, len(ranks))."""
    if values.is_cpu and not values.requires_grad:  # a partition is five times as fast as a sort
        return torch.from_numpy(np.partition(values.numpy(), ranks, axis=1)[:, ranks])
    return values.sort(1).values[:, ranks]


def _lattice_harmonics(grey: Tensor) -> Tensor:
    """Mean absolute second difference at each phase of an 8-pixel grid, as four harmonics along each axis: (B, 8)."""
    out = []
    for axis in (2, 3):
        second = grey.diff(dim=axis).diff(dim=axis).abs().mean((1, 5 - axis))
        whole = second.shape[1] // 8 * 8
        phases = second[:, :whole].unflatten(1, (-1, 8)).mean(1)
        out.append(torch.fft.rfft(phases / (phases.mean(1, keepdim=True) + 1e-4)).abs()[:, 1:])
    return torch.cat(out, 1)
