"""The guidance of the published code, for comparison."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.observation import Degradation, Observation

SHRINKAGE = 0.1


@dataclass(frozen=True)
class PublishedGuidance:
    """x_{t-1} <- x_{t-1} - grad_{x_t} (||y - A(x0_hat, k_t)|| + 0.1 ||x0_hat||), norms over an image, not squared.

    An image step (`sampling.image_steps.ImageStep`). Its strength halves each time the image's side doubles, and the
    second term pulls the image to black; `Gradient` has neither fault. The kernel depends on x_t through the network,
    and is differentiated too.

    Source: the released code of arXiv 2403.10211, as recorded.
    """

    needs_gradient: bool = True

    def __call__(
        self, x_t: Tensor, x0_hat: Tensor, observation: Observation, degradation: Degradation, prior_error: float
    ) -> tuple[Tensor, Tensor | float]:
        """See `ImageStep`."""
        residual = observation.y - degradation.operator(observation.scale)(x0_hat)
        norms = residual.flatten(1).norm(dim=1) + SHRINKAGE * x0_hat.flatten(1).norm(dim=1)
        (gradient,) = torch.autograd.grad(norms.sum(), x_t)
        return x0_hat.detach(), -gradient
