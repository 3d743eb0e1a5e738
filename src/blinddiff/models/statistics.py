"""Spectral statistics of an image, from which its blur and noise can be estimated regardless of its content.

A blur multiplies the power spectrum of the scene by that of the kernel, and natural scenes have similar spectra. So the
mean power spectrum of small blocks reveals the kernel, and that of the flattest blocks reveals the noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from blinddiff.degradation.fourier import rfft, rfft2
from blinddiff.degradation.observation import Observation
from blinddiff.degradation.resize import extend
from blinddiff.models.edge_profiles import DIRECTIONS, edge_profiles
from blinddiff.models.photograph_area import photograph_area

Choice: TypeAlias = Literal["textured", "even"]
BLOCK = 16
STRIDE = 8
GROUPS = 4  # groups of blocks whose spectra are averaged, see `spectral_statistics`
QUANTILES = (500, 900, 970, 990, 999)  # in thousandths
FLOOR = 1e-8  # added to a power spectrum: the power of noise of 0.03 grey levels, less than rounding
MAX_OUTSIDE = 0.02  # share of a block's pixels that may be outside the photograph
MAX_FILLED = 0.125  # share of its pixels that may be filled, see `Observation.mask`; with none, too few blocks remain
WINDOW = 128  # side of the windows sampled from a large image; a multiple of JPEG's block size
MAX_WINDOWS = 64  # as many pixels as 1024 x 1024

NOISE_GRID = 16
"""Side of the grid of a noise spectrum: that of a block."""
FINE_BLOCK = 64  # resolves the zeros in the spectra of defocus and motion
FEWEST_BLOCKS = {BLOCK: 6, FINE_BLOCK: 1}  # by their side: with fewer blocks inside, all blocks count
FINE_MAPS = 5
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
    return rfft2(blocks).abs().square()


def spectral_statistics(y: Tensor, *, windows: Choice = "textured") -> Tensor:
    """Log power spectra of Hann-windowed 16x16 blocks (stride 8) of the mean channel, and gradient statistics.

    In this order: the log of the mean power spectrum; the mean log of the energy-normalised spectra, over all blocks,
    and over the tenth with most energy; the log of the mean power spectrum over the tenth with least; log quantiles of
    absolute differences in four directions; harmonics of absolute second differences over the 8-pixel grid of JPEG.

    If an image has more pixels than `MAX_WINDOWS` windows, only that many windows are used, which bounds the cost. Only
    blocks inside the `photograph_area` count, unless there are fewer than `FEWEST_BLOCKS`.

    Args:
        y: images, (B, C, h, w), in [0, 1]; sides under 24 are padded symmetrically.
        windows: those with most gradient energy, which are the most informative, or evenly spaced ones.

    The result is (B, `STATISTICS`), float32.
    """
    y = y.float()
    planes = torch.cat([y.mean(1, keepdim=True), photograph_area(y)[:, None].to(y)], 1)
    return _spectral_statistics(_blocks(planes, BLOCK, windows))


@dataclass(frozen=True, eq=False)
class _Blocks:
    """The windows of images, and the power spectra of their blocks, of which only some count.

    Attributes:
        planes: (B, C, W, n, m); the first plane is luma.
        area: 1 where the windows are photograph, (B, W, n, m).
        power: spectra of all blocks, (B, C, N, size, size // 2 + 1).
        rank: of each block that counts by its energy of luma, from 0; the others come after these, (B, N).
        count: number of blocks that count, (B, 1).
    """

    planes: Tensor
    area: Tensor
    power: Tensor
    rank: Tensor
    count: Tensor

    def mean(self, values: Tensor, share: float = 1.0, *, strongest: bool = False) -> Tensor:
        """The mean over the share of blocks with least (or most) energy: (B, C, N, ...) -> (B, C, ...)."""
        rank = self.count - 1 - self.rank if strongest else self.rank
        weight = ((rank >= 0) & (rank < (share * self.count).round().clamp_min(1)) & (self.rank < self.count)).to(
            values
        )
        share_of_each = (weight / weight.sum(1, keepdim=True))[:, None, None]
        return (share_of_each @ values.flatten(3)).unflatten(-1, values.shape[3:])[:, :, 0]


def _blocks(planes: Tensor, size: int, choice: Choice = "textured") -> _Blocks:
    """The blocks of images (B, C + 1, h, w), whose last plane is 1 where they are photograph."""
    stride = size // 2
    windows = _windows(planes, size + stride if size == BLOCK else size, choice)
    planes, area = windows[:, :-1], windows[:, -1]
    power = block_power(planes, size, stride).flatten(2, 3)
    outside = 1 - area.unfold(-2, size, stride).unfold(-2, size, stride).mean((-2, -1)).flatten(1)
    inside = outside <= MAX_OUTSIDE
    enough = inside.sum(1, keepdim=True) >= min(FEWEST_BLOCKS[size], inside.shape[1])
    inside, area = inside | ~enough, area.maximum((~enough).to(area)[..., None, None])
    energy = power[:, 0].sum((-2, -1)).where(inside, torch.inf)
    return _Blocks(planes, area, power, energy.argsort(1).argsort(1), inside.sum(1, keepdim=True))


def _spectral_statistics(blocks: _Blocks) -> Tensor:
    power = blocks.power[:, :1] + FLOOR  # (B, 1, N, 16, 9)
    shape = (power / power.sum((-2, -1), keepdim=True)).log()
    spectra = [
        blocks.mean(power).log(),
        blocks.mean(shape),
        blocks.mean(shape, 0.1, strongest=True),
        blocks.mean(power, 0.1).log(),
    ]
    windows = blocks.planes[:, 0], blocks.area == 1
    others = _gradient_quantiles(*windows), _lattice_harmonics(*windows)
    return torch.cat([*(part.flatten(1) for part in spectra), *others], 1)


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
            the flattest quarter; mean of chroma; mean of the logs over the quarter with most energy;
            (B, FINE_MAPS, 64, 33).
        clues: what tells noise, which is alike in all blocks, from detail, at each frequency, see `_noise_clues`;
            (B, NOISE_CLUES, 16, 9).
        edges: `edge_profiles`, (B, 4, 3, 35).
    """

    spectral: Tensor
    colour: Tensor
    flat: Tensor
    fine: Tensor
    clues: Tensor
    edges: Tensor


def estimator_statistics(observation: Observation) -> Statistics:
    """The statistics of LR images in float32; for a large image on the windows that `spectral_statistics` takes."""
    y = observation.y.float()
    chroma_planes = torch.einsum("dc,bchw->bdhw", CHROMA.to(y), y)
    area = photograph_area(y)[:, None].to(y)
    if observation.mask is not None:
        area = area * observation.mask.to(y).clamp_min(1 - MAX_OUTSIDE / MAX_FILLED)
    planes = torch.cat([y.mean(1, keepdim=True), chroma_planes, area], 1)

    blocks = _blocks(planes, BLOCK)
    mean, flattest = blocks.mean(blocks.power), blocks.mean(blocks.power, 0.1)  # (B, 3, 16, 9)
    chroma, flat_chroma = mean[:, 1:].mean(1), flattest[:, 1:].mean(1)
    step = torch.zeros(len(y)) if observation.jpeg_step is None else observation.jpeg_step
    file = torch.stack([(step > 0).float(), (step + 1).log()], 1).to(y)
    colour = torch.cat([(chroma + FLOOR).log().flatten(1), (flat_chroma + FLOOR).log().flatten(1), file], 1)
    # R, G and B have the power of their mean and, on average, two thirds of that of a chroma plane.
    flat = 255**2 * _with_origin(flattest[:, 0] + 2 / 3 * flat_chroma)
    clues = _noise_clues(blocks, mean, flattest)

    fine_blocks = _blocks(planes, FINE_BLOCK)
    power = fine_blocks.power + FLOOR
    luma = power[:, :1]
    shapes = (luma / luma.sum((-2, -1), keepdim=True)).log()
    shape, strongest = fine_blocks.mean(shapes), fine_blocks.mean(shapes, 0.25, strongest=True)
    mean, flattest = fine_blocks.mean(power), fine_blocks.mean(luma, 0.25)
    logs = mean[:, :1].log(), shape, flattest.log(), mean[:, 1:].mean(1, keepdim=True).log(), strongest
    edges = edge_profiles(blocks.planes[:, 0], blocks.area == 1)
    return Statistics(_spectral_statistics(blocks), colour, flat, torch.cat(logs, 1), clues, edges)


def _noise_clues(blocks: _Blocks, mean: Tensor, flattest: Tensor) -> Tensor:
    """Log power at each frequency, in squared grey levels above `SPECTRUM_FLOOR`: (B, NOISE_CLUES, 16, 9).

    Of luma the mean over all blocks, the mean and standard deviation of the logs, the mean of the logs over the flatter
    half, and the mean over the flattest tenth; of chroma the mean over all blocks and over the flattest tenth. For
    stationary noise all means are alike, and the standard deviation of the logs is 1.3, that of an exponential
    distribution; for a halftone pattern, the same in every block, it is less.

    mean, flattest: power of luma and chroma over all blocks and over the flattest tenth, (B, 3, 16, 9).
    """
    logs = (255**2 * blocks.power[:, :1] + SPECTRUM_FLOOR).log()
    log_mean = blocks.mean(logs)
    deviation = (blocks.mean(logs.square()) - log_mean.square()).clamp_min(0).sqrt()
    means = [mean[:, :1], flattest[:, :1], mean[:, 1:].mean(1, keepdim=True), flattest[:, 1:].mean(1, keepdim=True)]
    log_means = [(255**2 * each + SPECTRUM_FLOOR).log() for each in means]
    return torch.cat([*log_means, log_mean, blocks.mean(logs, 0.5), deviation], 1)


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
    short = [torch.sym_max(smallest - n, 0) for n in planes.shape[-2:]]
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


def _gradient_quantiles(grey: Tensor, area: Tensor) -> Tensor:
    """Log quantiles of the absolute differences along each direction, of pixels in the area: (B, 20)."""
    height, width = grey.shape[-2:]
    out = []
    for down, right in DIRECTIONS:
        rows, columns = slice(height - down), slice(max(-right, 0), width - max(right, 0))
        other_rows, other_columns = slice(down, None), slice(max(right, 0), width + min(right, 0))
        steps = (grey[..., rows, columns] - grey[..., other_rows, other_columns]).abs()
        both = (area[..., rows, columns] & area[..., other_rows, other_columns]).flatten(1)
        steps, count = steps.flatten(1).where(both, torch.inf), both.sum(1, keepdim=True)
        ranks = count * torch.tensor(QUANTILES, device=grey.device) // 1000
        out.append((_of_rank(steps, ranks) + 1e-4).log())
    return torch.cat(out, 1)


def _of_rank(values: Tensor, ranks: Tensor) -> Tensor:
    """Order statistics of (B, N) at the given ranks, from 0: (B, R)."""
    # A partition is five times as fast as a sort.
    if values.is_cpu and not values.requires_grad and not torch.compiler.is_exporting():
        pairs = zip(values.numpy(), ranks.numpy(), strict=True)
        return torch.from_numpy(np.stack([np.partition(row, rank)[rank] for row, rank in pairs]))
    return values.sort(1).values.gather(1, ranks)


def _lattice_harmonics(grey: Tensor, area: Tensor) -> Tensor:
    """Mean absolute second difference at each phase of an 8-pixel grid, as four harmonics along each axis: (B, 8)."""
    out = []
    for axis in (2, 3):
        length = grey.shape[axis] - 2
        second = grey.diff(dim=axis).diff(dim=axis).abs()
        inside = (area.narrow(axis, 0, length) & area.narrow(axis, 1, length) & area.narrow(axis, 2, length)).to(grey)
        sums = [
            each.sum((1, 5 - axis))[:, : length // 8 * 8].unflatten(1, (-1, 8)).sum(1)
            for each in (second * inside, inside)
        ]
        phases = sums[0] / sums[1].clamp_min(1)
        out.append(rfft(phases / (phases.mean(1, keepdim=True) + 1e-4)).abs()[:, 1:])
    return torch.cat(out, 1)
