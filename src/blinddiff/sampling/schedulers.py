"""The diffusion step: diffusers' schedulers by name, two of our own, and the noise source."""

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import diffusers
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from blinddiff.errors import ParameterError, WeightsError
from blinddiff.models.denoiser import NUM_TRAIN_TIMESTEPS, Denoiser, Prediction, betas
from blinddiff.published.sampler import PublishedDiffusion

Generators = torch.Generator | Sequence[torch.Generator] | None


class NoiseSource:
    """Draws standard normal noise, (B, 3, H, W): from one generator, one per image, or the global one (None).

    With one generator per image, an image's noise does not depend on the rest of the batch. Numbers are drawn on the
    generator's device, so that a seed gives the same noise on every device.
    """

    def __init__(self, shape: tuple[int, int, int, int], generator: Generators, device: torch.device) -> None:
        self.generators = list(generator) if isinstance(generator, Sequence) else generator
        self._shape, self._device = shape, device

    def __call__(self) -> Tensor:
        """(B, 3, H, W) new noise."""
        if isinstance(self.generators, list):
            return torch.cat([self._draw((1, *self._shape[1:]), each) for each in self.generators])
        return self._draw(self._shape, self.generators)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        home = "cpu" if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=home).to(self._device)


class Scheduler(Protocol):
    """The timesteps of the reverse diffusion, and the step from one to the next."""

    timesteps: Tensor

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        """x_{t-1} from x_t and the corrected x0_hat, both normalised to the value range of x_t."""


class LibraryScheduler(Scheduler):
    """A scheduler of diffusers for x0-prediction."""

    def __init__(self, scheduler: Any, num_inference_steps: int, device: torch.device) -> None:
        self._scheduler = scheduler
        self._draws = "generator" in inspect.signature(scheduler.step).parameters
        scheduler.set_timesteps(num_inference_steps, device=device)
        self.timesteps: Tensor = scheduler.timesteps

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        drawing = {"generator": noise.generators} if self._draws else {}
        return self._scheduler.step(x0_hat, t, x_t, return_dict=False, **drawing)[0]


class PosteriorMean(Scheduler):
    """Every step is at the last timestep, from the same pure noise; the result is the mean of all x0_hat.

    Each x0_hat estimates the posterior mean, with the kernel updated in between.
    """

    def __init__(self, num_inference_steps: int, device: torch.device) -> None:
        self.timesteps = torch.full((num_inference_steps,), NUM_TRAIN_TIMESTEPS - 1, device=device)
        self._done = 0
        self._mean: Tensor | None = None

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        self._done += 1
        self._mean = x0_hat if self._mean is None else self._mean.lerp_(x0_hat, 1 / self._done)
        return x_t if self._done < len(self.timesteps) else self._mean


def _library(kind: Any, **options: Any) -> Callable[[Denoiser, int, torch.device], Scheduler]:
    return lambda denoiser, steps, device: LibraryScheduler(library_scheduler(kind, denoiser, **options), steps, device)


def library_scheduler(kind: Any, denoiser: Denoiser, **options: Any) -> Any:
    """A scheduler class of diffusers, configured for a denoiser: x0-prediction, its schedule, trailing timesteps."""
    return kind.from_config(
        {
            "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
            "trained_betas": betas(denoiser.config.noise_schedule).tolist(),
            "prediction_type": "sample",
            "timestep_spacing": "trailing",
            **options,
        }
    )


SCHEDULERS: dict[str, Callable[[Denoiser, int, torch.device], Scheduler]] = {
    "mean": lambda _, steps, device: PosteriorMean(steps, device),
    "ddim": _library(DDIMScheduler, clip_sample=False),
    "ddpm": _library(DDPMScheduler, clip_sample=False),
    "dpm-solver++": _library(DPMSolverMultistepScheduler),
    "published": lambda denoiser, steps, device: PublishedDiffusion(denoiser.config.noise_schedule, steps, device),
}


def make_scheduler(
    name: str, denoiser: Denoiser, num_inference_steps: int, device: torch.device, own: Any = None
) -> Scheduler:
    """A scheduler by name, set to a number of steps; ``"own"`` is the given scheduler of diffusers.

    Raises ParameterError for an unknown name, or a number of steps that is not between 1 and 1000.
    """
    if name not in ("own", *SCHEDULERS):
        raise ParameterError(f"scheduler {name!r} is not one of own, {', '.join(SCHEDULERS)}")
    if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= NUM_TRAIN_TIMESTEPS:
        raise ParameterError(f"num_inference_steps must be 1 to {NUM_TRAIN_TIMESTEPS}, not {num_inference_steps}")
    if name == "own":
        return LibraryScheduler(own, num_inference_steps, device)
    return SCHEDULERS[name](denoiser, num_inference_steps, device)


def default_scheduler(denoiser: Denoiser) -> DDIMScheduler:
    """DDIM over a denoiser's noise schedule."""
    return library_scheduler(DDIMScheduler, denoiser, clip_sample=False)


def saved_scheduler(weights: str | os.PathLike[str], denoiser: Denoiser) -> Any:
    """The scheduler saved in a pipeline's folder; DDIM if there is none, or for the hub.

    Raises WeightsError if the saved scheduler cannot be loaded.
    """
    folder = Path(weights) / "scheduler"
    if not folder.is_dir():
        return default_scheduler(denoiser)
    try:
        config = DDIMScheduler.load_config(folder)
        return getattr(diffusers, config["_class_name"]).from_config(config)
    except Exception as error:  # diffusers raises errors of many kinds
        raise WeightsError(f"{folder}: holds no scheduler of diffusers: {' '.join(str(error).split())}") from error
