"""The closed-form image step."""

from torch import Tensor

from blinddiff.degradation import DegradationOperator, data_weight
from blinddiff.sampling.image_steps.step import ImageContext


def proximal(x0_hat: Tensor, context: ImageContext) -> Tensor:
    """argmin_x ||y - A(x, k_t)||^2 / 2 sigma^2 + rho_t / 2 ||x - x0_hat||^2, without back-propagation.

    rho_t is one over the variance expected of x0_hat's error at t, so that it follows the signal-to-noise ratio.
    """
    rho = data_weight(context.noise_level, context.prior_error)
    return DegradationOperator(context.kernel, context.scale).proximal(context.y, x0_hat, rho)
