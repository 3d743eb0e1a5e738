"""Setting 1 and setting 2 of BlindDiff: random Gaussian kernels, one an image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.presets import SETTING1, SETTING2
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

SOURCE = "BlindDiff, arXiv 2403.10211, and its published code (ranges of training; its test kernels are not published)"


class Setting1(SyntheticProtocol):
    """Isotropic Gaussians."""

    name = "setting1"
    source = SOURCE
    degradation = "isotropic Gaussian blur 21x21, sigma uniform in [0.2, 4], antialiased bicubic downsampling, 8 bit"
    scales = (4,)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["random isotropic Gaussian"]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return SETTING1.sample(1, generator)[0]


class Setting2(SyntheticProtocol):
    """Anisotropic Gaussians with multiplicative noise on their entries."""

    name = "setting2"
    source = SOURCE
    degradation = (
        "anisotropic Gaussian blur 21x21, both sigmas uniform in [0.6, 5], any angle, entries changed by up to 25 %, "
        "antialiased bicubic downsampling, 8 bit"
    )
    scales = (4,)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return ["random anisotropic Gaussian"]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return SETTING2.sample(1, generator)[0]


class Setting2Noise10(Setting2):
    """Setting 2 with noise of 10 grey levels: what the paper calls complex degradation, without a set of its own."""

    name = "setting2_noise10"
    degradation = Setting2.degradation.replace(", 8 bit", ", Gaussian noise 10, 8 bit")

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return 10.0
