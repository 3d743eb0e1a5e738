"""The kernel-aware gradient of the paper, through the network."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator
from blinddiff.sampling.image_steps.step import ImageContext, ImageCorrection


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
