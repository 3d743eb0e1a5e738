"""What is known of a degradation."""

from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A kernel (B, size, size), on the simplex, and a noise level (B,) in grey levels."""

    kernel: Tensor
    noise_level: Tensor
