"""Which pixels of an image are photograph: frames and clipped pixels say nothing of its blur and noise."""

import torch
from torch import Tensor

WHITE, BLACK = 254.5 / 255, 0.5 / 255
CONSTANT = 1.5 / 255
"""Largest difference from its median within a row of a frame: compression and rounding leave less."""
EDGE = 2  # pixels beside a frame that resampling has mixed with it
MAX_FRAME = 0.45  # share of a side; beyond it, the image itself is flat


def photograph_area(y: Tensor) -> Tensor:
    """True where images (B, 3, h, w) in [0, 1] show the photograph: (B, h, w).

    Left out are pixels with a channel at white, or with all channels at black, where the photograph was clipped or
    something was drawn onto it; and rows and columns of one colour at the border, with `EDGE` pixels beside them.
    """
    clipped = (y >= WHITE).any(1) | (y <= BLACK).all(1)
    return ~(clipped | _frame(y) | _frame(y.transpose(-1, -2)).transpose(-1, -2))


def _frame(y: Tensor) -> Tensor:
    """Rows of one colour at the top and the bottom, of (B, 3, h, w): (B, h, w)."""
    height, width = y.shape[-2:]
    inside = torch.zeros_like(y[:, 0, :, 0], dtype=torch.bool)  # (B, h)
    # Most photographs have no frame, and medians are slow; but a graph computes the same for every image.
    if torch.compiler.is_exporting() or bool(_one_colour(y[..., [0, -1], :]).any()):
        constant = _one_colour(y)
        for rows in (constant, constant.flip(-1)):
            count = ((~rows).cumsum(-1) == 0).sum(-1)  # rows of the frame at this side
            count = torch.where(count > MAX_FRAME * height, torch.zeros_like(count), count)
            count = torch.where(count > 0, count + EDGE, count)
            inside = inside.flip(-1) | (torch.arange(height, device=y.device) < count[:, None])
        inside = inside.flip(-1)
    return inside[..., None].expand(-1, -1, width)


def _one_colour(y: Tensor) -> Tensor:
    """Whether almost all pixels of a row are near the row's median: (B, 3, h, w) -> (B, h)."""
    middle = y.median(-1, keepdim=True).values
    return ((y - middle).abs() <= CONSTANT).float().mean((1, 3)) > 0.99
