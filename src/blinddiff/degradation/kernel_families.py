"""The kernel families that mixtures and recipes can name, and random batches drawn from several of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.kernel_measures import for_scale
from blinddiff.degradation.kernels import (
    AnisotropicGaussian,
    Disk,
    GeneralizedGaussian,
    Identity,
    IsotropicGaussian,
    KernelFamily,
    Plateau,
    isotropic_gaussian,
)
from blinddiff.degradation.motion import CameraShake, LineMotion
from blinddiff.errors import ParameterError

_ALL: tuple[KernelFamily, ...] = (
    Identity(),
    IsotropicGaussian(),
    AnisotropicGaussian(),
    AnisotropicGaussian(name="rough_anisotropic", roughness=0.25),
    GeneralizedGaussian(),
    Plateau(),
    CameraShake(),
    LineMotion(),
    Disk(),
)
FAMILIES: dict[str, KernelFamily] = {family.name: family for family in _ALL}


def sample_kernels(
    mixture: Mapping[str, float],
    n: int,
    scale: int,
    size: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(n, size, size) random kernels, each from a family of `FAMILIES` drawn with the mixture's weights.

    mixture: family name -> weight >= 0; weights need not sum to 1. scale in {1, 2, 3, 4}; `device` None means the
    generator's. The same generator state gives the same batch. Raises ParameterError for an unknown family, a mixture
    without a positive weight, and what the families refuse.
    """
    weights = _checked_weights(mixture).to(generator.device)
    if n < 0:
        raise ParameterError(f"n {n}: a batch has at least 0 kernels")
    device = generator.device if device is None else device
    kernels = torch.empty((n, size, size), device=device, dtype=dtype)
    if n == 0:
        return kernels
    choice = torch.multinomial(weights, n, replacement=True, generator=generator)
    for index, name in enumerate(mixture):
        chosen = torch.nonzero(choice == index).flatten()
        if len(chosen):
            kernels[chosen.to(device)] = FAMILIES[name].sample(len(chosen), scale, size, generator, device, dtype)
    return kernels


def _checked_weights(mixture: Mapping[str, float]) -> Tensor:
    for name, weight in mixture.items():
        if name not in FAMILIES:
            raise ParameterError(f"kernel family '{name}': one of {', '.join(FAMILIES)} is accepted")
        if not 0 <= weight < float("inf"):
            raise ParameterError(f"weight {weight} of kernel family '{name}': must be a finite number, at least 0")
    if not any(mixture.values()):
        raise ParameterError(f"kernel mixture {dict(mixture)}: needs a family with a weight above 0")
    return torch.tensor(list(mixture.values()), dtype=torch.float32)


PRESET_KERNEL_SIZE = 21


def _eight_between(low: float, high: float) -> tuple[float, ...]:
    return tuple(round(low + index * (high - low) / 7, 10) for index in range(8))


GAUSSIAN8_SIGMAS: dict[int, tuple[float, ...]] = {
    2: _eight_between(0.80, 1.60),
    3: _eight_between(1.35, 2.40),
    4: _eight_between(1.80, 3.20),
}
"""Widths of the eight isotropic kernels in HR pixels, by scale (IKC, arXiv 1904.03377)."""


def gaussian8_kernels(scale: int) -> Tensor:
    """(8, 21, 21): the Gaussian8 kernels of a scale in {2, 3, 4}, narrowest first. ParameterError for another scale."""
    for_scale({known: sigmas[0] for known, sigmas in GAUSSIAN8_SIGMAS.items()}, scale)
    return isotropic_gaussian(torch.tensor(GAUSSIAN8_SIGMAS[scale]), PRESET_KERNEL_SIZE)


@dataclass(frozen=True)
class KernelPreset:
    """A family of kernels with the scale and size that a paper uses it at."""

    name: str
    scale: int
    size: int
    family: KernelFamily

    def sample(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n, size, size) random kernels; see `KernelFamily.sample`."""
        return self.family.sample(n, self.scale, self.size, generator, device, dtype)


SETTING1 = KernelPreset("setting1", 4, PRESET_KERNEL_SIZE, IsotropicGaussian(min_sigma=0.2, max_sigma={4: 4.0}))
"""BlindDiff, setting 1: isotropic Gaussians, sigma in [0.2, 4]."""

SETTING2 = KernelPreset(
    "setting2", 4, PRESET_KERNEL_SIZE, AnisotropicGaussian(min_sigma=0.6, max_sigma={4: 5.0}, roughness=0.25)
)
"""BlindDiff, setting 2: anisotropic Gaussians, sigmas in [0.6, 5], 25 % multiplicative noise."""
