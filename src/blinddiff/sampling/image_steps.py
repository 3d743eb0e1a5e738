"""Image steps: data consistency for x0_hat. To add one, write a class and register it in `IMAGE_STEPS`."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from blinddiff.degradation.observation import Degradation, Observation, proximal_weight
from blinddiff.published.sampler import PublishedGuidance

ImageStepOutput: TypeAlias = tuple[Tensor, Tensor | float]
"""x0_hat for the diffusion step, (B, 3, H, W) in [0, 1], and the guidance to add to x_{t-1}, in x_t's value range."""

RESIDUAL_PER_KERNEL_ERROR = 3.0
"""RMS residual in grey levels per unit of kernel error sum |k_hat - k|, measured on photographs."""


class ImageStep(Protocol):
    """Applies the data term in one step of the sampler."""

    @property
    def needs_gradient(self) -> bool:
        """Whether it needs a gradient with respect to x_t, through the prior step."""

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageStepOutput:
        """Correct x0_hat, (B, 3, H, W) in [0, 1], which was predicted from x_t.

        Args:
            degradation: k_t and the noise level.
            prior_error: expected RMS error of x0_hat at this t, for images in [0, 1].
        """


@dataclass(frozen=True)
class NoStep(ImageStep):
    """Leaves x0_hat unchanged (ablation: no data consistency)."""

    needs_gradient: bool = False

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageStepOutput:
        return x0_hat, 0.0


@dataclass(frozen=True)
class Proximal(ImageStep):
    """x0_hat <- argmin_x ||y - A(x, k_t)||^2 + rho_t ||x - x0_hat||^2, in closed form.

    rho_t(f) = (S_n(f) + sigma_k^2 + sigma_model^2) / (expected RMS error of x0_hat at t)^2. sigma_k is the residual
    that the expected kernel error causes: consistency with y under a wrong kernel makes the image worse.
    """

    needs_gradient: bool = False

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageStepOutput:
        power = degradation.noise_power()
        if degradation.expected_kernel_error is not None:
            sigma_k = RESIDUAL_PER_KERNEL_ERROR * degradation.expected_kernel_error
            power = power + sigma_k.square().view(-1, *(1,) * (power.ndim - 1))
        operator = degradation.operator(observation.scale)
        return operator.proximal(observation.y, x0_hat, proximal_weight(power, prior_error)), 0.0


@dataclass(frozen=True)
class Gradient(ImageStep):
    """x_{t-1} <- x_{t-1} - zeta grad_{x_t} s^2 / 2 ||y - A(x0_hat(x_t), k_t)||^2, through the network.

    The squared norm is a sum over pixels, so the change of a pixel does not depend on the size of image or batch. At
    low frequencies A A^T is about 1/s^2, so with the factor s^2, zeta = 1 is about one Newton step there (up to the
    Jacobian of x0_hat).

    Source: BlindDiff, arXiv 2403.10211, which has the norm instead, without s^2 / 2 (see `PublishedGuidance`).
    """

    zeta: float = 1.0
    needs_gradient: bool = True

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> ImageStepOutput:
        residual = observation.y - degradation.detach().operator(observation.scale)(x0_hat)
        data_term = observation.scale**2 / 2 * residual.square().sum()
        (gradient,) = torch.autograd.grad(data_term, x_t)
        return x0_hat.detach(), -self.zeta * gradient


IMAGE_STEPS: dict[str, ImageStep] = {
    "proximal": Proximal(),
    "gradient": Gradient(),
    "none": NoStep(),
    "published": PublishedGuidance(),
}
