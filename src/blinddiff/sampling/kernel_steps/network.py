"""The kernel step that follows the network."""

import torch
from torch import Tensor

from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.step import KernelState


def network(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:  # noqa: ARG001
    """k_t <- k_hat_t: this step's estimate. The published network knows no noise; its noise level is 0."""
    noise_level = torch.zeros(len(y)).to(y) if prediction.noise_level is None else prediction.noise_level
    return KernelState(prediction.kernel, noise_level)
