"""The contract between sampler and network, and the noise schedules that both follow."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from blinddiff.degradation.observation import Degradation, Observation
from blinddiff.errors import ParameterError
from blinddiff.models.picture_kind import PictureKind

NUM_TRAIN_TIMESTEPS = 1000


def _linear() -> Tensor:
    """beta from 1e-4 to 0.02: Ho et al. 2020, and the published BlindDiff."""
    return torch.linspace(1e-4, 0.02, NUM_TRAIN_TIMESTEPS, dtype=torch.float64)


def _log_sigma() -> Tensor:
    """sigma = sqrt((1 - alpha_bar) / alpha_bar), geometric from 0.01 to 10.

    x - x_y is small (RMS about 0.1 on [-1, 1]), so in a linear schedule, noise dominates it at nearly all timesteps.
    With uniform steps in log sigma, sigma is comparable to it at a third of the timesteps.
    """
    sigma = torch.logspace(math.log10(0.01), math.log10(10), NUM_TRAIN_TIMESTEPS, dtype=torch.float64)
    alpha_bar = 1 / (1 + sigma**2)
    return 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])


SCHEDULES = {"linear": _linear, "log_sigma": _log_sigma}


def betas(name: str) -> Tensor:
    """beta_t of a named schedule: (1000,) float64. Raises ParameterError for an unknown name."""
    if name not in SCHEDULES:
        raise ParameterError(f"noise schedule {name!r} is not one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]()


def alpha_bar(name: str) -> Tensor:
    """alpha_bar_t = prod (1 - beta) up to t, of a named schedule: (1000,) float64."""
    return (1 - betas(name)).cumprod(0)


@lru_cache
def alpha_bar_on(name: str, device: torch.device) -> Tensor:
    """`alpha_bar` in single precision on a device, whatever the network's dtype: (1000,)."""
    return alpha_bar(name).float().to(device)


@dataclass
class Prediction:
    """The denoiser's output at one step.

    Attributes:
        x0_hat: clean-image estimate, (B, 3, H, W), in [0, 1] up to overshoot.
        degradation: k_hat_t and sigma_hat_t, the estimate at this step.
    """

    x0_hat: Tensor
    degradation: Degradation


@runtime_checkable  # diffusers checks the type of a loaded component
class Denoiser(Protocol):
    """A learned model of image and degradation for the MAP loop. Implemented by `MCFormer` and `PublishedMCFormer`."""

    config: Any
    """Has at least `dim`, `scales` and `noise_schedule`."""
    default_mode: str
    """The pipeline mode it was trained for."""
    estimates_noise: bool
    """Whether it estimates the noise level."""

    @property
    def alpha_bar(self) -> Tensor:
        """alpha_bar_t of the noise schedule, (1000,)."""

    @property
    def size_multiple(self) -> int:
        """The network reflect-pads HR images to sides that are multiples of this; tiles start at its multiples."""

    @property
    def channels_per_pixel(self) -> float:
        """Channels at full resolution; memory per HR pixel is proportional to it."""

    def __call__(
        self, x_t: Tensor, t: Tensor, observation: Observation, degradation: Degradation | None, *, transform: int = 0
    ) -> Prediction:
        """One prior step.

        Args:
            x_t: noisy HR image, (B, 3, s*h, s*w), normalised as by `normalize`.
            t: timesteps, (B,), 0 to 999 = T, which is the noisiest.
            observation: the LR image and the scale.
            degradation: kernel and noise level to condition on; None if there is no estimate yet.
            transform: dihedral transform applied to the image network's inputs and undone on its output.
        """

    def initial_estimate(self, observation: Observation) -> Degradation | None:
        """Kernel and noise level from y alone; None for a network that estimates them only from x_t."""

    def picture_kind(self, observation: Observation) -> PictureKind | None:
        """What the pictures are; None for a network that takes all for photographs."""

    def closed_form_image(self, observation: Observation, degradation: Degradation | None) -> Tensor | None:
        """x_y, (B, 3, H, W) in [0, 1], from which noise makes x_T; None for a network that starts from pure noise."""

    def relative_error(self, timestep: Tensor) -> float:
        """RMS error of x0_hat at a timestep, divided by the RMS error at pure noise: 0 to 1."""

    def normalize(self, image: Tensor) -> Tensor:
        """Image in [0, 1] -> the value range of x_t, which depends on the network."""

    def denormalize(self, x: Tensor) -> Tensor:
        """The inverse of `normalize`."""


def add_noise(denoiser: Denoiser, image: Tensor | None, timestep: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise, with x = `image` in [0, 1]; pure noise if it is None."""
    if image is None:
        return noise
    a = denoiser.alpha_bar[timestep]
    return a.sqrt() * denoiser.normalize(image) + (1 - a).sqrt() * noise
