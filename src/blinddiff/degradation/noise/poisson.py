"""Poisson noise: the shot noise of counted photons, stronger in relation to the signal where it is dark."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.noise.level import level_for


@dataclass(frozen=True)
class PoissonNoise:
    """level: photons that a white pixel (1.0) counts, > 0; *more* photons are *less* noise.

    A pixel of value v gets the standard deviation 255 sqrt(v / level) grey levels, so 650 photons give 10 at white.
    Levels are drawn uniformly in log between min_photons and max_photons. Values below 0 count no photons; the result
    may exceed 1.
    """

    name: str = "poisson"
    min_photons: float = 100.0
    max_photons: float = 10000.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        photons = level_for(y, level, "photons at white", 1e-3, 1e7)
        expected = (y.clamp_min(0) * photons).to(generator.device, torch.float32)
        return torch.poisson(expected, generator).to(y.device, y.dtype) / photons

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        low, high = math.log(self.min_photons), math.log(self.max_photons)
        return draw_uniform(n, low, high, generator, device, dtype).exp()
