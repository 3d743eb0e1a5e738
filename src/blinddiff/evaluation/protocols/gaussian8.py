"""Gaussian8: eight isotropic Gaussian kernels on every image, the benchmark of blind super-resolution since IKC."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blinddiff.degradation.presets import GAUSSIAN8_SIGMAS, gaussian8_kernels
from blinddiff.evaluation.protocols.synthetic import SyntheticProtocol


class Gaussian8(SyntheticProtocol):
    """Eight widths evenly spaced over the scale's range, ends included."""

    name = "gaussian8"
    source = "J. Gu et al., Blind super-resolution with iterative kernel correction (IKC), CVPR 2019"
    degradation = "isotropic Gaussian blur 21x21 of eight widths, antialiased bicubic downsampling, 8 bit"
    scales = (2, 3, 4)

    @property
    def labels(self) -> Sequence[str]:
        """See `Protocol.labels`."""
        return [f"sigma {sigma:.2f}" for sigma in GAUSSIAN8_SIGMAS[self.scale]]

    def kernel(self, index: int, generator: torch.Generator) -> Tensor:
        """See `SyntheticProtocol.kernel`."""
        return gaussian8_kernels(self.scale)[index]
