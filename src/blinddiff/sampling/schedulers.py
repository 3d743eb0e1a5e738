"""diffusers' schedulers, by name, over MCFormer's noise schedule."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from blinddiff.errors import ParameterError
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.noise_schedule import NUM_TRAIN_TIMESTEPS, betas

SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "dpm-solver++": DPMSolverMultistepScheduler,
}


def make_scheduler(name: str, network: MCFormer) -> SchedulerMixin:
    """A scheduler of diffusers for x0-prediction over the network's noise schedule, last timestep first.

    Raises:
        ParameterError: the name is unknown.
    """
    if name not in SCHEDULERS:
        raise ParameterError(f"scheduler {name!r} is not one of {', '.join(SCHEDULERS)}")
    options = {
        "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
        "trained_betas": betas(network.config.noise_schedule).tolist(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }
    if name != "dpm-solver++":
        options["clip_sample"] = False
    return SCHEDULERS[name].from_config(options)


class Scheduler:
    """A diffusers scheduler set to a number of steps, its noise drawn by the sampler, image by image."""

    def __init__(self, scheduler: Any, num_inference_steps: int, device: torch.device) -> None:
        if not 1 <= num_inference_steps <= NUM_TRAIN_TIMESTEPS:
            raise ParameterError(f"{num_inference_steps} inference steps: 1 to {NUM_TRAIN_TIMESTEPS} are possible")
        self._scheduler = scheduler
        scheduler.set_timesteps(num_inference_steps, device=device)
        self.timesteps: Tensor = scheduler.timesteps

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, noise: Callable[[], Tensor]) -> Tensor:
        """x_{t-1} from x_t and x0_hat, both in the range in which x_t is noised."""
        stepped: Tensor = self._scheduler.step(x0_hat, t, x_t, return_dict=False)[0]
        return stepped
