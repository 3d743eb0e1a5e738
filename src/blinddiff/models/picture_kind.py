"""What a picture is: a photograph at its own size, or one that was enlarged, drawn or dithered."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blinddiff.models.statistics import FINE_BLOCK, FINE_MAPS, STATISTICS, Statistics

PICTURE_KINDS = ("photograph", "enlarged", "drawing", "dithered")
LIMITS = ("consistency", "colour_shift", "clipped")
"""What is bounded: `BlindDiffOutput.consistency`; the shift of a channel's mean, in grey levels; the share of pixels at
black or white, beyond that of the input. The bounds are part of the weights, because they are calibrated for them."""
NO_LIMIT = 1e4  # weights have finite values, also in half precision
FLATNESS = 6
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


class PictureClassifier(nn.Module):
    """`PictureKind` from the statistics of y and its flatness. Without training there are no limits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("limits", torch.full((len(LIMITS),), NO_LIMIT))
        self.limits: Tensor
        self.normalise = nn.BatchNorm1d(STATISTICS + FLATNESS, affine=False, momentum=0.02)
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
        self.spectral = nn.Linear(STATISTICS + FLATNESS, HIDDEN)
        self.hidden = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU())
        self.last = nn.Linear(HIDDEN, len(PICTURE_KINDS) + 1)
        # Before training, every picture is a photograph.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.constant_(self.last.bias[:1], START_LOGIT)

    def forward(self, statistics: Statistics, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of `PICTURE_KINDS`, (B, 4), and the log of the factor of enlargement, (B,)."""
        dtype = self.last.weight.dtype
        numbers = self.normalise(torch.cat([statistics.spectral, flat], 1).to(dtype)).clamp(-6, 6)
        out = self.last(self.hidden(self.spectral(numbers) + self.fine(statistics.fine.to(dtype)))).float()
        return out[:, :-1], out[:, -1]

    def kind(self, statistics: Statistics, flat: Tensor) -> PictureKind:
        """The kind of pictures."""
        logits, log_factor = self(statistics, flat)
        return PictureKind(logits.softmax(1), log_factor.exp().clamp_min(1.0), self.limits)
