"""The kernel step that goes part of the way."""

from torch import Tensor

from blinddiff.degradation.kernels import fit_size
from blinddiff.models.kernel_correction import mirror_step, way
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
    if state is None:
        return estimate
    before = fit_size(state.kernel, estimate.kernel.shape[-1], max_cut=1.0)  # a given one may be of any size
    kernel = mirror_step(before, SHARE * way(before, estimate.kernel))
    return KernelState(kernel, state.noise_level.lerp(estimate.noise_level, SHARE))
