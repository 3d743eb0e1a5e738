"""Borders: how an image goes on beyond its edge, as a linear map with its exact adjoint.

The three rules are index maps, so that an image may be extended by more than its own size, and so that the adjoint
is the same map run backwards.

- ``reflect``: ``d c b | a b c d | c b a`` (the published blur, scipy's ``mirror``),
- ``symmetric``: ``b a | a b c d | d c`` (MATLAB's imresize, scipy's ``reflect``),
- ``circular``: ``c d | a b c d | a b`` (what the Fourier transform assumes).
"""

from typing import Literal

import torch
from torch import Tensor

Border = Literal["reflect", "symmetric", "circular"]


def border_indices(length: int, before: int, after: int, border: Border) -> Tensor:
    """Source index of every sample of the extended axis: (before + length + after,) int64."""
    i = torch.arange(-before, length + after)
    if border == "circular":
        return i % length
    if border == "symmetric":
        i = i % (2 * length)
        return torch.minimum(i, 2 * length - 1 - i)
    if length == 1:
        return torch.zeros_like(i)
    i = i % (2 * length - 2)
    return torch.minimum(i, 2 * length - 2 - i)


def extend(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], border: Border) -> Tensor:
    """Extend the last two axes of ``x`` by (before, after) rows and columns."""
    height, width = x.shape[-2:]
    x = x.index_select(-2, border_indices(height, *rows, border).to(x.device))
    return x.index_select(-1, border_indices(width, *columns, border).to(x.device))


def extend_adjoint(z: Tensor, rows: tuple[int, int], columns: tuple[int, int], border: Border) -> Tensor:
    """The exact adjoint of `extend`: every extended sample is added back to the sample it was copied from."""
    height, width = z.shape[-2] - sum(rows), z.shape[-1] - sum(columns)
    across = z.new_zeros(*z.shape[:-1], width)
    across.index_add_(-1, border_indices(width, *columns, border).to(z.device), z)
    down = z.new_zeros(*z.shape[:-2], height, width)
    return down.index_add_(-2, border_indices(height, *rows, border).to(z.device), across)
