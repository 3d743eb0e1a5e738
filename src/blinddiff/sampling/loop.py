"""The MAP loop: image and kernel made by turns along the reverse diffusion.

{x*, k*} = argmax log p(y | x, k) + log p(k | y, x) + log p(x)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.operator import PRIOR_ERROR
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.image_steps import ImageContext, ImageStep
from blinddiff.sampling.kernel_steps import KernelState, KernelStep
from blinddiff.sampling.noise import NoiseSource
from blinddiff.sampling.schedulers import Scheduler
from blinddiff.sampling.wrappers import TiledNetwork

StepCallback = Callable[[int, int, Tensor, Tensor, Tensor], None]
"""Called after each step with its index, t, x_{t-1}, x0_hat in [0, 1] and k_t."""


@dataclass
class Restored:
    """What the loop ends with: the image, (B, 3, H, W) in [0, 1] up to overshoot, and the state of every step."""

    image: Tensor
    states: list[KernelState]


def restore(
    network: MCFormer | TiledNetwork,
    scheduler: Scheduler,
    y: Tensor,
    scale: int,
    state: KernelState | None,
    noise: NoiseSource,
    image_step: ImageStep,
    kernel_step: KernelStep,
    on_step_end: StepCallback | None = None,
    kernel_error: Tensor | None = None,
) -> Restored:
    """Run the reverse diffusion over the scheduler's timesteps.

    Args:
        y: LR image, (B, 3, h, w), in [0, 1].
        state: the first kernel and noise level, see `MCFormer.estimate`; None for a network that has none to give.
        kernel_error: how far off the kernel is expected to be, see `ImageContext`.
        network, image_step, kernel_step: see their folders, and `tiles` for those that go tile by tile.
    """
    # 0. What physics alone says of the image, and the start: noise around it.
    x_y = network.first_image(y, state, scale)
    x_t = network.add_noise(x_y, scheduler.timesteps[0], noise())
    states = []
    for index, t in enumerate(scheduler.timesteps):
        # 1. Prior step: clean image and kernel from x_t.
        x_t.requires_grad_(image_step.needs_gradient)
        with torch.set_grad_enabled(image_step.needs_gradient):
            kernel, noise_level = (None, None) if state is None else state
            view = scheduler.views[index]
            prediction = network(x_t, t.expand(len(y)), y, scale, kernel, noise_level, x_y, view=view)
            # 2. Kernel step: the better image gives a better kernel.
            before, state = state, kernel_step(state, prediction, y, scale)
            # 3. Image step: agreement with y, trusting x0_hat the more the less noise x_t had.
            prior_error = PRIOR_ERROR * network.remaining_error(t)
            context = ImageContext(y, state.kernel, state.noise_level, scale, prior_error, kernel_error)
            x0_hat, shift = image_step(x_t, prediction.x0_hat, context)
        # 4. Diffusion step.
        x_t = scheduler.step(x_t.detach(), t, network.to_diffusion(x0_hat), prediction, noise).detach() + shift
        if state is not before:
            state = KernelState(*(part.detach() for part in state))  # this step's graph ends here
            if index + 1 < len(scheduler.timesteps):
                x_y = network.first_image(y, state, scale)
        states.append(state)
        if on_step_end is not None:
            on_step_end(index, int(t), x_t, x0_hat, state.kernel)
    return Restored(network.to_image(x_t), states)
