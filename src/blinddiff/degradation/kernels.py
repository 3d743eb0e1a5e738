"""Kernel families: parametric blur kernels and random members of them. To add one, write a class and list it in `_ALL`.

Kernels are (kh, kw) or (B, kh, kw) tensors in HR pixels, of sum 1; index (kh // 2, kw // 2) means no shift.
Parameters are numbers for one kernel, (size, size), or (B,) tensors for a batch, (B, size, size); ParameterError is
raised for a width or an exponent that is not positive.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blinddiff.degradation.draws import Draws, KernelFamily
from blinddiff.degradation.kernel_measures import normalise
from blinddiff.degradation.kernel_tensors import Value, as_tensors, axis, for_scale, require_positive, squared_radius
from blinddiff.degradation.motion import CameraShake, HandShake, LineMotion
from blinddiff.errors import ParameterError


def identity(size: int) -> Tensor:
    """(size, size), 1 at the centre and 0 elsewhere."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


@dataclass(frozen=True)
class Identity(KernelFamily):
    """Always the identity, for sharp photographs, which blind methods tend to over-sharpen."""

    name: str = "identity"

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        device = draws.generator.device if draws.device is None else draws.device
        return identity(size).to(device, draws.dtype).expand(n, -1, -1).clone()


ANISOTROPIC_MAX_SIGMA = {1: 3.5, 2: 3.5, 3: 4.3, 4: 5.2}


def isotropic_gaussian(sigma: Value, size: int) -> Tensor:
    """exp(-(x^2 + y^2) / 2 sigma^2), normalised to sum 1: `anisotropic_gaussian` with both sigmas equal."""
    return anisotropic_gaussian(sigma, sigma, 0.0, size)


def anisotropic_gaussian(sigma_x: Value, sigma_y: Value, theta: Value, size: int) -> Tensor:
    """exp(-d^T Sigma^-1 d / 2) at pixels d = (column, row), normalised to sum 1.

    Sigma = U diag(sigma_x^2, sigma_y^2) U^T, U = [[cos, -sin], [sin, cos]]. sigma_x, sigma_y: standard deviations along
    the rotated axes in HR pixels, > 0; theta: radians.
    """
    sx, sy, angle = as_tensors(sigma_x, sigma_y, theta)
    require_positive(sigma=sx)
    require_positive(sigma=sy)
    return normalise(torch.exp(-0.5 * squared_radius(sx, sy, angle, size)))


