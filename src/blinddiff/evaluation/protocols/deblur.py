"""Blind deblurring: scale 1, with a little noise, for without any a division of spectra would do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.kernels.disk import Disk
from blinddiff.degradation.kernels.family import KernelFamily
from blinddiff.degradation.kernels.gaussian import AnisotropicGaussian, IsotropicGaussian
from blinddiff.degradation.kernels.motion import CameraShake
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

KERNEL_SIZE = 31
NOISE = 2.55  # one per cent of the range, the usual level of non-blind deblurring papers
FAMILIES: tuple[tuple[str, KernelFamily], ...] = (
    ("isotropic Gaussian", IsotropicGaussian(min_sigma=0.8)),
    ("anisotropic Gaussian", AnisotropicGaussian(min_sigma=0.8)),
    ("camera shake", CameraShake()),
    ("disk", Disk()),
)


class Deblur(SyntheticProtocol):
    """Four random kernels an image."""

    name = "deblur"
    source = "this package (random kernels of its own families, fixed seeds)"
    degradation = "Gaussian, camera shake and disk blur within 31x31, no downsampling, Gaussian noise of 2.55, 8 bit"
    scales = (1,)
    sets = ("Set5", "Set14")

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [label for label, _ in FAMILIES]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return FAMILIES[index][1].sample(1, self.scale, KERNEL_SIZE, generator)[0]

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return NOISE
