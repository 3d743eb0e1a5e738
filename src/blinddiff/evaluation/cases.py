"""What is evaluated on: a case is one degraded image with all that is known about its degradation."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import BICUBIC, Downsampling
from blinddiff.errors import ParameterError


class Place(NamedTuple):
    """Which case of a protocol, at one scale: a test set, an image of it, and which of the protocol's parameters."""

    set: str
    name: str
    parameter: int  # its index among `Protocol.labels`

    def __str__(self) -> str:
        """``Set14/comic/3``."""
        return f"{self.set}/{self.name}/{self.parameter}"

    @property
    def stem(self) -> str:
        """``comic_3``: of the files that other programs read and write."""
        return f"{self.name}_{self.parameter}"


@dataclass(frozen=True)
class CaseReference:
    """Names one case without making it: cheap to list, to send to a worker and to find again in a record."""

    place: Place
    source: Path


@dataclass(frozen=True)
class Case:
    """One degraded image. Images are float32 in [0, 1], already at 8 bit.

    Attributes:
        hr: ground truth (3, H, W), or None where there is none.
        y: LR image (3, h, w).
        kernel: true blur kernel (kh, kw) in HR pixels, or None.
        noise_level: true standard deviation of the noise in grey levels, before clipping and rounding; None if unknown.
        seed: for whatever a method draws at random; differs from case to case.
        downsampling: how the blurred image was thinned out.
        centred_kernel: the kernel with its index centre on the middle of the LR pixel, where ``kernel``, which goes
            with ``downsampling``, has it elsewhere; None: ``kernel`` itself.
    """

    place: Place
    scale: int
    hr: Tensor | None
    y: Tensor
    kernel: Tensor | None
    noise_level: float | None
    seed: int
    downsampling: Downsampling = BICUBIC
    centred_kernel: Tensor | None = None

    @property
    def kernel_at_pixel_centre(self) -> Tensor | None:
        """The true kernel that estimates are compared with: no shift means centred on the LR pixel."""
        return self.kernel if self.centred_kernel is None else self.centred_kernel

    def operator(self) -> DegradationOperator:
        """The true degradation, without its noise. Raises ParameterError if the kernel is not known."""
        if self.kernel is None:
            raise ParameterError(f"{self.place}: the true kernel is not known")
        return DegradationOperator(self.kernel, self.scale, self.downsampling)


def case_seed(*parts: str | int | Place) -> int:
    """A seed of 63 bits from names and numbers: the same on every machine and in any order of evaluation."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(*parts: str | int | Place) -> torch.Generator:
    """A CPU generator seeded by `case_seed`."""
    return torch.Generator().manual_seed(case_seed(*parts))


def to_8bit(image: Tensor) -> Tensor:
    """Clipped to [0, 1] and rounded to multiples of 1/255, as an 8-bit file would hold it."""
    return image.clamp(0, 1).mul(255).round().div(255)


def bytes_of(image: Tensor) -> np.ndarray:
    """(3, h, w) in [0, 1] as (h, w, 3) uint8."""
    return image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


def checksum(image: Tensor) -> str:
    """SHA-256 of the image's size and 8-bit pixels: two records with the same value evaluated the same input."""
    pixels = bytes_of(image)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


@dataclass(frozen=True)
class Restoration:
    """A restored image and what the method says about the degradation.

    Attributes:
        image: (3, s*h, s*w), float; values outside [0, 1] are clipped before measuring.
        kernel: *estimated* blur kernel (kh, kw) in HR pixels, or None: a kernel given to the method is not one.
        noise_level: *estimated* standard deviation of the noise in grey levels, or None.
        seconds: wall-clock time of the restoration alone.
        calls: calls of the network, 0 if there is none.
        expected_kernel_error: what the method expects sum |k_hat - k| to be, 0 to 2, or None.
    """

    image: Tensor
    kernel: Tensor | None
    noise_level: float | None
    seconds: float
    calls: int
    expected_kernel_error: float | None = None


class Protocol(ABC):
    """A declared way of making test images, at one scale. The same seed gives the same cases, whatever is left out.

    Attributes:
        name: as the command line calls it.
        source: where it comes from.
        degradation: one sentence that says it all.
        scales: the scales it is defined for.
        sets: the test sets it is usually run on.
        truth: whether the true image and kernel are known.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    degradation: ClassVar[str]
    scales: ClassVar[tuple[int, ...]]
    sets: ClassVar[tuple[str, ...]]
    truth: ClassVar[bool] = True

    def __init__(self, scale: int) -> None:
        if scale not in self.scales:
            accepted = ", ".join(map(str, self.scales))
            raise ParameterError(f"scale {scale}: protocol {self.name} is defined for {accepted}")
        self.scale = scale

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """What each parameter index stands for, as in ``sigma 1.8``."""

    @abstractmethod
    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """All cases of a set, or those of its first `limit` images. Raises ParameterError if the set is not there."""

    def files(self, reference: CaseReference) -> list[Path]:
        """The files that a case is made from."""
        return [reference.source]

    @abstractmethod
    def make(self, reference: CaseReference, seed: int) -> Case:
        """The case itself. Raises ImageError if its image cannot be read."""

    def describe(self) -> dict[str, str | int | list[str]]:
        """For records: all that the numbers depend on."""
        return {
            "name": self.name,
            "scale": self.scale,
            "degradation": self.degradation,
            "source": self.source,
            "parameters": list(self.labels),
        }
