"""The diffusion step: diffusers' schedulers, the posterior mean, the published sampler, and the noise source."""

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
from blinddiff.sampling.arguments import choice, short_repr, whole_number_between

Generators = torch.Generator | Sequence[torch.Generator] | None


class NoiseSource:
    """Draws standard normal noise, (B, 3, H, W), from one generator, one per image, or torch's global one (None).

    With one generator per image, an image's noise does not depend on the rest of the batch. Numbers are drawn on the
    generator's device: a CPU generator (or None) gives the same noise for every device, a CUDA generator other noise.
    """

    def __init__(self, shape: tuple[int, int, int, int], generator: Generators, device: torch.device) -> None:
        self.generators = list(generator) if isinstance(generator, Sequence) else generator
        self._shape, self._device = shape, device

    def __call__(self) -> Tensor:
        """Draw new noise, (B, 3, H, W)."""
        if isinstance(self.generators, list):
            return torch.cat([self._draw((1, *self._shape[1:]), each) for each in self.generators])
        return self._draw(self._shape, self.generators)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        source = "cpu" if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=source, dtype=torch.float32).to(self._device)


class Scheduler(Protocol):
    """The timesteps of the reverse diffusion, in sampling order, and the step from each to the next."""

    timesteps: Tensor

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        """x_{t-1} from x_t and the corrected x0_hat, all in the network's value range, see `Denoiser.normalize`."""


class DiffusersScheduler(Scheduler):
    """Adapts a diffusers scheduler for x0-prediction."""

    def __init__(self, scheduler: Any, num_inference_steps: int, device: torch.device) -> None:
        self._scheduler = scheduler
        self._takes_generator = "generator" in inspect.signature(scheduler.step).parameters
        scheduler.set_timesteps(num_inference_steps, device=device)
        self.timesteps: Tensor = scheduler.timesteps

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        options = {"generator": noise.generators} if self._takes_generator else {}
        return self._scheduler.step(x0_hat, t, x_t, return_dict=False, **options)[0]


class PosteriorMean(Scheduler):
    """Every step starts from the same x_T, at t = T, the noisiest timestep; the result is the mean of all x0_hat.

    There x_t contains almost no information, so each x0_hat estimates the posterior mean, with the latest kernel.
    """

    def __init__(self, num_inference_steps: int, device: torch.device) -> None:
        self.timesteps = torch.full((num_inference_steps,), NUM_TRAIN_TIMESTEPS - 1, device=device)
        self._done = 0
        self._mean: Tensor | None = None

    def step(self, x_t: Tensor, t: Tensor, x0_hat: Tensor, prediction: Prediction, noise: NoiseSource) -> Tensor:
        self._done += 1
        self._mean = x0_hat if self._mean is None else self._mean.lerp_(x0_hat, 1 / self._done)
        return x_t if self._done < len(self.timesteps) else self._mean


def _from_diffusers(kind: Any, **options: Any) -> Callable[[Denoiser, int, torch.device], Scheduler]:
    return lambda denoiser, n, device: DiffusersScheduler(configured_scheduler(kind, denoiser, **options), n, device)


def configured_scheduler(kind: Any, denoiser: Denoiser, **options: Any) -> Any:
    """A diffusers scheduler of class `kind` for a denoiser: x0-prediction, its noise schedule, trailing timesteps."""
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
    "ddim": _from_diffusers(DDIMScheduler, clip_sample=False),
    "ddpm": _from_diffusers(DDPMScheduler, clip_sample=False),
    "dpm-solver++": _from_diffusers(DPMSolverMultistepScheduler),
    "published": lambda denoiser, steps, device: PublishedDiffusion(denoiser.config.noise_schedule, steps, device),
}


def make_scheduler(
    name: str, denoiser: Denoiser, num_inference_steps: int, device: torch.device, of_pipeline: Any = None
) -> Scheduler:
    """The scheduler of a name, with a number of steps; ``"own"`` is `of_pipeline`, a diffusers scheduler.

    Raises ParameterError for an unknown name, or a number of steps that is not between 1 and 1000.
    """
    choice("scheduler", name, ("own", *SCHEDULERS))
    num_inference_steps = whole_number_between("num_inference_steps", num_inference_steps, 1, NUM_TRAIN_TIMESTEPS)
    if name == "own":
        return DiffusersScheduler(of_pipeline, num_inference_steps, device)
    return SCHEDULERS[name](denoiser, num_inference_steps, device)


def default_scheduler(denoiser: Denoiser) -> DDIMScheduler:
    """DDIM over a denoiser's noise schedule."""
    return configured_scheduler(DDIMScheduler, denoiser, clip_sample=False)


def saved_scheduler(weights: str | os.PathLike[str], denoiser: Denoiser) -> Any:
    """The scheduler saved in a pipeline's folder; DDIM if there is none, or if `weights` names a hub repository.

    A scheduler in the repository is not read. Raises WeightsError if the saved scheduler cannot be loaded.
    """
    folder = Path(weights) / "scheduler"
    if not folder.is_dir():
        return default_scheduler(denoiser)
    try:
        config = DDIMScheduler.load_config(folder)
        return getattr(diffusers, config["_class_name"]).from_config(config)
    except Exception as error:  # diffusers raises errors of many kinds
        raise WeightsError(f"{folder}: holds no scheduler of diffusers: {' '.join(str(error).split())}") from error


def check_generator(generator: Any, images: int) -> None:
    """Check that it is None, a generator, or a sequence with one generator per image."""
    if isinstance(generator, Sequence) and not isinstance(generator, str):
        if len(generator) != images:
            raise ParameterError(f"{len(generator)} generators for {images} images")
        each = list(generator)
    else:
        each = [] if generator is None else [generator]
    for one in each:
        if not isinstance(one, torch.Generator):
            seed = "torch.Generator().manual_seed(0)"
            raise ParameterError(
                f"generator must be a torch.Generator, as {seed}, or one per image, not {short_repr(one)}"
            )
