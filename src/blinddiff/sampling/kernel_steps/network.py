"""The kernel step that follows the network."""

from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.step import KernelState


def network(state: KernelState, prediction: Prediction) -> KernelState:
    """k_t is the mean of all estimates so far, k_hat_t the newest: single steps err more than their mean."""
    share = 1 / (state.estimates + 1)
    noise_level = state.noise_level
    if prediction.noise_level is not None:
        noise_level = noise_level + share * (prediction.noise_level - noise_level)
    return KernelState(state.kernel + share * (prediction.kernel - state.kernel), noise_level, state.estimates + 1)
