"""Correlated Gaussian noise: grain, as sensor noise becomes after demosaicing and the camera's own smoothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_normal, draw_uniform
from blinddiff.degradation.kernels.gaussian import isotropic_gaussian
from blinddiff.degradation.noise.level import level_for

FILTER_SIZE = 7


@dataclass(frozen=True)
class CorrelatedNoise:
    """level: standard deviation of the *resulting* noise in grey levels (of 255), >= 0.

    Drawn uniformly in [0, max_sigma]. White noise, independent in each channel, is filtered by a Gaussian low-pass
    whose width is drawn for each image uniformly in [min_width, max_width] pixels, and scaled so that a pixel's
    variance is level^2. Not clipped to [0, 1].
    """

    name: str = "correlated"
    max_sigma: float = 15.0
    min_width: float = 0.3
    max_width: float = 1.2

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        batch, channels, height, width = y.shape
        lowpass = isotropic_gaussian(
            draw_uniform(batch, self.min_width, self.max_width, generator, y.device, y.dtype), FILTER_SIZE
        )
        lowpass = lowpass / lowpass.square().sum((1, 2), keepdim=True).sqrt()  # unit energy keeps the variance
        # White noise on a margin as well, so that the border is as noisy as the middle.
        margin = FILTER_SIZE - 1
        white = draw_normal((1, batch * channels, height + margin, width + margin), generator, y.device, y.dtype)
        weight = lowpass.repeat_interleave(channels, dim=0)[:, None]
        grain = torch.nn.functional.conv2d(white, weight, groups=batch * channels) if batch else white
        return y + sigma * grain.view_as(y)

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        return draw_uniform(n, 0.0, self.max_sigma, generator, device, dtype)
