"""Random numbers from seeded generators, and the base classes of kernel families and kinds of noise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Draws:
    """Random numbers for any device, drawn on the generator's device: a seed gives the same numbers on every device.

    Attributes:
        generator: the random generator.
        device: of the result; None for the generator's.
        dtype: of the result.
    """

    generator: torch.Generator
    device: torch.device | str | None = None
    dtype: torch.dtype = torch.float32

    def uniform(self, shape: int | Sequence[int], low: float, high: float) -> Tensor:
        """Independent values, uniform in [low, high]."""
        unit = torch.rand(_sizes(shape), generator=self.generator, device=self.generator.device)
        return (low + (high - low) * unit).to(device=self.device, dtype=self.dtype)

    def normal(self, shape: int | Sequence[int]) -> Tensor:
        """Independent standard normal values."""
        drawn = torch.randn(_sizes(shape), generator=self.generator, device=self.generator.device)
        return drawn.to(device=self.device, dtype=self.dtype)


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


class KernelFamily(ABC):
    """A kind of blur with declared parameter ranges; an instance is one choice of ranges."""

    name: str
    """Its name in mixtures and recipes."""

    def sample(
        self,
        n: int,
        scale: int,
        size: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n, size, size) random kernels in HR pixels, each of sum 1.

        The scale, 1 to 4, chooses the parameter ranges; `device` None means the generator's. Raises ParameterError for
        any other scale, or a size below 1.
        """
        return self.draw(n, scale, size, Draws(generator, device, dtype))

    @abstractmethod
    def draw(self, n: int, scale: int, size: int, draws: Draws) -> Tensor:
        """`sample` from given draws."""


class LrImages(NamedTuple):
    """LR images on their way through noise and processing, with what is known of their degradation.

    Attributes:
        y, clean: with and without the noise so far, (B, C, h, w).
        kernel: the kernel with which A(x, kernel) gives `clean`, (B, n, n), HR pixels.
        jpeg_step: see `Observation`, (B,).
    """

    y: Tensor
    clean: Tensor
    kernel: Tensor
    jpeg_step: Tensor


class Noise(ABC):
    """A kind of noise; an instance is one choice of ranges. Each kind states the meaning of its level."""

    name: str
    """Its name in recipes."""
    levels: tuple[float, float]
    """Lowest and highest level drawn."""
    logarithmic = False
    """Whether levels are uniform in their logarithm."""

    @abstractmethod
    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) images in [0, 1] with noise of level (B,); the same shape, dtype and device.

        Raises ParameterError for a level out of range.
        """

    def degrade(self, images: LrImages, level: Tensor, scale: int, generator: torch.Generator) -> LrImages:
        """`apply` to y. A kind that is a filter also changes the clean images and the kernels."""
        y = self.apply(images.y, level, generator)
        return images._replace(y=y, jpeg_step=torch.zeros_like(images.jpeg_step))

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n,) random levels; `device` None means the generator's."""
        draws, (low, high) = Draws(generator, device, dtype), self.levels
        if self.logarithmic:
            return draws.uniform(n, math.log(low), math.log(high)).exp()
        return draws.uniform(n, low, high)


def level_for(y: Tensor, level: Tensor, name: str, low: float, high: float = float("inf")) -> Tensor:
    """The level as (B, 1, 1, 1) for images (B, C, H, W); ParameterError for an invalid shape or value."""
    if y.ndim != 4:
        raise ParameterError(f"image batch of shape {tuple(y.shape)}: (B, C, H, W) is accepted")
    if level.shape != y.shape[:1]:
        raise ParameterError(
            f"{name} of shape {tuple(level.shape)}: one value for each of the {len(y)} images is accepted"
        )
    if not bool((torch.isfinite(level) & (level >= low) & (level <= high)).all()):
        upper = "" if high == float("inf") else f" and at most {high:g}"
        raise ParameterError(f"{name} {level.tolist()}: must be finite, at least {low:g}{upper}")
    return level.to(device=y.device, dtype=y.dtype)[:, None, None, None]
