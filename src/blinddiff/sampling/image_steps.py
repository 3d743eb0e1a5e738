"""Image steps: how the clean-image estimate is made to agree with y. A new one is a class, listed in `IMAGE_STEPS`."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.observation import Degradation, Observation, data_weight
from blinddiff.published.sampler import PublishedGuidance

ImageCorrection: TypeAlias = tuple[Tensor, Tensor | float]
"""x0_hat for the diffusion step, (B, 3, H, W) in [0, 1], and what is added to x_{t-1} after it, in its range."""

MISFIT = 3.0
"""RMS of (x (*) (k_hat - k)) downsampled, in grey levels, where sum |k_hat - k| = 1: measured on photographs."""


class ImageStep(Protocol):
    """The data term's part in a step of the sampler."""

    @property
    def needs_gradient(self) -> bool:
        """Whether the prior step has to be recorded for back-propagation to x_t."""

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageCorrection:
        """Correct x0_hat, (B, 3, H, W) in [0, 1], which was made from x_t.

        Args:
            degradation: k_t and the noise level.
            prior_error: expected RMS error of x0_hat at this t, in [0, 1].
        """


@dataclass(frozen=True)
class NoStep(ImageStep):
    """x0_hat unchanged: the ablation."""

    needs_gradient: bool = False

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageCorrection:
        return x0_hat, 0.0


@dataclass(frozen=True)
class Proximal(ImageStep):
    """x0_hat <- argmin_x ||y - A(x, k_t)||^2 / 2 sigma^2 + rho_t / 2 ||x - x0_hat||^2, in closed form.

    rho_t is the inverse of the expected variance of x0_hat's error at t, so it follows the signal-to-noise ratio. sigma
    includes the misfit of an uncertain kernel: agreement with y under a wrong kernel makes the image worse.
    """

    needs_gradient: bool = False

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageCorrection:
        sigma = degradation.noise_level
        if degradation.kernel_error is not None:
            sigma = (sigma.square() + (MISFIT * degradation.kernel_error).square()).sqrt()
        operator = degradation.operator(observation.scale)
        return operator.proximal(observation.y, x0_hat, data_weight(sigma, prior_error)), 0.0


@dataclass(frozen=True)
class Gradient(ImageStep):
    """x_{t-1} <- x_{t-1} - zeta grad_{x_t} s^2 / 2 ||y - A(x0_hat(x_t), k_t)||^2, through the network.

    The energy is a sum over pixels, so a pixel's correction depends on its neighbourhood alone, not on the size of
    image or batch. A averages s^2 pixels, so s^2 gives zeta = 1 the length of a Newton step for the part of the image
    that y shows.

    Source: BlindDiff, arXiv 2403.10211, with the square of the norm for the norm.
    """

    zeta: float = 1.0
    needs_gradient: bool = True

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageCorrection:
        residual = observation.y - degradation.detach().operator(observation.scale)(x0_hat)
        energy = observation.scale**2 / 2 * residual.square().sum()
        (gradient,) = torch.autograd.grad(energy, x_t)
        return x0_hat.detach(), -self.zeta * gradient


IMAGE_STEPS: dict[str, ImageStep] = {
    "proximal": Proximal(),
    "gradient": Gradient(),
    "none": NoStep(),
    "published": PublishedGuidance(),
}
