"""Keeping a noise level that the user knows."""

from torch import Tensor

from blinddiff.models.mcformer import Prediction
from blinddiff.sampling.kernel_steps.step import KernelState, KernelStep


def keep_noise_level(kernel_step: KernelStep) -> KernelStep:
    """A kernel step that moves the kernel only, and leaves the noise level of the state before it."""

    def step(state: KernelState | None, prediction: Prediction, y: Tensor, scale: int) -> KernelState:
        moved = kernel_step(state, prediction, y, scale)
        return moved if state is None else KernelState(moved.kernel, state.noise_level)

    return step
