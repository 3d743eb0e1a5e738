"""What an image step is: something that pulls a clean-image estimate towards agreement with y."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class ImageContext:
    """What an image step may use beside x0_hat.

    Attributes:
        y: LR image, (B, 3, h, w), in [0, 1].
        kernel: k_t, (B, n, m).
        noise_level: sigma, (B,), grey levels.
        scale: 1, 2, 3 or 4.
        prior_error: RMS error expected of x0_hat at this t, in [0, 1].
    """

    y: Tensor
    kernel: Tensor
    noise_level: Tensor
    scale: int
    prior_error: float


class ImageStep(Protocol):
    """Corrects x0_hat, (B, 3, H, W) in [0, 1], by the data term."""

    def __call__(self, x0_hat: Tensor, context: ImageContext) -> Tensor:
        """The corrected x0_hat, (B, 3, H, W)."""
        ...
