"""The kernel step that goes part of the way."""

from torch import Tensor

from blinddiff.models.kernel_correction import LEAST
from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.network import network
from blinddiff.sampling.kernel_steps.step import KernelState

SHARE = 0.3


def damped(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
    """log k_t <- log k_{t+1} + eta (log k_hat_t - log k_{t+1}), on the simplex; eta = 0.3. The noise level likewise.

    A shorter step of the mirror descent that the network proposes: its direction is right more often than its length,
    and it is taken anew at each step.
    """
    estimate = network(state, prediction, y, scale)
    if state is None or state.kernel.shape != estimate.kernel.shape:
        return estimate
    before, after = ((kernel.clamp_min(0) + LEAST).log().flatten(1) for kernel in (state.kernel, estimate.kernel))
    kernel = before.lerp(after, SHARE).softmax(1).view_as(estimate.kernel)
    return KernelState(kernel, state.noise_level.lerp(estimate.noise_level, SHARE))
