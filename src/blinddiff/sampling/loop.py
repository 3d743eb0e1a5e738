"""The MAP loop: image and kernel are refined alternately along the reverse diffusion.

{x*, k*} = argmax log p(y | x, k) + log p(k | y, x) + log p(x); p(k | y, x) is a learned conditional model, not a prior.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.observation import START_ERROR, Degradation, Observation
from blinddiff.models.denoiser import Denoiser, add_noise
from blinddiff.sampling.image_steps import ImageStep
from blinddiff.sampling.kernel_steps import KernelStep
from blinddiff.sampling.schedulers import NoiseSource, Scheduler

OnStep = Callable[[int, int, Tensor, Tensor, Tensor], Tensor | None]
"""Called after each step with its index, t, x_{t-1}, x0_hat in [0, 1] and k_t; a returned tensor replaces x_{t-1}."""


@dataclass
class Restored:
    """The loop's result.

    Attributes:
        image: x_0, (B, 3, H, W), in [0, 1] up to overshoot.
        kernels: k_t of every step, (B, n, m) each.
        degradation: kernel and noise level of the last step.
    """

    image: Tensor
    kernels: list[Tensor]
    degradation: Degradation


def restore(
    denoiser: Denoiser,
    scheduler: Scheduler,
    observation: Observation,
    degradation: Degradation | None,
    noise: NoiseSource,
    image_step: ImageStep,
    kernel_step: KernelStep,
    on_step: OnStep | None = None,
) -> Restored:
    """Run the reverse diffusion over the scheduler's timesteps.

    Args:
        degradation: initial kernel and noise level; None if neither is given or estimated from y.
        noise: draws standard normal noise, (B, 3, H, W).
        observation, denoiser, scheduler, image_step, kernel_step: see their modules.
    """
    x_t = add_noise(denoiser, denoiser.closed_form_image(observation, degradation), scheduler.timesteps[0], noise())
    kernels = []
    for index, t in enumerate(scheduler.timesteps):
        x_t.requires_grad_(image_step.needs_gradient)
        with torch.set_grad_enabled(image_step.needs_gradient):
            # 1. Prior step: predict clean image and degradation from x_t.
            prediction = denoiser(x_t, t.expand(len(observation)), observation, degradation)
            # 2. Kernel step: update kernel and noise level from the prediction.
            degradation = kernel_step(degradation, prediction, observation)
            # 3. Image step (data consistency): the less noise in x_t, the larger the weight of x0_hat. Pixels of y that
            # are not believed are replaced by A x0_hat, here and for the next prior step.
            prior_error = START_ERROR * denoiser.relative_error(t)
            observation = observation.filled(degradation.detach(), prediction.x0_hat.detach())
            x0_hat, guidance = image_step(x_t, prediction.x0_hat, observation, degradation, prior_error)
        # 4. Diffusion step: x_{t-1} from x_t and the corrected x0_hat.
        x_t = scheduler.step(x_t.detach(), t, denoiser.normalize(x0_hat), prediction, noise).detach() + guidance
        degradation = degradation.detach()  # frees this step's autograd graph
        kernels.append(degradation.kernel)
        if on_step is not None:
            replacement = on_step(index, int(t), x_t, x0_hat, degradation.kernel)
            x_t = x_t if replacement is None else replacement
    assert degradation is not None  # a scheduler has at least one timestep
    return Restored(denoiser.denormalize(x_t), kernels, degradation)
