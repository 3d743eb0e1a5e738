"""DASR's general degradations: nine anisotropic Gaussian kernels, each at three noise levels."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.kernels.gaussian import anisotropic_gaussian
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

KERNEL_SIZE = 21
NOISE_LEVELS = (0.0, 10.0, 20.0)
# (sigma_1, sigma_2, theta in degrees). DASR calls the first two eigenvalues lambda; its code squares them.
KERNELS = (
    (2.0, 0.2, 0),
    (2.0, 1.0, 10),
    (3.5, 1.5, 30),
    (3.5, 2.0, 45),
    (3.5, 2.0, 90),
    (4.0, 1.5, 120),
    (4.0, 2.0, 135),
    (4.0, 3.0, 165),
    (4.0, 4.0, 180),
)


class Aniso9(SyntheticProtocol):
    """Index = noise level * 9 + kernel. DASR's paper draws the kernels; their numbers are as followers give them."""

    name = "aniso9"
    source = (
        "L. Wang et al., Unsupervised degradation representation learning (DASR), CVPR 2021, table 3; kernel "
        "parameters as stated by the authors of DSAT (github.com/I2-Multimedia-Lab/DSAT/issues/2)"
    )
    degradation = (
        "nine anisotropic Gaussian kernels 21x21, antialiased bicubic downsampling, Gaussian noise 0, 10 or 20, 8 bit"
    )
    scales = (4,)
    sets = ("Set14",)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [f"noise {noise:.0f}, {a:g} x {b:g} at {theta}" for noise in NOISE_LEVELS for a, b, theta in KERNELS]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        sigma_1, sigma_2, degrees = KERNELS[index % len(KERNELS)]
        return anisotropic_gaussian(sigma_1, sigma_2, math.radians(degrees), KERNEL_SIZE)

    def noise_level(self, index: int) -> float:
        """See `SyntheticProtocol.noise_level`."""
        return NOISE_LEVELS[index // len(KERNELS)]
