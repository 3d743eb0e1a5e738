"""What a picture is: a photograph at its own size, or one that was enlarged, drawn or dithered."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.fourier import rfft_at
from blinddiff.models.statistics import FINE_BLOCK, FINE_MAPS, STATISTICS, Statistics

PICTURE_KINDS = ("photograph", "enlarged", "drawing", "dithered")
LIMITS = ("consistency", "colour_shift", "clipped")
"""What is bounded: `BlindDiffOutput.consistency`; the shift of a channel's mean, in grey levels; the share of pixels at
black or white, beyond that of the input. The bounds are part of the weights, because they are calibrated for them."""
NO_LIMIT = 1e4  # weights have finite values, also in half precision
FLATNESS = 6
BINS = 64
"""Of frequencies from 0 to 1/2 cycle per pixel, see `interpolation_peaks`."""
PEAKS = 4 * BINS
PERIODOGRAM = 4096  # twice the number of frequencies
BIAS, SPREAD = 1.08, 0.12  # of the true factor relative to the rough one: median, deviation of the log
CANDIDATES = 400
LEAST_FACTOR = 1.25
JPEG_WIDTH = 100  # pixels: the inverse width of its peak
SMOOTHING = 15  # pixels over which a signal is averaged for its trend
HIDDEN = 64
START_LOGIT = 9.0  # for a photograph, before training


@dataclass(frozen=True, eq=False)
class PictureKind:
    """What pictures are, with calibrated probabilities.

    Attributes:
        probabilities: of `PICTURE_KINDS`, (B, 4).
        factor: by which each was enlarged, if it was, (B,); above 1.
        limits: bounds of acceptable results, see `LIMITS`.
    """

    probabilities: Tensor
    factor: Tensor
    limits: Tensor

    def of(self, kind: str) -> Tensor:
        """The probability of a kind, (B,)."""
        return self.probabilities[:, PICTURE_KINDS.index(kind)]


def flatness(y: Tensor) -> Tensor:
    """How few values an image (B, 3, h, w) has: (B, FLATNESS).

    Shares of pixels that equal their right and their lower neighbour, and that differ from them by 2 grey levels at
    most; logs of the shares of different colours of 8 bits and of 5 bits.
    """
    levels = (255 * y).round().long()
    steps = [levels.diff(dim=axis).abs().amax(1) for axis in (-1, -2)]
    shares = [(step <= most).float().mean((-2, -1)) for most in (0, 2) for step in steps]
    colours = []
    for bits in (8, 5):
        code = (levels >> (8 - bits)).flatten(2)
        code = (code[:, 0] << 16) + (code[:, 1] << 8) + code[:, 2]
        different = 1 + (code.sort(1).values.diff(dim=1) > 0).sum(1)
        colours.append((different / code.shape[1]).log())
    return torch.stack([*shares, *colours], 1)


def _periodicity(y: Tensor) -> list[Tensor]:
    """How periodic the differences of images (B, 3, h, w) are, at frequencies i / PERIODOGRAM from i = 1: (B, n) each.

    Interpolation makes the variance of the differences periodic: enlarged by a factor f, an image has a peak at 1 / f
    cycles per pixel (A. Gallagher, "Detection of linear and cubic interpolation in JPEG compressed images", 2005).
    First differences show it for every factor of whole numbers; second ones for every factor but 2, more clearly.
    Magnitudes over their median, along each axis, for both.
    """
    luma = y.float().mean(1)
    out = []
    for axis in (-1, -2):
        first = luma.diff(dim=axis)
        for differences in (first, first.diff(dim=axis)):
            signal = differences.abs().mean(-2 if axis == -1 else -1)
            trend = F.avg_pool1d(signal[:, None], SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)[:, 0]
            place = torch.arange(signal.shape[1], device=y.device) / (signal.shape[1] - 1)
            window = 0.5 - 0.5 * (2 * torch.pi * place).cos()  # Hann's
            magnitude = rfft_at((signal / (trend + 1e-4) - 1) * window, PERIODOGRAM)[:, 1:].abs()
            out.append(magnitude / (magnitude.median(1, keepdim=True).values + 1e-3))
    return out


def interpolation_peaks(y: Tensor) -> Tensor:
    """Logs of the largest values of `_periodicity` within each of `BINS`, for images (B, 3, h, w): (B, PEAKS)."""
    pooled = [F.max_pool1d(each[:, None], PERIODOGRAM // 2 // BINS)[:, 0] for each in _periodicity(y)]
    return (torch.cat(pooled, 1) + 1).log()


def exact_factor(y: Tensor, factor: Tensor) -> Tensor:
    """The factor of enlargement near a rough estimate (B,) that has the highest peak in the periodicity of y: (B,)."""
    total = sum(((each + 1).log() for each in _periodicity(y)), torch.zeros(()))
    ratio = torch.linspace(-3 * SPREAD, 3 * SPREAD, CANDIDATES, device=y.device)
    factors = BIAS * factor[:, None] * ratio.exp()
    frequency = 1 / factors
    frequency = torch.minimum(frequency, 1 - frequency)  # aliased
    peak = F.max_pool1d(total[:, None], 3, 1, 1)[:, 0]
    height = peak.gather(1, (PERIODOGRAM * frequency).round().long().clamp(1, PERIODOGRAM // 2) - 1)
    height = height - (ratio / SPREAD).square() / 2
    of_jpeg = (8 * frequency - 3).abs() < 8 / JPEG_WIDTH  # an odd multiple of 1/8: the peak of a file's 8-pixel blocks
    best = height.where(~of_jpeg & (factors >= LEAST_FACTOR), -torch.inf).argmax(1, keepdim=True)
    return factors.gather(1, best)[:, 0]


def pixel_statistics(y: Tensor) -> Tensor:
    """`flatness` and `interpolation_peaks` of images (B, 3, h, w): (B, FLATNESS + PEAKS)."""
    return torch.cat([flatness(y), interpolation_peaks(y)], 1)


class PictureClassifier(nn.Module):
    """`PictureKind` from the statistics of y and its `pixel_statistics`. Without training there are no limits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("limits", torch.full((len(LIMITS),), NO_LIMIT))
        self.limits: Tensor
        numbers = STATISTICS + FLATNESS + PEAKS
        self.normalise = nn.BatchNorm1d(numbers, affine=False, momentum=0.02)
        # The spectrum of an enlarged picture ends at a frequency that tells the factor.
        self.fine = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(FINE_MAPS * FINE_BLOCK * (FINE_BLOCK // 2 + 1), affine=False, momentum=0.02),
            nn.Unflatten(1, (FINE_MAPS, FINE_BLOCK, FINE_BLOCK // 2 + 1)),
            nn.Conv2d(FINE_MAPS, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(24 * 8 * 5, HIDDEN),
        )
        self.spectral = nn.Linear(numbers, HIDDEN)
        self.hidden = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU())
        self.last = nn.Linear(HIDDEN, len(PICTURE_KINDS) + 1)
        # Before training, every picture is a photograph.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.constant_(self.last.bias[:1], START_LOGIT)

    def forward(self, statistics: Statistics, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of `PICTURE_KINDS`, (B, 4), and the log of the factor of enlargement, (B,).

        pixels: `pixel_statistics` of the same images.
        """
        dtype = self.last.weight.dtype
        numbers = self.normalise(torch.cat([statistics.spectral, pixels], 1).to(dtype)).clamp(-6, 6)
        out = self.last(self.hidden(self.spectral(numbers) + self.fine(statistics.fine.to(dtype)))).float()
        return out[:, :-1], out[:, -1]

    def kind(self, statistics: Statistics, y: Tensor) -> PictureKind:
        """The kind of pictures y, (B, 3, h, w), with these statistics."""
        logits, log_factor = self(statistics, pixel_statistics(y))
        return PictureKind(logits.softmax(1), exact_factor(y, log_factor.exp().clamp_min(LEAST_FACTOR)), self.limits)
