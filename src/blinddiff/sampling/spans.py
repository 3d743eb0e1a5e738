"""The geometry of tiles along one axis; without torch, because the light engine has the same tiles."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

HALO = 48
"""Width of the margin with weight 0 at a tile's inner edges, in HR pixels: network and operator lack context there. It
is larger than the reach of a 31x31 kernel plus x4 resampling."""
RAMP = 64
"""Width of the ramp between two tiles, in HR pixels."""
OVERLAP = 2 * HALO + RAMP  # of neighbouring tiles, in HR pixels


@dataclass(frozen=True, eq=False)
class Span:
    """One tile's extent along one axis, in HR pixels, and its blending weights, (stop - start,)."""

    start: int
    stop: int
    weights: NDArray[np.float32]


def spans(length: int, unit: int, side: int | None) -> list[Span]:
    """Tiles along an axis of a length: evenly spaced, equally long (the last may be cut), overlap >= `OVERLAP`.

    unit: tiles start at its multiples. side: maximum length of a tile; None for no tiling.
    """
    padded = -(-length // unit) * unit
    overlap = -(-OVERLAP // unit) * unit
    # from 2 * overlap on, a tile's two ramps do not overlap
    side = max((side or length) // unit * unit, 2 * overlap)
    if length <= side:
        return [Span(0, length, np.ones(length, np.float32))]
    count = -(-(padded - overlap) // (side - overlap))
    starts = [round(i * (padded - side) / (count - 1) / unit) * unit for i in range(count)]
    cuts = [(start + before + side) / 2 for before, start in pairwise(starts)]
    found = []
    for start, before, after in zip(starts, [None, *cuts], [*cuts, None], strict=True):
        positions = np.arange(start, min(start + side, length), dtype=np.float32) + 0.5
        weights = np.ones(len(positions), np.float32)
        for cut, sign in ((before, 1), (after, -1)):
            if cut is not None:  # sin^2 and cos^2 of neighbouring tiles sum to 1
                ramp = (sign * (positions - np.float32(cut)) / RAMP + 0.5).clip(0, 1)
                weights *= np.square(np.sin(ramp * np.float32(math.pi / 2)))
        found.append(Span(start, start + len(positions), weights))
    return found
