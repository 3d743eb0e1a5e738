"""Gaussian8: eight isotropic Gaussian kernels on every image, the benchmark of blind super-resolution since IKC."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.kernels.gaussian import isotropic_gaussian
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol

SIGMA_RANGE = {2: (0.8, 1.6), 3: (1.35, 2.4), 4: (1.8, 3.2)}
KERNEL_SIZE = 21


class Gaussian8(SyntheticProtocol):
    """Eight widths evenly spaced over the scale's range, ends included."""

    name = "gaussian8"
    source = "J. Gu et al., Blind super-resolution with iterative kernel correction (IKC), CVPR 2019"
    degradation = "isotropic Gaussian blur 21x21 of eight widths, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The eight widths in HR pixels."""
        low, high = SIGMA_RANGE[self.scale]
        return tuple(low + (high - low) * i / 7 for i in range(8))

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [f"sigma {sigma:.2f}" for sigma in self.sigmas]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return isotropic_gaussian(self.sigmas[index], KERNEL_SIZE)
