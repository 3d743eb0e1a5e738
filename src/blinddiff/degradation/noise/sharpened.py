"""Sharpening after the fact: the halos that cameras and editors leave, which no blur kernel explains."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.gaussian import isotropic_gaussian
from blinddiff.degradation.noise.level import level_for

RADIUS = 4  # LR pixels: three sigma of the widest mask


@dataclass(frozen=True)
class Sharpened:
    """level: strength a >= 0 of the unsharp mask y + a (y - blurred y); 0 changes nothing.

    Strengths are drawn uniformly in [0, max_strength]; the mask's Gaussian width for each image in
    [min_width, max_width] LR pixels.
    """

    name: str = "sharpened"
    max_strength: float = 1.0
    min_width: float = 0.6
    max_width: float = 1.4

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        strength = level_for(y, level, "strength", 0.0)
        batch, channels = y.shape[:2]
        width = draw_uniform(batch, self.min_width, self.max_width, generator, y.device, y.dtype)
        weight = isotropic_gaussian(width, 2 * RADIUS + 1).repeat_interleave(channels, dim=0)[:, None]
        padded = F.pad(y.flatten(0, 1)[None], (RADIUS,) * 4, mode="replicate")
        blurred = F.conv2d(padded, weight, groups=batch * channels).view_as(y) if batch else y
        return y + strength * (y - blurred)

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        return draw_uniform(n, 0.0, self.max_strength, generator, device, dtype)
