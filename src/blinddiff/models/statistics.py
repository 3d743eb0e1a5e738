"""Spectral statistics of an image, from which its blur and noise can be estimated regardless of its content.

A blur multiplies the power spectrum of the scene by that of the kernel, and natural scenes have similar spectra. So the
mean power spectrum of small blocks reveals the kernel, and that of the flattest blocks reveals the noise.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from blinddiff.degradation.observation import Observation
from blinddiff.degradation.resize import extend

Choice: TypeAlias = Literal["textured", "even"]
BLOCK = 16
STRIDE = 8
GROUPS = 4  # groups of blocks whose spectra are averaged, see `spectral_statistics`
QUANTILES = (0.5, 0.9, 0.97, 0.99, 0.999)
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
FLOOR = 1e-8  # added to a power spectrum: the power of noise of 0.03 grey levels, less than rounding
WINDOW = 128  # side of the windows sampled from a large image; a multiple of JPEG's block size
MAX_WINDOWS = 64  # as many pixels as 1024 x 1024

NOISE_GRID = 16
"""Side of the grid of a noise spectrum: that of a block."""
FINE_BLOCK = 64  # resolves the zeros in the spectra of defocus and motion
FINE_MAPS = 4
COLOUR_STATISTICS = 2 * BLOCK * (BLOCK // 2 + 1) + 2
NOISE_CLUES = 7
SPECTRUM_FLOOR = 0.1
"""Squared grey levels, the power of rounding; noise spectra are compared above it."""

STATISTICS = GROUPS * BLOCK * (BLOCK // 2 + 1) + len(DIRECTIONS) * len(QUANTILES) + 8
"""Number of statistics of an image."""


@lru_cache
def _hann(size: int) -> Tensor:
    """A two-dimensional Hann window of unit energy, so that white noise has its variance as power at each frequency."""
    hann = torch.hann_window(size, periodic=False, dtype=torch.float32)
    window = hann[:, None] * hann
    return window / window.square().sum().sqrt()


def block_power(planes: Tensor, size: int = BLOCK, stride: int = STRIDE) -> Tensor:
    """Power spectra of Hann-windowed blocks without their mean: (..., h, w) -> (..., N, size, size // 2 + 1)."""
    blocks = planes.unfold(-2, size, stride).unfold(-2, size, stride).flatten(-4, -3)
    blocks = (blocks - blocks.mean((-2, -1), keepdim=True)) * _hann(size).to(planes)
    return torch.fft.rfft2(blocks).abs().square()


def spectral_statistics(y: Tensor, *, windows: Choice = "textured") -> Tensor:
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
    grey = _windows(y.float().mean(1, keepdim=True), BLOCK + STRIDE, windows)[:, 0]
    return _spectral_statistics(grey, block_power(grey).flatten(1, 2))


def _spectral_statistics(grey: Tensor, power: Tensor) -> Tensor:
    """`spectral_statistics` from the windows (B, W, n, m) and the power spectra of their blocks, (B, N, 16, 9)."""
    power = power.flatten(2) + FLOOR  # (B, N, 144)
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


CHROMA = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / torch.tensor([[2.0], [6.0]]).sqrt()
"""Two orthonormal chroma planes from R, G, B."""


class Statistics(NamedTuple):
    """All statistics from which the estimator starts.

    Attributes:
        spectral: `spectral_statistics`, (B, STATISTICS).
        colour: log power spectra of the chroma planes, over all blocks and over the flattest tenth; whether the step of
            the file's JPEG table is known, and its log; (B, COLOUR_STATISTICS).
        flat: power spectrum of the flattest tenth of the blocks, a mean over channels, in squared grey levels,
            (B, 16, 9). It is the noise's spectrum if those blocks are flat.
        fine: log power spectra of 64x64 blocks: mean of luma; mean of the logs of energy-normalised spectra; mean over
            the flattest quarter; mean of chroma; (B, FINE_MAPS, 64, 33).
        clues: what tells noise, which is alike in all blocks, from detail, at each frequency, see `_noise_clues`;
            (B, NOISE_CLUES, 16, 9).
    """

    spectral: Tensor
    colour: Tensor
    flat: Tensor
    fine: Tensor
    clues: Tensor


def estimator_statistics(observation: Observation) -> Statistics:
    """The statistics of LR images in float32; for a large image on the windows that `spectral_statistics` takes."""
    y = observation.y.float()
    planes = torch.cat([y.mean(1, keepdim=True), torch.einsum("dc,bchw->bdhw", CHROMA.to(y), y)], 1)

    windows = _windows(planes, BLOCK + STRIDE)
    power = block_power(windows).flatten(2, 3)  # (B, 3, N, 16, 9)
    spectral = _spectral_statistics(windows[:, 0], power[:, 0])
    flattest = _flattest(power, 0.1)
    chroma, flat_chroma = (each[:, 1:].mean((1, 2)) for each in (power, flattest))
    step = torch.zeros(len(y)) if observation.jpeg_step is None else observation.jpeg_step
    file = torch.stack([(step > 0).float(), (step + 1).log()], 1).to(y)
    colour = torch.cat([(chroma + FLOOR).log().flatten(1), (flat_chroma + FLOOR).log().flatten(1), file], 1)
    # R, G and B have the power of their mean and, on average, two thirds of that of a chroma plane.
    flat = 255**2 * _with_origin(flattest[:, 0].mean(1) + 2 / 3 * flat_chroma)
    clues = _noise_clues(power, flattest)

    power = block_power(_windows(planes, FINE_BLOCK), FINE_BLOCK, FINE_BLOCK // 2).flatten(2, 3) + FLOOR
    luma, chroma = power[:, 0], power[:, 1:].mean((1, 2))
    shape = (luma / luma.sum((-2, -1), keepdim=True)).log().mean(1)
    flattest = _flattest(power, 0.25)[:, 0].mean(1)
    fine = torch.stack([luma.mean(1).log(), shape, flattest.log(), chroma.log()], 1)
    return Statistics(spectral, colour, flat, fine, clues)


def _noise_clues(power: Tensor, flattest: Tensor) -> Tensor:
    """Log power at each frequency, in squared grey levels above `SPECTRUM_FLOOR`: (B, NOISE_CLUES, 16, 9).

    Of luma the mean over all blocks, the mean and standard deviation of the logs, the mean of the logs over the flatter
    half, and the mean over the flattest tenth; of chroma the mean over all blocks and over the flattest tenth. For
    stationary noise all means are alike, and the standard deviation of the logs is 1.3, that of an exponential
    distribution; for a halftone pattern, the same in every block, it is less.

    power: spectra of all blocks of luma and chroma, (B, 3, N, 16, 9). flattest: those of the flattest tenth.
    """
    logs = (255**2 * power[:, 0] + SPECTRUM_FLOOR).log()
    half = (255**2 * _flattest(power, 0.5)[:, 0] + SPECTRUM_FLOOR).log()
    means = [power[:, 0].mean(1), flattest[:, 0].mean(1), power[:, 1:].mean((1, 2)), flattest[:, 1:].mean((1, 2))]
    deviation = logs.std(1, correction=0)
    return torch.stack(
        [*((255**2 * m + SPECTRUM_FLOOR).log() for m in means), logs.mean(1), half.mean(1), deviation], 1
    )


def _flattest(power: Tensor, share: float) -> Tensor:
    """The share of blocks with least energy in the first plane: (B, C, N, n, m) -> (B, C, N', n, m)."""
    count = max(1, round(share * power.shape[2]))
    chosen = power[:, 0].sum((-2, -1)).argsort(1)[:, None, :count, None, None]
    return power.gather(2, chosen.expand(-1, power.shape[1], -1, *power.shape[-2:]))


def noise_spectrum(noise: Tensor) -> Tensor:
    """Power spectrum of noise (B, C, h, w) on `NOISE_GRID`, a mean over blocks and channels: (B, 16, 9)."""
    return _with_origin(block_power(_windows(noise, BLOCK + STRIDE)).mean((1, 2, 3)))


def _with_origin(power: Tensor) -> Tensor:
    """Set the power at the origin, (B, n, m), lost with the blocks' means, to that of the neighbouring frequencies."""
    filled = power.clone()
    filled[..., 0, 0] = (power[..., 0, 1] + power[..., 1, 0]) / 2
    return filled


def full_spectrum(half: Tensor) -> Tensor:
    """The spectrum of a real image on all frequencies from those of `rfft2`: (B, n, n // 2 + 1) -> (B, n, n)."""
    n = half.shape[-2]
    mirrored = half[..., 1 : n // 2].flip(-1).roll(-1, -2).flip(-2)
    return torch.cat([half, mirrored], -1)


def transformed_spectrum(spectrum: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The spectrum (B, n, n), n even, of images after a dihedral transform."""
    half = spectrum.shape[-1] // 2
    # With the Nyquist frequency on both sides, the origin is the centre.
    centred = spectrum.roll((half, half), (-2, -1))
    centred = torch.cat([centred, centred[..., :1, :]], -2)
    centred = transform(torch.cat([centred, centred[..., :1]], -1))
    return centred[..., :-1, :-1].roll((-half, -half), (-2, -1))


def gradient_energy(grey: Tensor) -> Tensor:
    """Sum of squared differences of neighbouring pixels over the last two axes."""
    return sum((grey.diff(dim=axis).square().sum((-2, -1)) for axis in (-2, -1)), torch.zeros(()).to(grey))


def _windows(planes: Tensor, smallest: int, choice: Choice = "textured") -> Tensor:
    """Parts of images (B, C, H, W): the image itself, or windows of a large one: (B, C, windows, n, m).

    smallest: shorter sides are padded symmetrically. choice: see `spectral_statistics`; the first plane decides.
    """
    short = [max(smallest - n, 0) for n in planes.shape[-2:]]
    planes = extend(planes, (0, short[0]), (0, short[1]), "symmetric")
    if planes.shape[-2] * planes.shape[-1] <= MAX_WINDOWS * WINDOW**2:
        return planes[:, :, None]
    rows, columns = min(WINDOW, planes.shape[-2]), min(WINDOW, planes.shape[-1])
    windows = planes.unfold(2, rows, rows).unfold(3, columns, columns).flatten(2, 3)
    count = min(MAX_WINDOWS * WINDOW**2 // (rows * columns), windows.shape[2])
    if choice == "even":
        return windows[:, :, torch.linspace(0, windows.shape[2] - 1, count).round().long()]
    # Window by window, to save memory.
    energy = torch.stack([gradient_energy(window) for window in windows[:, 0].unbind(1)], 1)
    best = energy.topk(count).indices.sort().values
    return torch.stack([image[:, chosen] for image, chosen in zip(windows, best, strict=True)])


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
