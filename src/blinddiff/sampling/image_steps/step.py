"""What an image step is: something that pulls the clean-image estimate towards agreement with y."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


@dataclass
class ImageContext:
    """What an image step may use beside x_t and x0_hat.

    Attributes:
        y: LR image, (B, 3, h, w), in [0, 1].
        kernel: k_t, (B, n, m).
        noise_level: sigma, (B,), grey levels.
        scale: 1, 2, 3 or 4.
        prior_error: RMS error expected of x0_hat at this t, in [0, 1].
        kernel_error: what sum |k_t - k| is expected to be, (B,), from 0 to 2; None for a kernel that is given,
            also where it is only the start: how far off that is, only its giver knows.
    """

    y: Tensor
    kernel: Tensor
    noise_level: Tensor
    scale: int
    prior_error: float
    kernel_error: Tensor | None = None


class ImageCorrection(NamedTuple):
    """x0_hat for the diffusion step, (B, 3, H, W) in [0, 1], and what is added to x_{t-1} after it, in its range."""

    x0_hat: Tensor
    shift: Tensor | float = 0.0


class ImageStep(Protocol):
    """The data term's part in a step of the sampler."""

    @property
    def needs_gradient(self) -> bool:
        """Whether the prior step has to be recorded for back-propagation to x_t."""
        ...

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """The correction by the data term; x0_hat, (B, 3, H, W) in [0, 1], was made from x_t."""
        ...
