"""The blur where it differs from place to place: a kernel for each region of a photograph."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blinddiff.degradation.kernels import widths_and_angle
from blinddiff.models.mcformer import MCFormer

REGION = 96
"""Least side of a region in pixels of the input: with fewer, an estimate is mostly chance."""
MOST = 8
"""Regions along a side, at most."""


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Kernels and noise levels by region, the regions in rows and columns of equal size.

    Attributes:
        kernels: (rows, columns, n, n), in pixels of the result; they sum to 1.
        noise_levels: (rows, columns), grey levels.
        contrasts: (rows, columns), RMS difference of neighbouring pixels, grey levels: where it is no more than the
            noise, a region has little to tell of its blur.
    """

    kernels: Tensor
    noise_levels: Tensor
    contrasts: Tensor

    def facts(self) -> dict[str, Any]:
        """The map as numbers for JSON: lists of rows, and in `widths` and `angles` those of the kernels."""
        major, minor, angles = widths_and_angle(self.kernels.flatten(0, 1))
        shape = self.noise_levels.shape
        return {
            "widths": torch.stack([major, minor], -1).view(*shape, 2).tolist(),
            "angles": angles.view(shape).tolist(),
            "noise_levels": self.noise_levels.tolist(),
            "contrasts": self.contrasts.tolist(),
        }


def estimate_kernel_map(network: MCFormer, y: Tensor, scale: int) -> KernelMap:
    """Estimate each region of y, (1, 3, h, w) in [0, 1], on its own."""
    rows, columns = (min(MOST, max(1, side // REGION)) for side in y.shape[-2:])
    found, contrasts = [], []
    for band in y.tensor_split(rows, -2):
        for region in band.tensor_split(columns, -1):
            found.append(network.estimate(region, scale))
            differences = [region.diff(dim=axis).square().mean() for axis in (-2, -1)]
            contrasts.append(255 * torch.stack(differences).mean().sqrt())
    kernels = torch.cat([each.kernel for each in found]).cpu()
    noise_levels = torch.cat([each.noise_level for each in found]).cpu()
    return KernelMap(
        kernels.unflatten(0, (rows, columns)),
        noise_levels.view(rows, columns),
        torch.stack(contrasts).view(rows, columns).cpu(),
    )
