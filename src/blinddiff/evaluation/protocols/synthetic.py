"""Protocols that degrade HR images themselves: y = round8((x (*) k) down_s + n)."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from blinddiff.degradation.downsampling import BICUBIC, Downsampling
from blinddiff.degradation.noise.gaussian import GaussianNoise
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.evaluation.cases import Case, CaseReference, Place, case_seed, generator_for, to_8bit
from blinddiff.evaluation.data import crop_to_multiple, images_of, read_pixels
from blinddiff.evaluation.protocols.protocol import Protocol


class SyntheticProtocol(Protocol):
    """Blur by a kernel, thin out, add Gaussian noise, clip and round to 8 bit.

    HR images are cropped at the top left to a multiple of the scale. Kernels and noise are drawn from generators seeded
    by protocol, scale, set, image, index and seed, so that no case depends on another.
    """

    sets: ClassVar[tuple[str, ...]] = ("Set5", "Set14", "BSD100", "Urban100")
    downsampling: Downsampling = BICUBIC

    @abstractmethod
    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """The kernel (kh, kw) of a parameter index; the generator is fresh for each case."""

    def noise_level(self, index: int) -> float:
        """Standard deviation of the noise in grey levels."""
        return 0.0

    def references(self, root: Path, set_name: str, limit: int | None = None) -> list[CaseReference]:
        """See `Protocol.references`."""
        files: Sequence[Path] = images_of(root, set_name)[:limit]
        indices = range(len(self.labels))
        return [CaseReference(Place(set_name, path.stem, index), path) for path in files for index in indices]

    def make(self, reference: CaseReference, seed: int) -> Case:
        """See `Protocol.make`."""
        names = (self.name, self.scale, reference.place, seed)
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        kernel = self.kernel(reference.place.parameter, generator_for(*names, "kernel"))
        y = DegradationOperator(kernel.double(), self.scale, self.downsampling).forward(hr[None].double())
        level = self.noise_level(reference.place.parameter)
        if level > 0:
            sigma = torch.tensor([level], dtype=y.dtype)
            y = GaussianNoise().apply(y, sigma, generator_for(*names, "noise"))
        return Case(
            place=reference.place,
            scale=self.scale,
            hr=hr,
            y=to_8bit(y[0]).float(),
            kernel=kernel,
            noise_level=level,
            seed=case_seed(*names, "method"),
            downsampling=self.downsampling,
        )
