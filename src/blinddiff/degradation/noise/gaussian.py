"""Additive white Gaussian noise: read-out noise of a sensor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_normal, draw_uniform
from blinddiff.degradation.noise.level import level_for


@dataclass(frozen=True)
class GaussianNoise:
    """level: standard deviation sigma in grey levels (of 255), >= 0; 0 changes nothing.

    Drawn uniformly in [0, max_sigma]. The result is not clipped to [0, 1]: y = ... + n is linear in n.
    """

    name: str = "gaussian"
    max_sigma: float = 25.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        return y + sigma * draw_normal(y.shape, generator, y.device, y.dtype)

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        return draw_uniform(n, 0.0, self.max_sigma, generator, device, dtype)
