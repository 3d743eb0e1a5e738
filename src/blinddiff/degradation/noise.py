"""Kinds of noise, those of processing.py included. To add one, write a class and list it in `_ALL`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import Draws, Noise, level_for
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.degradation.processing import (
    Demosaicked,
    Denoised,
    JpegNoise,
    ResizedJpegNoise,
    Sharpened,
    filtered,
)


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """level: standard deviation sigma in grey levels (of 255), >= 0; 0 changes nothing.

    Levels are drawn uniformly. The result is not clipped to [0, 1]: y = ... + n is linear in n.
    """

    name: str = "gaussian"
    levels: tuple[float, float] = (0.0, 25.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        return y + sigma * Draws(generator, y.device, y.dtype).normal(y.shape)


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """level: photons counted at a white pixel (1.0), > 0; *more* photons mean *less* noise.

    A pixel of value v has the standard deviation 255 sqrt(v / level) grey levels, so 650 photons give 10 at white.
    Levels are drawn uniformly in log. Values below 0 give no photons; the result may exceed 1.
    """

    name: str = "poisson"
    levels: tuple[float, float] = (100.0, 10000.0)
    logarithmic = True

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        photons = level_for(y, level, "photons at white", 1e-3, 1e7)
        expected = (y.clamp_min(0) * photons).to(generator.device, torch.float32)
        return torch.poisson(expected, generator).to(y.device, y.dtype) / photons


FILTER_SIZE = 7  # side of correlated noise's low-pass, LR pixels


@dataclass(frozen=True)
class CorrelatedNoise(Noise):
    """level: standard deviation of the *resulting* noise in grey levels (of 255), >= 0.

    Levels are drawn uniformly. White noise, independent in each channel, is filtered by a Gaussian low-pass whose width
    is drawn for each image uniformly in [min_width, max_width] pixels, and scaled so that a pixel's variance is
    level^2. Not clipped to [0, 1].
    """

    name: str = "correlated"
    levels: tuple[float, float] = (0.0, 15.0)
    min_width: float = 0.3
    max_width: float = 1.2

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        draws = Draws(generator, y.device, y.dtype)
        widths = draws.uniform(len(y), self.min_width, self.max_width)
        return y + sigma * _low_pass(draws, y.shape, widths)


def _low_pass(draws: Draws, shape: Sequence[int], widths: Tensor) -> Tensor:
    """Noise of unit variance, (B, C, H, W), white noise filtered by a Gaussian of a width in pixels, (B,)."""
    lowpass = isotropic_gaussian(widths, FILTER_SIZE)
    lowpass = lowpass / lowpass.square().sum((1, 2), keepdim=True).sqrt()  # unit energy keeps the variance
    # White noise on a margin too, so that border and centre have equal variance.
    margin = FILTER_SIZE - 1
    white = draws.normal((*shape[:2], shape[2] + margin, shape[3] + margin))
    return filtered(white, lowpass)


@dataclass(frozen=True)
class Grain(Noise):
    """level: standard deviation of the grain in grey levels (of 255), >= 0.

    Film grain as scans have it: low-pass noise, its width drawn in [min_width, max_width] pixels. With probability
    `grey` it is the same in all channels; otherwise only a share of its variance is, drawn in [min_shared, 1]. With
    probability `toned` the grain's strength depends on the pixel's value v as sqrt(4 v (1 - v)); `level` is then the
    standard deviation at mid grey.
    """

    name: str = "grain"
    levels: tuple[float, float] = (1.0, 20.0)
    min_width: float = 0.3
    max_width: float = 1.5
    min_shared: float = 0.6
    grey: float = 0.5
    toned: float = 0.5

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "grain level", 0.0) / 255
        draws = Draws(generator, y.device, y.dtype)
        widths = draws.uniform(len(y), self.min_width, self.max_width)
        shared = draws.uniform(len(y), self.min_shared, 1.0)[:, None, None, None]
        shared = torch.where(_coin(draws, len(y), self.grey), torch.ones_like(shared), shared)
        common, own = (_low_pass(draws, (len(y), channels, *y.shape[-2:]), widths) for channels in (1, y.shape[1]))
        tone = (4 * y * (1 - y)).clamp_min(0).sqrt()
        strength = torch.where(_coin(draws, len(y), self.toned), tone, torch.ones_like(y))
        return y + sigma * strength * (shared.sqrt() * common + (1 - shared).sqrt() * own)


@dataclass(frozen=True)
class Halftone(Noise):
    """level: RMS of the halftone pattern of a printed picture in grey levels (of 255), >= 0; at mid grey if `toned`.

    A product of two cosines at right angles, its period drawn uniformly in [min_period, max_period] pixels, its angle
    in [0, max_angle] radians. With probability `inks` each channel has an angle of its own, and with probability
    `toned` the strength follows the tone as 4 v (1 - v). With probability `aligned` the pattern is that of a screen: its
    period a whole number of pixels, along the axes.
    """

    name: str = "halftone"
    levels: tuple[float, float] = (2.0, 20.0)
    min_period: float = 2.2
    max_period: float = 7.0
    max_angle: float = torch.pi / 2
    inks: float = 0.5
    toned: float = 0.5
    aligned: float = 0.2

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "RMS of the halftone pattern", 0.0) / 255
        draws = Draws(generator, y.device, y.dtype)
        batch, channels, height, width = y.shape
        period = draws.uniform((batch, 1, 1, 1), self.min_period, self.max_period)
        angle = draws.uniform((batch, 1, 1, 1), 0, self.max_angle)
        own = angle + torch.arange(channels, device=y.device, dtype=y.dtype).view(1, -1, 1, 1) * torch.pi / 6
        angle = torch.where(_coin(draws, batch, self.inks), own, angle.expand_as(own))
        aligned = _coin(draws, batch, self.aligned)
        period, angle = torch.where(aligned, period.round(), period), torch.where(aligned, torch.zeros_like(angle), angle)
        frequency = 2 * torch.pi / period
        phases = draws.uniform((2, batch, channels, 1, 1), 0, 2 * torch.pi)
        rows = torch.arange(height, device=y.device, dtype=y.dtype)[:, None]
        columns = torch.arange(width, device=y.device, dtype=y.dtype)
        along = frequency * (angle.cos() * columns + angle.sin() * rows) + phases[0]
        across = frequency * (angle.cos() * rows - angle.sin() * columns) + phases[1]
        tone = (4 * y * (1 - y)).clamp_min(0)
        strength = torch.where(_coin(draws, batch, self.toned), tone, torch.ones_like(y))
        return y + 2 * sigma * strength * along.cos() * across.cos()


@dataclass(frozen=True)
class ScannerLines(Noise):
    """level: standard deviation of the lines in grey levels (of 255), >= 0.

    Each row (or, with probability 1/2, each column) has a random offset, the same in all channels; white noise of a
    third of the level is added.
    """

    name: str = "scanner_lines"
    levels: tuple[float, float] = (1.0, 10.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "level of the lines", 0.0) / 255
        draws = Draws(generator, y.device, y.dtype)
        rows, columns = draws.normal((len(y), 1, y.shape[-2], 1)), draws.normal((len(y), 1, 1, y.shape[-1]))
        lines = torch.where(_coin(draws, len(y)), rows, columns)
        return y + sigma * (lines + draws.normal(y.shape) / 3)


def _coin(draws: Draws, batch: int, probability: float = 0.5) -> Tensor:
    """True with a probability for each image: (B, 1, 1, 1)."""
    return draws.uniform((batch, 1, 1, 1), 0, 1) < probability


_ALL: tuple[Noise, ...] = (
    GaussianNoise(),
    GaussianNoise("weak_gaussian", (0.3, 5.0)),
    GaussianNoise("strong_gaussian", (25.0, 60.0)),
    PoissonNoise(),
    CorrelatedNoise(),
    Grain(),
    Halftone(),
    ScannerLines(),
    JpegNoise(),
    JpegNoise("any_jpeg", (10.0, 98.0), full_chroma=0.3),
    ResizedJpegNoise(),
    Sharpened(),
    Demosaicked(),
    Denoised(),
)
NOISES: dict[str, Noise] = {noise.name: noise for noise in _ALL}
