"""How the blurred image is thinned out: the downsampling of y = (x (*) k) down_s + n, as an object."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blinddiff.degradation.resize import downsampling_taps
from blinddiff.errors import ParameterError


@dataclass(frozen=True)
class Bicubic:
    """MATLAB's antialiased bicubic: the LR pixel lies in the middle of its block of HR pixels."""

    def taps(self, scale: int) -> tuple[Tensor, int]:
        """Weights w and first offset d <= 0: y[i] = sum_t w[t] x[scale * i + d + t] along each axis."""
        if scale == 1:
            return torch.ones(1, dtype=torch.float64), 0
        return downsampling_taps(scale)


@dataclass(frozen=True)
class Decimate:
    """Direct s-fold decimation: y[i] = x[scale * i + offset] along each axis.

    With ``offset`` 0 the LR pixel lies on the *first* HR pixel of its block, (s - 1) / 2 pixels off its middle; DIV2KRK
    uses that, and moves its kernels by (s - 1) / 2 to make up for it.
    """

    offset: int = 0

    def taps(self, scale: int) -> tuple[Tensor, int]:
        """Weights w and first offset d <= 0: y[i] = sum_t w[t] x[scale * i + d + t] along each axis."""
        if not 0 <= self.offset < scale:
            raise ParameterError(f"a decimation offset of {self.offset} is outside 0 to {scale - 1} (scale {scale})")
        weights = torch.zeros(self.offset + 1, dtype=torch.float64)
        weights[self.offset] = 1
        return weights, 0


Downsampling = Bicubic | Decimate

BICUBIC = Bicubic()
