"""JPEG at another size: a picture enlarged or reduced after it was compressed, so its blocks fit no lattice."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.noise.jpeg import JpegNoise
from blinddiff.degradation.noise.level import level_for


@dataclass(frozen=True)
class ResizedJpegNoise(JpegNoise):
    """level: JPEG quality, 1 to 100, as of `JpegNoise`; *higher* is *less* noise.

    The image is enlarged by a factor drawn for each batch uniformly in [1, max_factor] (bicubic), compressed, and
    brought back to its size.
    """

    name: str = "resized_jpeg"
    max_factor: float = 2.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        level_for(y, level, "JPEG quality", 1.0, 100.0)
        factor = float(draw_uniform(1, 1.0, self.max_factor, generator))
        height, width = y.shape[-2:]
        enlarged = (round(height * factor), round(width * factor))
        larger = F.interpolate(y, enlarged, mode="bicubic", align_corners=False)
        stored = super().apply(larger, level, generator)
        return F.interpolate(stored, (height, width), mode="bicubic", align_corners=False, antialias=True)
