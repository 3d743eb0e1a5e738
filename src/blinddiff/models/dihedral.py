"""The eight views of a picture: turned by quarter turns, plain and mirrored."""

from torch import Tensor

VIEWS = 8
HALF_A_TURN = 2
SEEN_BY_SPECTRA = (0, 1, 4, 5)
"""Four of them, no two half a turn apart: that leaves a power spectrum as it is."""


def turned(image: Tensor, view: int) -> Tensor:
    """(..., H, W) turned by ``view`` quarter turns against the clock; from view 4 on, mirrored left to right before."""
    mirrored = image.flip(-1) if view >= VIEWS // 2 else image
    return mirrored.rot90(view % 4, (-2, -1))


def turned_back(image: Tensor, view: int) -> Tensor:
    """The inverse of `turned`."""
    mirrored = image.rot90(-view % 4, (-2, -1))
    return mirrored.flip(-1) if view >= VIEWS // 2 else mirrored
