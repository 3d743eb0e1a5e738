"""Disk kernels: the image of a point by an ideal lens out of focus."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.grid import Value, as_tensors, axis, for_scale, normalise, require_positive

MAX_RADIUS = {1: 4.0, 2: 5.0, 3: 6.5, 4: 8.0}
SUBPIXELS = 5  # a side, for the share of a pixel that the disk covers


def disk(radius: Value, size: int) -> Tensor:
    """Uniform disk around the centre, each pixel weighted by the share of it that the disk covers; sum 1.

    radius: HR pixels, > 0; a number gives (size, size), a (B,) tensor (B, size, size). Raises ParameterError for a
    radius that is not positive.
    """
    (r,) = as_tensors(radius)
    require_positive("radius", r)
    within = (torch.arange(SUBPIXELS, device=r.device, dtype=r.dtype) + 0.5) / SUBPIXELS - 0.5
    position = (axis(size, r.device, r.dtype)[:, None] + within).flatten()
    distance = torch.hypot(position[None, :], position[:, None])
    # A ramp one sub-pixel wide at the rim, so that the kernel varies smoothly with the radius.
    covered = ((r[..., None, None] - distance) * SUBPIXELS + 0.5).clamp(0, 1)
    shares = covered.reshape(*r.shape, size, SUBPIXELS, size, SUBPIXELS).mean(dim=(-3, -1))
    return normalise(shares)


@dataclass(frozen=True)
class Disk:
    """Radius uniform in [min_radius, max_radius[scale]] HR pixels."""

    name: str = "disk"
    min_radius: float = 0.5
    max_radius: Mapping[int, float] = field(default_factory=lambda: MAX_RADIUS)

    def sample(
        self,
        n: int,
        scale: int,
        size: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `KernelFamily.sample`."""
        radius = draw_uniform(n, self.min_radius, for_scale(self.max_radius, scale), generator, device, dtype)
        return disk(radius, size)
