"""What an image step is: something that pulls the clean-image estimate towards agreement with y."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator, data_weight


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


@dataclass(frozen=True)
class NoStep:
    """x0_hat as the network gave it."""

    needs_gradient: bool = False

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        return ImageCorrection(x0_hat)


MISFIT = 3.0
"""RMS of (x (*) (k_hat - k)) downsampled, in grey levels, where sum |k_hat - k| = 1: measured on photographs."""


@dataclass(frozen=True)
class Proximal:
    """x0_hat <- argmin_x ||y - A(x, k_t)||^2 / 2 sigma^2 + rho_t / 2 ||x - x0_hat||^2, without back-propagation.

    rho_t is one over the variance expected of x0_hat's error at t, so that it follows the signal-to-noise ratio. sigma
    counts what a wrong kernel adds to the noise: an image made to agree with y under it would be worse.
    """

    needs_gradient: bool = False

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        sigma = context.noise_level
        if context.kernel_error is not None:
            sigma = (sigma.square() + (MISFIT * context.kernel_error).square()).sqrt()
        rho = data_weight(sigma, context.prior_error)
        operator = DegradationOperator(context.kernel, context.scale)
        return ImageCorrection(operator.proximal(context.y, x0_hat, rho))


@dataclass(frozen=True)
class Gradient:
    """x_{t-1} <- x_{t-1} - zeta grad_{x_t} s^2 / 2 ||y - A(x0_hat(x_t), k_t)||^2.

    That is the mean-square residual per pixel times the number of pixels: each pixel's correction depends on its
    neighbourhood alone, not on the image's size or the batch. A averages s^2 pixels, so s^2 gives zeta = 1 the length
    of a Newton step for the part of the image that y shows.

    Source: BlindDiff, arXiv 2403.10211, with the square of the norm for the norm.
    """

    zeta: float = 1.0
    needs_gradient: bool = True

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        residual = context.y - DegradationOperator(context.kernel.detach(), context.scale)(x0_hat)
        energy = context.scale**2 / 2 * residual.square().sum()
        (gradient,) = torch.autograd.grad(energy, x_t)
        return ImageCorrection(x0_hat.detach(), -self.zeta * gradient)
