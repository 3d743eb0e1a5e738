"""The closed-form image step."""

from dataclasses import dataclass

from torch import Tensor

from blinddiff.degradation import DegradationOperator, data_weight
from blinddiff.sampling.image_steps.step import ImageContext, ImageCorrection

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
