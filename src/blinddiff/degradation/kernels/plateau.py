"""Plateau kernels: a flat top with tails that fall off as a power, between a disk and a heavy-tailed blur."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.gaussian import ANISOTROPIC_MAX_SIGMA
from blinddiff.degradation.kernels.grid import Value, as_tensors, for_scale, normalise, require_positive, squared_radius


def plateau(sigma_x: Value, sigma_y: Value, theta: Value, beta: Value, size: int) -> Tensor:
    """1 / (1 + (d^T Sigma^-1 d)^beta) at pixels d = (column, row), normalised to sum 1.

    sigma_x, sigma_y (HR pixels, > 0): half widths at half of the peak along axes turned by theta (radians) as in
    `anisotropic_gaussian`; beta > 0: steepness of the flanks (large: an elliptic disk). Numbers give (size, size), (B,)
    tensors (B, size, size). Raises ParameterError for a sigma or beta that is not positive.
    """
    sx, sy, angle, shape = as_tensors(sigma_x, sigma_y, theta, beta)
    for name, value in (("sigma", sx), ("sigma", sy), ("beta", shape)):
        require_positive(name, value)
    radius = squared_radius(sx, sy, angle, size)
    return normalise(1 / (1 + radius.pow(shape[..., None, None])))


@dataclass(frozen=True)
class Plateau:
    """Half widths in the range of the anisotropic family's sigmas, any orientation.

    beta is uniform in [min_beta, max_beta]; under 2, the tails would not fade within the usual supports.
    """

    name: str = "plateau"
    min_sigma: float = 0.5
    min_beta: float = 2.0
    max_beta: float = 6.0

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
        high = for_scale(ANISOTROPIC_MAX_SIGMA, scale)
        sigma_x = draw_uniform(n, self.min_sigma, high, generator, device, dtype)
        sigma_y = draw_uniform(n, self.min_sigma, high, generator, device, dtype)
        theta = draw_uniform(n, -math.pi, math.pi, generator, device, dtype)
        beta = draw_uniform(n, self.min_beta, self.max_beta, generator, device, dtype)
        return plateau(sigma_x, sigma_y, theta, beta, size)
