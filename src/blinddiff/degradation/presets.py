"""The degradations that papers of the field report on, as declared objects."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.kernels.family import KernelFamily
from blinddiff.degradation.kernels.gaussian import AnisotropicGaussian, IsotropicGaussian, isotropic_gaussian
from blinddiff.degradation.kernels.grid import for_scale

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