def _widths_and_angle(draws: Draws, n: int, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """Two widths, uniform in [low, high], and an orientation, uniform in [-pi, pi]: (n,) each."""
    return draws.uniform(n, low, high), draws.uniform(n, low, high), draws.uniform(n, -math.pi, math.pi)


def roughen(kernel: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Multiply each entry of (n, kh, kw) by 1 + U[-amount, amount] and normalise, as the paper's setting 2 and DIV2KRK.

    Raises ParameterError for an amount outside [0, 1), with which entries could become negative.
    """
    if not 0 <= amount < 1:
        raise ParameterError(f"roughness {amount}: must be at least 0 and below 1")
    factor = 1 + Draws(generator, kernel.device, kernel.dtype).uniform(kernel.shape, -amount, amount)
    return normalise(kernel * factor)


@dataclass(frozen=True)
class IsotropicGaussian(KernelFamily):
    """sigma uniform in [min_sigma, max_sigma[scale]] HR pixels."""

    name: str = "isotropic"
    min_sigma: float = 0.2
    max_sigma: Mapping[int, float] = field(default_factory=lambda: {1: 3.0, 2: 3.0, 3: 3.5, 4: 4.2})

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        return isotropic_gaussian(draws.uniform(n, self.min_sigma, for_scale(self.max_sigma, scale)), size)


@dataclass(frozen=True)
class AnisotropicGaussian(KernelFamily):
    """Both sigmas uniform in [min_sigma, max_sigma[scale]] HR pixels, any orientation.

    roughness: largest relative change of an entry by multiplicative noise, in [0, 1); 0 for an exact Gaussian.
    """

    name: str = "anisotropic"
    min_sigma: float = 0.3
    max_sigma: Mapping[int, float] = field(default_factory=lambda: ANISOTROPIC_MAX_SIGMA)
    roughness: float = 0.0

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        axes = _widths_and_angle(draws, n, self.min_sigma, for_scale(self.max_sigma, scale))
        kernel = anisotropic_gaussian(*axes, size)
        return roughen(kernel, self.roughness, draws.generator) if self.roughness else kernel


def _squared_radius_power(sigma_x: Value, sigma_y: Value, theta: Value, beta: Value, size: int) -> Tensor:
    """(d^T Sigma^-1 d)^beta at every pixel."""
    sx, sy, angle, shape = as_tensors(sigma_x, sigma_y, theta, beta)
    require_positive(sigma=sx)
    require_positive(sigma=sy, beta=shape)
    return squared_radius(sx, sy, angle, size).pow(shape[..., None, None])


def generalized_gaussian(sigma_x: Value, sigma_y: Value, theta: Value, beta: Value, size: int) -> Tensor:
    """exp(-(d^T Sigma^-1 d)^beta / 2) at pixels d = (column, row), normalised to sum 1.

    beta > 0 is the shape: a Gaussian for 1, peaked with long tails below 1, flat-topped above 1. The other arguments
    are as in `anisotropic_gaussian`, but sigma_x and sigma_y are standard deviations only for beta = 1.
    """
    return normalise(torch.exp(-0.5 * _squared_radius_power(sigma_x, sigma_y, theta, beta, size)))


def standard_deviation(beta: Tensor) -> Tensor:
    """Standard deviation along an axis whose sigma is 1: sqrt(2^(1/beta) Gamma(2/beta) / (2 Gamma(1/beta)))."""
    log_variance = math.log(2) * (1 / beta - 1) + torch.lgamma(2 / beta) - torch.lgamma(1 / beta)
    return torch.exp(log_variance / 2)


@dataclass(frozen=True)
class GeneralizedGaussian(KernelFamily):
    """log beta uniform between log min_beta and log max_beta; any orientation.

    The *standard deviations* along the axes are uniform between min_width and the anisotropic family's maximum sigma.
    If the sigmas were uniform instead, peaked kernels would be far too wide for their support.
    """

    name: str = "generalized_gaussian"
    min_width: float = 0.5
    min_beta: float = 0.6
    max_beta: float = 2.0

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        high = for_scale(ANISOTROPIC_MAX_SIGMA, scale)
        width_x, width_y, theta = _widths_and_angle(draws, n, self.min_width, high)
        beta = draws.uniform(n, math.log(self.min_beta), math.log(self.max_beta)).exp()
        unit = standard_deviation(beta)
        return generalized_gaussian(width_x / unit, width_y / unit, theta, beta, size)


def plateau(sigma_x: Value, sigma_y: Value, theta: Value, beta: Value, size: int) -> Tensor:
    """1 / (1 + (d^T Sigma^-1 d)^beta) at pixels d = (column, row), normalised to sum 1.

    sigma_x, sigma_y (HR pixels, > 0): half widths at half maximum along axes rotated by theta (radians) as in
    `anisotropic_gaussian`; beta > 0: steepness of the flanks (large: an elliptic disk).
    """
    return normalise(1 / (1 + _squared_radius_power(sigma_x, sigma_y, theta, beta, size)))


@dataclass(frozen=True)
class Plateau(KernelFamily):
    """Half widths uniform between min_width and the anisotropic family's maximum sigma; any orientation.

    beta is uniform in [min_beta, max_beta]; with beta below 2, the tails would exceed the usual supports.
    """

    name: str = "plateau"
    min_width: float = 0.5
    min_beta: float = 2.0
    max_beta: float = 6.0

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        axes = _widths_and_angle(draws, n, self.min_width, for_scale(ANISOTROPIC_MAX_SIGMA, scale))
        return plateau(*axes, draws.uniform(n, self.min_beta, self.max_beta), size)


SUBPIXELS = 5  # along each side of a pixel, to integrate the part of it that the disk covers


def disk(radius: Value, size: int) -> Tensor:
    """Uniform disk of a radius in HR pixels: each entry is the fraction of its pixel inside the disk; then sum 1."""
    (r,) = as_tensors(radius)
    require_positive(radius=r)
    within = (torch.arange(SUBPIXELS, device=r.device, dtype=r.dtype) + 0.5) / SUBPIXELS - 0.5
    position = (axis(size, r.device, r.dtype)[:, None] + within).flatten()
    distance = torch.hypot(position[None, :], position[:, None])
    # The edge is a ramp one sub-pixel wide, so that the kernel varies smoothly with the radius.
    covered = ((r[..., None, None] - distance) * SUBPIXELS + 0.5).clamp(0, 1)
    coverage = covered.reshape(*r.shape, size, SUBPIXELS, size, SUBPIXELS).mean(dim=(-3, -1))
    return normalise(coverage)


@dataclass(frozen=True)
class Disk(KernelFamily):
    """Radius uniform in [min_radius, max_radius[scale]] HR pixels."""

    name: str = "disk"
    min_radius: float = 0.5
    max_radius: Mapping[int, float] = field(default_factory=lambda: {1: 6.5, 2: 8.0, 3: 7.5, 4: 8.0})

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        return disk(draws.uniform(n, self.min_radius, for_scale(self.max_radius, scale)), size)


def unsharp_mask(kernel: Tensor, strength: Tensor, width: Tensor) -> Tensor:
    """k + a (k - G (*) k) of kernels (B, n, n): the kernel of a blur and an unsharp mask after it; sum 1.

    strength: a, (B,), >= 0. width: standard deviation of the Gaussian G in HR pixels, (B,). What lies outside the
    support is cut off.
    """
    n = kernel.shape[-1]
    distance = torch.arange(1 - n, n, device=kernel.device, dtype=kernel.dtype)
    taps = torch.exp(-0.5 * (distance / width[:, None]).square())
    taps = taps / taps.sum(1, keepdim=True)
    places = torch.arange(n, device=kernel.device)
    matrix = taps[:, places[:, None] - places + n - 1]  # convolution with G along one axis, (B, n, n)
    blurred = matrix @ kernel @ matrix
    a = strength[:, None, None]
    return normalise(kernel + a * (kernel - blurred))


@dataclass(frozen=True)
class UnsharpMasked(KernelFamily):
    """A Gaussian blur, isotropic or not, and an unsharp mask after it: the kernel has negative entries.

    The mask's strength is uniform in [0, max_strength], its width uniform in [min_width, max_width] HR pixels.
    """

    name: str = "unsharp_masked"
    max_strength: float = 1.5
    min_width: float = 0.7
    max_width: float = 4.0

    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        kernel = AnisotropicGaussian().draw(n, scale, size, draws)
        round_ones = IsotropicGaussian().draw(n, scale, size, draws)
        kernel = torch.where(draws.uniform((n, 1, 1), 0, 1) < 0.5, kernel, round_ones)
        strength = draws.uniform(n, 0.0, self.max_strength)
        return unsharp_mask(kernel, strength, draws.uniform(n, self.min_width, self.max_width))


_ALL: tuple[KernelFamily, ...] = (
    Identity(),
    IsotropicGaussian(),
    AnisotropicGaussian(),
    AnisotropicGaussian(name="rough_anisotropic", roughness=0.25),
    GeneralizedGaussian(),
    Plateau(),
    CameraShake(),
    HandShake(),
    LineMotion(),
    Disk(),
    UnsharpMasked(),
    UnsharpMasked(name="camera", max_strength=0.35, min_width=3.0, max_width=6.0),
)
FAMILIES: dict[str, KernelFamily] = {family.name: family for family in _ALL}

SETTING1 = IsotropicGaussian("setting1", min_sigma=0.2, max_sigma={4: 4.0})
"""BlindDiff, setting 1, x4: isotropic Gaussians, sigma in [0.2, 4]."""
SETTING2 = AnisotropicGaussian("setting2", min_sigma=0.6, max_sigma={4: 5.0}, roughness=0.25)
"""BlindDiff, setting 2, x4: anisotropic Gaussians, sigmas in [0.6, 5], 25 % multiplicative noise."""
SETTINGS: dict[str, KernelFamily] = {family.name: family for family in (SETTING1, SETTING2)}
"""The families of published settings, which are defined at their scale only."""


def sample_kernels(
    mixture: Mapping[str, float],
    n: int,
    scale: int,
    size: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(n, size, size) random kernels, each from a family of `FAMILIES` that is drawn with the mixture's weights.

    mixture: name of a family or of one of `SETTINGS` -> weight >= 0; the weights need not sum to 1. scale: 1, 2, 3 or
    4. device: None for the generator's. The same generator state gives the same batch. Raises ParameterError for an
    unknown family or a mixture without a positive weight; errors of the families are passed on.
    """
    for name, weight in mixture.items():
        if name not in FAMILIES and name not in SETTINGS:
            raise ParameterError(f"kernel family '{name}' is not one of {', '.join((*FAMILIES, *SETTINGS))}")
        if not 0 <= weight < float("inf"):
            raise ParameterError(f"weight {weight} of kernel family '{name}': must be a finite number, at least 0")
    if not any(mixture.values()):
        raise ParameterError(f"kernel mixture {dict(mixture)}: needs a family with a weight above 0")
    if n < 0:
        raise ParameterError(f"n must be at least 0, not {n}")
    device = generator.device if device is None else device
    kernels = torch.empty((n, size, size), device=device, dtype=dtype)
    if n == 0:
        return kernels
    weights = torch.tensor(list(mixture.values()), dtype=torch.float32, device=generator.device)
    choice = torch.multinomial(weights, n, replacement=True, generator=generator)
    for index, name in enumerate(mixture):
        chosen = torch.nonzero(choice == index).flatten()
        if len(chosen):
            family = FAMILIES[name] if name in FAMILIES else SETTINGS[name]
            kernels[chosen.to(device)] = family.sample(len(chosen), scale, size, generator, device, dtype)
    return kernels


PRESET_KERNEL_SIZE = 21
GAUSSIAN8_SIGMAS = {
    scale: tuple(round(low + index * (high - low) / 7, 10) for index in range(8))
    for scale, (low, high) in {2: (0.80, 1.60), 3: (1.35, 2.40), 4: (1.80, 3.20)}.items()
}
"""Sigmas of the eight isotropic Gaussians in HR pixels, by scale (IKC, arXiv 1904.03377)."""


def gaussian8_kernels(scale: int) -> Tensor:
    """(8, 21, 21): the Gaussian8 kernels of a scale in {2, 3, 4}, narrowest first. ParameterError for another scale."""
    if scale not in GAUSSIAN8_SIGMAS:
        raise ParameterError(f"scale {scale} is not one of {', '.join(map(str, GAUSSIAN8_SIGMAS))}")
    return isotropic_gaussian(torch.tensor(GAUSSIAN8_SIGMAS[scale]), PRESET_KERNEL_SIZE)
