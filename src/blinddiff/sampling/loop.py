"""The MAP loop: image and kernel made by turns along the reverse diffusion.

{x*, k*} = argmax log p(y | x, k) + log p(k | y, x) + log p(x)
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from blinddiff.degradation import closed_form
from blinddiff.degradation.closed_form import PRIOR_ERROR
from blinddiff.models.mcformer import MCFormer
from blinddiff.sampling.image_steps import ImageContext, ImageStep
from blinddiff.sampling.kernel_steps import KernelState, KernelStep
from blinddiff.sampling.schedulers import Scheduler

StepCallback = Callable[[int, int, Tensor, Tensor, Tensor], None]
"""Called after each step with its index, t, x_t, x0_hat in [0, 1] and k_t."""


@dataclass
class Sample:
    """What the loop ends with: the image (B, 3, H, W) in [0, 1] up to overshoot, and the kernel's state."""

    image: Tensor
    kernel: KernelState


def restore(
    network: MCFormer,
    scheduler: Scheduler,
    y: Tensor,
    scale: int,
    state: KernelState,
    noise: Tensor,
    image_step: ImageStep,
    kernel_step: KernelStep,
    on_step_end: StepCallback | None = None,
) -> Sample:
    """Run the reverse diffusion over the scheduler's timesteps.

    Args:
        y: LR image, (B, 3, h, w), in [0, 1].
        state: the first kernel and noise level, see `MCFormer.estimate`.
        noise: standard normal, (B, 3, s*h, s*w); the start.
        image_step, kernel_step: see their folders.
    """
    # 0. What physics alone says, and the start: noise around it.
    x_y = closed_form(y, state.kernel, state.noise_level, scale)
    a = network.alpha_bar[scheduler.timesteps[0]]
    x_t = a.sqrt() * network.to_diffusion(x_y) + (1 - a).sqrt() * noise

    for index, t in enumerate(scheduler.timesteps):
        # 1. Prior step: clean image and kernel from x_t.
        prediction = network(x_t, t.expand(len(y)), y, scale, state.kernel, state.noise_level, x_y)
        # 2. Kernel step.
        before, state = state, kernel_step(state, prediction)
        if state is not before:
            x_y = closed_form(y, state.kernel, state.noise_level, scale)
        # 3. Image step: agreement with y, trusting x0_hat the more the less noise x_t had.
        error = PRIOR_ERROR * network.remaining_error(t)
        context = ImageContext(y, state.kernel, state.noise_level, scale, error)
        x0_hat = image_step(prediction.x0_hat, context)
        # 4. Diffusion step.
        x_t = scheduler.step(x_t, t, network.to_diffusion(x0_hat))
        if on_step_end is not None:
            on_step_end(index, int(t), x_t, x0_hat, state.kernel)
    return Sample(network.to_image(x_t), state)
