"""What of the forward model needs no torch: scales, range of the noise, weights of the downsampling."""

from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blinddiff.errors import ParameterError

SCALES = (1, 2, 3, 4)
"""Factors of downsampling."""


def check_noise_level(noise_level: float) -> None:
    """Raise ParameterError if a given noise level, in grey levels, is out of range."""
    if not isinstance(noise_level, Real) or not 0 <= noise_level <= 255:
        raise ParameterError(f"a noise level of {noise_level} is not between 0 and 255 grey levels")


def cubic(u: Any) -> Any:
    """Keys' cubic with a = -1/2, which preserves sum, centroid and second moments of what it interpolates.

    u: an array of NumPy, or a tensor.
    """
    u = abs(u)
    near = 1.5 * u**3 - 2.5 * u**2 + 1
    far = -0.5 * u**3 + 2.5 * u**2 - 4 * u + 2
    return near * (u <= 1) + far * ((u > 1) & (u < 2))


@lru_cache
def downsampling_taps(scale: int) -> tuple[NDArray[np.float64], int]:
    """Weights w and first offset d of antialiased bicubic downsampling: y[i] = sum_t w[t] x[scale * i + d + t].

    The weights sum to 1; they are centred on the middle of each block of ``scale`` samples.
    """
    centre = (scale - 1) / 2
    first = -2 * scale + (scale + 1) // 2
    offsets = np.arange(first, first + 4 * scale)
    weights = cubic((offsets - centre) / scale)
    return weights / weights.sum(), first
