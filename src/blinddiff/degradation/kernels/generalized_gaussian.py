"""Generalised Gaussian kernels: a Gaussian whose flanks are steeper or flatter."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.gaussian import ANISOTROPIC_MAX_SIGMA
from blinddiff.degradation.kernels.grid import Value, as_tensors, for_scale, normalise, require_positive, squared_radius


def generalized_gaussian(sigma_x: Value, sigma_y: Value, theta: Value, beta: Value, size: int) -> Tensor:
    """exp(-(d^T Sigma^-1 d)^beta / 2) at pixels d = (column, row), normalised to sum 1.

    beta > 0 is the shape: 1 a Gaussian, below 1 peaked with long tails, above 1 flat-topped. sigma_x, sigma_y (HR
    pixels, > 0) and theta (radians) as in `anisotropic_gaussian`; they are standard deviations for beta = 1 only.
    Numbers give (size, size), (B,) tensors (B, size, size). Raises ParameterError for a sigma or beta that is not
    positive.
    """
    sx, sy, angle, shape = as_tensors(sigma_x, sigma_y, theta, beta)
    for name, value in (("sigma", sx), ("sigma", sy), ("beta", shape)):
        require_positive(name, value)
    radius = squared_radius(sx, sy, angle, size)
    return normalise(torch.exp(-0.5 * radius.pow(shape[..., None, None])))


def standard_deviation(beta: Tensor) -> Tensor:
    """Standard deviation along an axis whose sigma is 1: sqrt(2^(1/beta) Gamma(2/beta) / (2 Gamma(1/beta)))."""
    log_variance = math.log(2) * (1 / beta - 1) + torch.lgamma(2 / beta) - torch.lgamma(1 / beta)
    return torch.exp(log_variance / 2)


@dataclass(frozen=True)
class GeneralizedGaussian:
    """beta uniform in log between min_beta and max_beta; any orientation.

    The *standard deviations* along the axes are uniform in [min_width, the anisotropic family's greatest sigma]:
    drawing sigma itself would make peaked kernels far too wide for their support.
    """

    name: str = "generalized_gaussian"
    min_width: float = 0.5
    min_beta: float = 0.6
    max_beta: float = 2.0

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
        width_x = draw_uniform(n, self.min_width, high, generator, device, dtype)
        width_y = draw_uniform(n, self.min_width, high, generator, device, dtype)
        theta = draw_uniform(n, -math.pi, math.pi, generator, device, dtype)
        beta = draw_uniform(n, math.log(self.min_beta), math.log(self.max_beta), generator, device, dtype).exp()
        unit = standard_deviation(beta)
        return generalized_gaussian(width_x / unit, width_y / unit, theta, beta, size)
