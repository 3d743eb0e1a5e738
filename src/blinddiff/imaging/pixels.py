"""Between Pillow's pictures, numpy arrays and tensors."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blinddiff.errors import ImageError, ParameterError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBX", "RGBA", "RGBa"})
_WORK_MODES = {"1": "L", "La": "LA", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA"}


def from_picture(picture: Image.Image) -> tuple[Tensor, Tensor | None]:
    """Return the colours (3, H, W) and the transparency (1, H, W) or None, float32 in [0, 1].

    Accepts 1-bit, grey, 16-bit grey, palette, RGB and RGBA pictures; grey becomes three equal channels.

    Raises:
        ImageError: another kind of pixel (CMYK, Lab, 32-bit integers or floats), which cannot be taken for RGB.
    """
    return split_channels(picture_array(picture))


def picture_array(picture: Image.Image) -> NDArray[np.integer]:
    """Return (H, W, C), C from 1 to 4: grey, grey and alpha, RGB, or RGBA; uint8, or uint16 for 16-bit grey.

    Raises:
        ImageError: as `from_picture`.
    """
    if picture.mode not in GREY_MODES | COLOUR_MODES:
        raise ImageError(
            f"pixels of kind {picture.mode} are not supported: convert the image to grey, RGB or RGBA first"
        )
    if "transparency" in picture.info and not picture.mode.startswith("I;16"):
        picture = picture.convert("RGBA")  # one colour, or palette entries, declared transparent
    else:
        picture = picture.convert(_WORK_MODES.get(picture.mode, picture.mode))
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def split_channels(array: NDArray[np.integer]) -> tuple[Tensor, Tensor | None]:
    """Return the colours and the transparency of an (H, W, C) integer array, as `from_picture`."""
    scaled = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    planes = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))
    has_alpha = len(planes) in (2, 4)
    colours, alpha = (planes[:-1], planes[-1:]) if has_alpha else (planes, None)
    return colours.expand(3, -1, -1).contiguous(), alpha


def to_picture(pixels: Tensor) -> Image.Image:
    """Return an 8-bit picture of (3, H, W) or (1, H, W) `pixels` in [0, 1]; values beyond are clipped.

    Raises:
        ParameterError: `pixels` has another shape.
        ImageError: `pixels` holds values that are not finite.
    """
    array = to_bytes(pixels)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Return `pixels` as an (H, W, C) array of bytes, C = 1 or 3; errors as `to_picture`."""
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or pixels.numel() == 0:
        raise ParameterError(f"pixels: shape {tuple(pixels.shape)}; accepted is (3, H, W) or (1, H, W)")
    values = pixels.detach().cpu().float()
    if not bool(torch.isfinite(values).all()):
        raise ImageError("the image holds values that are not finite")
    rounded = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(1, 2, 0).numpy())
