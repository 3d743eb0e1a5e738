"""diffusers' schedulers, by name, over MCFormer's noise schedule."""

from inspect import signature
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin
from torch import Tensor

from blinddiff.errors import ParameterError, WeightsError
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


def saved_scheduler(weights: str | Path, network: MCFormer) -> Any:
    """The scheduler that a pipeline's folder was saved with; DDIM for a folder without, or the hub.

    Raises:
        WeightsError: what is saved there is not a scheduler of diffusers.
    """
    folder = Path(weights) / "scheduler"
    if not folder.is_dir():
        return make_scheduler("ddim", network)
    try:
        config = DDIMScheduler.load_config(folder)
        return getattr(diffusers, config["_class_name"]).from_config(config)
    except Exception as error:  # diffusers raises errors of many kinds
        raise WeightsError(f"{folder}: holds no scheduler of diffusers: {' '.join(str(error).split())}") from error


class Scheduler:
    """A diffusers scheduler set to a number of steps, its noise drawn from the user's generator, or one an image."""

    def __init__(
        self,
        scheduler: Any,
        num_inference_steps: int,
        device: torch.device,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> None:
        if not 1 <= num_inference_steps <= NUM_TRAIN_TIMESTEPS:
            raise ParameterError(f"{num_inference_steps} inference steps: 1 to {NUM_TRAIN_TIMESTEPS} are possible")
        self._scheduler = scheduler
        # Deterministic schedulers of diffusers may not take one.
        self._noise = {"generator": generator} if "generator" in signature(scheduler.step).parameters else {}
        scheduler.set_timesteps(num_inference_steps, device=device)
        self.timesteps: Tensor = scheduler.timesteps

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor) -> Tensor:
        """x_{t-1} from x_t and x0_hat, both in the range in which x_t is noised."""
        stepped: Tensor = self._scheduler.step(x0_hat, t, x_t, return_dict=False, **self._noise)[0]
        return stepped
