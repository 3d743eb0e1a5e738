"""The MAP kernel step: least squares with the network's estimate for a prior."""

from torch import Tensor

from blinddiff.degradation.kernel_least_squares import fit_kernel
from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.network import network
from blinddiff.sampling.kernel_steps.step import KernelState

WEIGHT = 0.01


def refine(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
    """k_t <- argmin_k mean |y - A(x0_hat, k)|^2 + lambda ||k - k_hat_t||^2, k on the simplex.

    lambda = 0.01 (1 + sigma^2), sigma in grey levels: the more noise, the less the fit is trusted. y and x0_hat are the
    means of the channels, which have one kernel. x0_hat is the network's, before the image step: one that agrees with y
    under k_t would only give k_t back.
    """
    estimate = network(state, prediction, y, scale)
    grey, grey_hat = (image.mean(1, keepdim=True) for image in (y, prediction.x0_hat.detach()))
    weight = WEIGHT * (1 + estimate.noise_level.square())
    return KernelState(fit_kernel(grey, grey_hat, estimate.kernel, weight, scale), estimate.noise_level)
