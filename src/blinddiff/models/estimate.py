"""What is known of a degradation."""

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """A kernel (B, size, size), on the simplex, and a noise level (B,) in grey levels."""

    kernel: Tensor
    noise_level: Tensor


def scale_code(scale: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Which of a network's scales each image's is, one-hot: (B,) -> (B, ``scales``)."""
    return (scale[:, None] == torch.tensor(scales, device=scale.device)).float()
