"""What a picture is taken for, and what follows from it; without torch, because the light engine decides alike."""

from collections.abc import Sequence
from dataclasses import dataclass

CERTAIN = 0.8
"""Probability from which a picture counts as enlarged."""
MIN_FACTOR = 1.3
"""Factor of enlargement below which reducing would lose more than it gains."""
SMALLEST_SIDE = 8
"""Smallest side of an LR image in pixels; smaller ones are too small to estimate a blur."""
AS_ESTIMATED = "as estimated"
FALLBACK_NAMES = ("with a milder data term", "with a kernel half as wide", "without deblurring")
"""What is tried, in this order, until a result is accepted; the last one always is."""


@dataclass(frozen=True)
class Decision:
    """What a picture was taken for, and how it was restored.

    Attributes:
        kind: one of `PICTURE_KINDS`.
        probability: of this kind.
        factor: by which the picture was enlarged before it came here; 1 if it was not.
        fallback: how it was restored: `AS_ESTIMATED`, or one of `FALLBACK_NAMES`.
    """

    kind: str
    probability: float
    factor: float
    fallback: str

    @property
    def sentence(self) -> str:
        """What the user should know; empty for a photograph that was restored as estimated."""
        if self.factor > 1:
            return f"enlarged {self.factor:.1f} times before: restored from its own size"
        if self.fallback != AS_ESTIMATED:
            return f"the estimate did not agree with the picture: restored {self.fallback}"
        return ""


def own_size(height: int, width: int, factor: float) -> tuple[int, int]:
    """Height and width of a picture before it was enlarged by a factor."""
    return max(SMALLEST_SIDE, round(height / factor)), max(SMALLEST_SIDE, round(width / factor))


def own_scale(scale: int, factor: float, scales: Sequence[int]) -> int:
    """The one of `scales` at which a picture is restored from its own size, for `scale` times its present one."""
    return next((each for each in scales if each > scale * factor - 0.25), scales[-1])
