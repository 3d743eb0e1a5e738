"""What a family of blur kernels is: something that draws random members of itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from blinddiff.degradation.kernel_measures import (
    Value,
    as_tensors,
    axis,
    for_scale,
    normalise,
    require_positive,
    squared_radius,
)
from blinddiff.degradation.random import draw_uniform
from blinddiff.errors import ParameterError


class KernelFamily(Protocol):
    """A kind of blur with declared parameter ranges; an instance is one choice of ranges."""

    @property
    def name(self) -> str:
        """How mixtures and recipes call the family."""
        ...

    def sample(
        self,
        n: int,
        scale: int,
        size: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n, size, size) random kernels in HR pixels, non-negative, each of sum 1.

        `scale` in {1, 2, 3, 4} chooses the parameter ranges; `device` None means the generator's. The same generator
        state gives the same kernels. Raises ParameterError for another scale or a size below 1.
        """
        ...


def identity(size: int) -> Tensor:
    """(size, size), 1 at the centre and 0 elsewhere."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


@dataclass(frozen=True)
class Identity:
    """Always the identity: sharp photographs are the ones that a blind method most easily spoils."""

    name: str = "identity"

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
        device = generator.device if device is None else device
        return identity(size).to(device, dtype).expand(n, -1, -1).clone()


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
