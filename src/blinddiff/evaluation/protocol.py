"""What a protocol is: `Protocol`, and the base of those whose images are computed from HR images."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from blinddiff.degradation.draws import KernelFamily
from blinddiff.degradation.kernels import PRESET_KERNEL_SIZE
from blinddiff.degradation.noise import GaussianNoise
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.evaluation.data import (
    Case,
    CaseId,
    CaseReference,
    case_seed,
    crop_to_multiple,
    images_of,
    read_pixels,
    to_8bit,
)


@dataclass(frozen=True)
class Protocol(ABC):
    """A reproducible way of making test images. Each case depends only on the scale, its id and the seed.

    Attributes:
        name: as given on the command line.
        source: publication that defines the protocol.
        degradation: one sentence with all settings.
        scales: the scales that the protocol is defined for.
        sets: its usual test sets.
        kernel_known: whether the true kernel is known.
        max_shift: results are compared with the truth at their best shift of up to this many HR pixels.
        scale: the chosen scale; 0 in `PROTOCOLS`.
    """

    name: str
    source: str
    degradation: str
    scales: tuple[int, ...]
    sets: tuple[str, ...] = ("Set5", "Set14", "BSD100", "Urban100")
    kernel_known: bool = True
    max_shift: int = 0
    scale: int = 0

    @property
    @abstractmethod
    def labels(self) -> Sequence[str]:
        """The name of each parameter, as in ``sigma 1.80``. Every image gives one case per parameter."""

    @property
    def crop(self) -> int:
        """HR pixels that most metrics leave out on each side."""
        return self.scale

    @abstractmethod
    def make(self, reference: CaseReference, seed: int) -> Case:
        """Make a case. Raises ImageError if its image cannot be read."""

    def images(self, root: Path, set_name: str) -> list[Path]:
        """The images of a test set that are used. Raises ParameterError if the set is missing."""
        return images_of(root, set_name)

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """All cases of a set, or those of its first `limit` images. Raises ParameterError if the set is missing."""
        files = self.images(root, set_name)[:limit]
        return [CaseReference(CaseId(set_name, path.stem, i), path) for path in files for i in range(len(self.labels))]

    def files(self, reference: CaseReference) -> list[Path]:
        """The files that a case is made from."""
        return [reference.source]

    def describe(self) -> dict[str, str | int | list[str]]:
        """The protocol's settings, for records."""
        text = {"name": self.name, "degradation": self.degradation, "source": self.source}
        comparison = {"scale": self.scale, "crop": self.crop, "max_shift": self.max_shift}
        return {**text, **comparison, "parameters": list(self.labels)}

    def random_seed(self, reference: CaseReference, seed: int, purpose: str) -> int:
        """A seed for one purpose within one case, from the seed of the evaluation."""
        return case_seed(self.name, self.scale, reference.id, seed, purpose)


class Parameter(NamedTuple):
    """One degradation of a synthetic protocol, named `label` in tables.

    kernel: (kh, kw), or a family with a random kernel for every case. noise_level: standard deviation in grey levels.
    """

    label: str
    kernel: Tensor | KernelFamily
    noise_level: float = 0.0


@dataclass(frozen=True)
class ComputedProtocol(Protocol):
    """Blur by a kernel, subsample, add Gaussian noise, clip, round to 8 bit.

    HR images are cropped at the bottom and right to a multiple of the scale. The generators of kernels and noise are
    seeded by protocol, scale, case and seed, so that no case depends on another.

    Attributes:
        kernel_size: side of random kernels.
    """

    kernel_size: int = PRESET_KERNEL_SIZE

    @abstractmethod
    def parameter(self, reference: CaseReference) -> Parameter:
        """The degradation of a case. Raises KernelError if its kernel cannot be read."""

    def make(self, reference: CaseReference, seed: int) -> Case:
        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(self.random_seed(reference, seed, purpose))

        _, kernel, level = self.parameter(reference)
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        if isinstance(kernel, KernelFamily):
            kernel = kernel.sample(1, self.scale, self.kernel_size, generator("kernel"))[0]
        y = DegradationOperator(kernel.double(), self.scale).forward(hr[None].double())
        if level > 0:
            y = GaussianNoise().apply(y, torch.tensor([level], dtype=y.dtype), generator("noise"))
        y = to_8bit(y[0]).float()
        method_seed = self.random_seed(reference, seed, "method")
        return Case(reference.id, self.scale, hr, y, kernel, level, method_seed, max_shift=self.max_shift)


@dataclass(frozen=True)
class SyntheticProtocol(ComputedProtocol):
    """A list of degradations, each of them applied to every image.

    Attributes:
        parameters: gives the degradations at a scale.
    """

    parameters: Callable[[int], Sequence[Parameter]] = field(kw_only=True)

    @property
    def labels(self) -> Sequence[str]:
        return [parameter.label for parameter in self.parameters(self.scale)]

    def parameter(self, reference: CaseReference) -> Parameter:
        return self.parameters(self.scale)[reference.id.parameter]
