"""Keeping a noise level that the user knows."""

import torch
from torch import Tensor

from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.step import KernelState, KernelStep


def keep_noise_level(kernel_step: KernelStep, noise_level: float) -> KernelStep:
    """A kernel step that moves the kernel only, beside a noise level in grey levels."""

    def step(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        moved = kernel_step(state, prediction, y, scale)
        if moved is state:  # it stays, and what was made for it can stay too
            return moved
        return KernelState(moved.kernel, torch.full((len(y),), noise_level).to(moved.noise_level))

    return step
