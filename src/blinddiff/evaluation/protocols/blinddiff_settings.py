"""Setting 1 and setting 2 of BlindDiff: random Gaussian kernels, one an image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.kernels.gaussian import anisotropic_gaussian, isotropic_gaussian, roughen
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

KERNEL_SIZE = 21
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
        return isotropic_gaussian(draw_uniform(1, 0.2, 4.0, generator), KERNEL_SIZE)[0]


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
        sigma_x, sigma_y = draw_uniform((2, 1), 0.6, 5.0, generator)
        theta = draw_uniform(1, -math.pi, math.pi, generator)
        return roughen(anisotropic_gaussian(sigma_x, sigma_y, theta, KERNEL_SIZE), 0.25, generator)[0]


class Setting2Noise10(Setting2):
    """Setting 2 with noise of 10 grey levels: what the paper calls complex degradation, without a set of its own."""

    name = "setting2_noise10"
    degradation = Setting2.degradation.replace(", 8 bit", ", Gaussian noise 10, 8 bit")

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return 10.0
