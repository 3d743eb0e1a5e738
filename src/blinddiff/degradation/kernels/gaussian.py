"""Gaussian blur kernels, isotropic and anisotropic: the usual model of an out-of-focus or small-aperture lens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.grid import Value, as_tensors, for_scale, normalise, require_positive, squared_radius
from blinddiff.errors import ParameterError

ISOTROPIC_MAX_SIGMA = {1: 3.0, 2: 3.0, 3: 3.5, 4: 4.2}
ANISOTROPIC_MAX_SIGMA = {1: 3.5, 2: 3.5, 3: 4.3, 4: 5.2}


def isotropic_gaussian(sigma: Value, size: int) -> Tensor:
    """exp(-(x^2 + y^2) / 2 sigma^2), sampled at pixel centres and normalised to sum 1.

    sigma: standard deviation in HR pixels, > 0; a number gives (size, size), a (B,) tensor gives (B, size, size).
    Raises ParameterError for a sigma that is not positive.
    """
    return anisotropic_gaussian(sigma, sigma, 0.0, size)


def anisotropic_gaussian(sigma_x: Value, sigma_y: Value, theta: Value, size: int) -> Tensor:
    """exp(-d^T Sigma^-1 d / 2) at pixels d = (column, row), normalised to sum 1.

    Sigma = U diag(sigma_x^2, sigma_y^2) U^T, U = [[cos, -sin], [sin, cos]]. sigma_x, sigma_y: standard deviations along
    the turned axes in HR pixels, > 0; theta: radians. Numbers give (size, size), (B,) tensors (B, size, size).
    Raises ParameterError for a sigma that is not positive.
    """
    sx, sy, angle = as_tensors(sigma_x, sigma_y, theta)
    require_positive("sigma", sx)
    require_positive("sigma", sy)
    return normalise(torch.exp(-0.5 * squared_radius(sx, sy, angle, size)))


def roughen(kernel: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Each entry of (n, kh, kw) times 1 + U[-amount, amount], normalised again: kernel noise of setting2 and DIV2KRK.

    Raises ParameterError for an amount outside [0, 1), which could make entries negative.
    """
    if not 0 <= amount < 1:
        raise ParameterError(f"roughness {amount}: must be at least 0 and below 1")
    factor = 1 + draw_uniform(kernel.shape, -amount, amount, generator, kernel.device, kernel.dtype)
    return normalise(kernel * factor)


@dataclass(frozen=True)
class IsotropicGaussian:
    """sigma uniform in [min_sigma, max_sigma[scale]] HR pixels."""

    name: str = "isotropic"
    min_sigma: float = 0.2
    max_sigma: Mapping[int, float] = field(default_factory=lambda: ISOTROPIC_MAX_SIGMA)

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
        sigma = draw_uniform(n, self.min_sigma, for_scale(self.max_sigma, scale), generator, device, dtype)
        return isotropic_gaussian(sigma, size)


@dataclass(frozen=True)
class AnisotropicGaussian:
    """Both sigmas uniform in [min_sigma, max_sigma[scale]] HR pixels, any orientation.

    roughness: greatest relative change of an entry by multiplicative noise, in [0, 1); 0 leaves the Gaussian exact.
    """

    name: str = "anisotropic"
    min_sigma: float = 0.3
    max_sigma: Mapping[int, float] = field(default_factory=lambda: ANISOTROPIC_MAX_SIGMA)
    roughness: float = 0.0

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
        high = for_scale(self.max_sigma, scale)
        sigma_x = draw_uniform(n, self.min_sigma, high, generator, device, dtype)
        sigma_y = draw_uniform(n, self.min_sigma, high, generator, device, dtype)
        theta = draw_uniform(n, -math.pi, math.pi, generator, device, dtype)
        kernel = anisotropic_gaussian(sigma_x, sigma_y, theta, size)
        return roughen(kernel, self.roughness, generator) if self.roughness else kernel
