"""JPEG at another size: a picture enlarged or reduced after it was compressed, so its blocks fit no lattice."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.noise.jpeg import JpegNoise
from blinddiff.degradation.noise.level import level_for


@dataclass(frozen=True)
class ResizedJpegNoise:
    """level: JPEG quality, 1 to 100, as of `JpegNoise`; *higher* is *less* noise.

    The image is enlarged by a factor drawn for each batch uniformly in [1, max_factor] (bicubic), compressed, and
    brought back to its size. Qualities are drawn uniformly in [min_quality, max_quality].
    """

    name: str = "resized_jpeg"
    min_quality: float = 30.0
    max_quality: float = 95.0
    max_factor: float = 2.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        level_for(y, level, "JPEG quality", 1.0, 100.0)
        factor = float(draw_uniform(1, 1.0, self.max_factor, generator))
        height, width = y.shape[-2:]
        enlarged = (round(height * factor), round(width * factor))
        larger = F.interpolate(y, enlarged, mode="bicubic", align_corners=False)
        stored = JpegNoise().apply(larger, level, generator)
        return F.interpolate(stored, (height, width), mode="bicubic", align_corners=False, antialias=True)

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        return draw_uniform(n, self.min_quality, self.max_quality, generator, device, dtype)
