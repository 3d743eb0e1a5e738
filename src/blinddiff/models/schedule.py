"""Noise schedules: alpha_bar at each of the training timesteps, by name, as diffusers' schedulers want them."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from blinddiff.errors import ParameterError

NUM_TRAIN_TIMESTEPS = 1000


def _linear() -> Tensor:
    """beta from 1e-4 to 0.02: Ho et al. 2020, and the published BlindDiff."""
    return torch.linspace(1e-4, 0.02, NUM_TRAIN_TIMESTEPS, dtype=torch.float64)


def _log_sigma() -> Tensor:
    """sigma = sqrt((1 - alpha_bar) / alpha_bar) growing geometrically from 0.01 to 10.

    The residual to the closed-form image is small (RMS about 0.1 on [-1, 1]), so at most timesteps of a linear schedule
    it is buried in noise. With equal steps in log sigma, a third of them lie where it emerges.
    """
    sigma = torch.logspace(math.log10(0.01), math.log10(10), NUM_TRAIN_TIMESTEPS, dtype=torch.float64)
    alpha_bar = 1 / (1 + sigma**2)
    return 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])


SCHEDULES = {"linear": _linear, "log_sigma": _log_sigma}


def betas(name: str) -> Tensor:
    """beta_t of a named schedule: (1000,) float64.

    Raises:
        ParameterError: the name is unknown.
    """
    if name not in SCHEDULES:
        raise ParameterError(f"noise schedule {name!r} is not one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]()


def alpha_bar(name: str) -> Tensor:
    """alpha_bar_t = prod (1 - beta) of a named schedule: (1000,) float64."""
    return (1 - betas(name)).cumprod(0)


@lru_cache
def alpha_bar_on(name: str, device: torch.device) -> Tensor:
    """`alpha_bar` in single precision on a device, whatever the network computes in: (1000,)."""
    return alpha_bar(name).float().to(device)
