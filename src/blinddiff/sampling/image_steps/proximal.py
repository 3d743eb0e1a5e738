"""The closed-form image step."""

from dataclasses import dataclass

from torch import Tensor

from blinddiff.degradation import DegradationOperator, data_weight
from blinddiff.sampling.image_steps.step import ImageContext, ImageCorrection


@dataclass(frozen=True)
class Proximal:
    """x0_hat <- argmin_x ||y - A(x, k_t)||^2 / 2 sigma^2 + rho_t / 2 ||x - x0_hat||^2, without back-propagation.

    rho_t is one over the variance expected of x0_hat's error at t, so that it follows the signal-to-noise ratio.
    """

    needs_gradient: bool = False

    def __call__(self, x_t: Tensor, x0_hat: Tensor, context: ImageContext) -> ImageCorrection:
        """See `ImageStep`."""
        rho = data_weight(context.noise_level, context.prior_error)
        operator = DegradationOperator(context.kernel, context.scale)
        return ImageCorrection(operator.proximal(context.y, x0_hat, rho))
