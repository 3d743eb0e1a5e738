"""The Y channel that super-resolution papers measure on."""

import torch
from torch import Tensor

from blinddiff.errors import ImageError


def luma(image: Tensor) -> Tensor:
    """BT.601 studio-swing Y in grey levels, 16 to 235, not rounded: (..., 3, H, W) in [0, 1] -> (..., H, W).

    Equal to MATLAB's rgb2ycbcr on a float image, times 255. (`full_swing_luma` reads 1.32 dB lower.)
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=image.dtype, device=image.device)
    return 16 + torch.einsum("c,...chw->...hw", weights, image)


def full_swing_luma(image: Tensor) -> Tensor:
    """BT.601 luma in grey levels 0 to 255, as the Y of YIQ: (..., 3, H, W) in [0, 1] -> (..., H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return 255 * torch.einsum("c,...chw->...hw", weights, image)


def cropped_pair(image: Tensor, reference: Tensor, crop: int) -> tuple[Tensor, Tensor]:
    """Both images without `crop` pixels on each side. Raises ImageError if their sizes differ or nothing is left."""
    if image.shape != reference.shape:
        raise ImageError(f"images of shapes {tuple(image.shape)} and {tuple(reference.shape)} cannot be compared")
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise ImageError(f"an image of {width}x{height} has nothing left when {crop} pixels are cropped from each side")
    inner = slice(crop, height - crop), slice(crop, width - crop)
    return image[..., inner[0], inner[1]], reference[..., inner[0], inner[1]]
