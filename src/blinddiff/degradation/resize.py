"""Resampling: padding, MATLAB's bicubic by integer factors with its exact adjoint, and the model's downsampling.

Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.5; downsampling
widens the cubic by the factor (antialiasing) and normalises the weights; padding is symmetric. For an integer factor
the weights repeat, so that each axis is one strided correlation.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import model
from blinddiff.errors import ParameterError

Border = Literal["reflect", "symmetric", "circular"]


def border_indices(length: int, before: int, after: int, border: Border) -> Tensor:
    """Source index of every sample of the extended axis: (before + length + after,) int64."""
    i = torch.arange(-before, length + after)
    if border == "circular":
        return i % length
    repeated = int(border == "symmetric")  # the edge sample is repeated
    period = max(2 * (length - 1 + repeated), 1)
    i = i % period
    return torch.minimum(i, period - repeated - i)


def extend(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], border: Border) -> Tensor:
    """Pad the last two axes of ``x`` by (before, after) rows and columns."""
    height, width = x.shape[-2:]
    x = x.index_select(-2, border_indices(height, *rows, border).to(x.device))
    return x.index_select(-1, border_indices(width, *columns, border).to(x.device))


def extend_adjoint(z: Tensor, rows: tuple[int, int], columns: tuple[int, int], border: Border) -> Tensor:
    """The exact adjoint of `extend`: every padded sample is added to the sample it was copied from."""
    height, width = z.shape[-2] - sum(rows), z.shape[-1] - sum(columns)
    across = z.new_zeros(*z.shape[:-1], width)
    across.index_add_(-1, border_indices(width, *columns, border).to(z.device), z)
    down = z.new_zeros(*z.shape[:-2], height, width)
    return down.index_add_(-2, border_indices(height, *rows, border).to(z.device), across)


@lru_cache
def downsampling_taps(scale: int) -> tuple[Tensor, int]:
    """`model.downsampling_taps` with the weights as a tensor."""
    weights, first = model.downsampling_taps(scale)
    return torch.from_numpy(weights), first


@lru_cache
def _upsampling_taps(scale: int) -> tuple[Tensor, int]:
    """Weights (scale, taps), one row per phase p, and first offset d: x[scale * m + p] = sum_t w[p, t] y[m + d + t]."""
    first = -2
    phase = (torch.arange(scale, dtype=torch.float64) + 0.5) / scale - 0.5
    weights = model.cubic(first + torch.arange(5, dtype=torch.float64) - phase[:, None])
    return weights / weights.sum(1, keepdim=True), first


def correlate_decimate(x: Tensor, weights: Tensor, first: int, scale: int, border: Border) -> Tensor:
    """Along both axes, y[i] = sum_t weights[t] x[scale * i + first + t], first <= 0: (..., s*h, s*w) -> (..., h, w)."""
    rows = -first, max(first + len(weights) - scale, 0)
    taps = weights.to(x)
    z = extend(x, rows, rows, border)
    z = z.reshape(-1, 1, *z.shape[-2:])
    z = F.conv2d(z, taps.view(1, 1, -1, 1), stride=(scale, 1))
    z = F.conv2d(z, taps.view(1, 1, 1, -1), stride=(1, scale))
    return z.reshape(*x.shape[:-2], *z.shape[-2:])


def correlate_decimate_adjoint(y: Tensor, weights: Tensor, first: int, scale: int, border: Border) -> Tensor:
    """The exact adjoint of `correlate_decimate`: (..., h, w) -> (..., s*h, s*w)."""
    rows = -first, max(first + len(weights) - scale, 0)
    taps = weights.to(y)
    z = y.reshape(-1, 1, *y.shape[-2:])
    z = F.conv_transpose2d(z, taps.view(1, 1, 1, -1), stride=(1, scale))
    z = F.conv_transpose2d(z, taps.view(1, 1, -1, 1), stride=(scale, 1))
    z = z.reshape(*y.shape[:-2], *z.shape[-2:])
    # With fewer weights than the factor, conv_transpose2d omits the last samples of each line.
    missing = [scale * n + sum(rows) - m for n, m in zip(y.shape[-2:], z.shape[-2:], strict=True)]
    return extend_adjoint(F.pad(z, (0, missing[1], 0, missing[0])), rows, rows, border)


def bicubic_downsample(x: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic reduction, equal to MATLAB's ``imresize(x, 1/scale)``: (..., s*h, s*w) -> (..., h, w).

    Raises ParameterError if a side is not a multiple of the scale.
    """
    width, height = x.shape[-1], x.shape[-2]
    if width % scale or height % scale:
        raise ParameterError(f"an image of {width}x{height} cannot be reduced by {scale}: crop it to a multiple")
    return x if scale == 1 else correlate_decimate(x, *downsampling_taps(scale), scale, "symmetric")


def bicubic_upsample(y: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement, equal to MATLAB's ``imresize(y, scale)``: (..., h, w) -> (..., s*h, s*w)."""
    if scale == 1:
        return y
    weights, first = _upsampling_taps(scale)
    taps = weights.to(y)
    margin = -first, first + weights.shape[1] - 1
    z = extend(y, margin, margin, "symmetric")
    z = z.reshape(-1, 1, *z.shape[-2:])
    z = F.conv2d(z, taps.view(scale, 1, -1, 1))  # (N, s, h, w + margin)
    z = z.transpose(1, 2).reshape(z.shape[0], 1, -1, z.shape[-1])
    z = F.conv2d(z, taps.view(scale, 1, 1, -1))  # (N, s, s*h, w)
    z = z.permute(0, 2, 3, 1).reshape(z.shape[0], z.shape[2], -1)
    return z.reshape(*y.shape[:-2], *z.shape[-2:])


class Downsampling(ABC):
    """How the blurred image is reduced to the LR grid."""

    @abstractmethod
    def taps(self, scale: int) -> tuple[Tensor, int]:
        """Weights w and first offset d <= 0: y[i] = sum_t w[t] x[scale * i + d + t] along each axis."""


@dataclass(frozen=True)
class Bicubic(Downsampling):
    """MATLAB's antialiased bicubic: the LR pixel lies at the centre of its block of HR pixels."""

    def taps(self, scale: int) -> tuple[Tensor, int]:
        return (torch.ones(1, dtype=torch.float64), 0) if scale == 1 else downsampling_taps(scale)


@dataclass(frozen=True)
class Decimate(Downsampling):
    """Direct s-fold decimation: y[i] = x[scale * i + offset] along each axis.

    With ``offset`` 0 the LR pixel lies on the *first* HR pixel of its block, (s - 1) / 2 pixels off its centre; DIV2KRK
    uses that, and shifts its kernels by (s - 1) / 2 to compensate.
    """

    offset: int = 0

    def taps(self, scale: int) -> tuple[Tensor, int]:
        if not 0 <= self.offset < scale:
            raise ParameterError(f"a decimation offset of {self.offset} is outside 0 to {scale - 1} (scale {scale})")
        weights = torch.zeros(self.offset + 1, dtype=torch.float64)
        weights[self.offset] = 1
        return weights, 0


BICUBIC = Bicubic()
