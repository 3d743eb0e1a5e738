"""Between Pillow's pictures, numpy arrays and tensors."""

from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from blinddiff.errors import ImageError, ParameterError
from blinddiff.imaging.tone import ToneCurve

Samples: TypeAlias = NDArray[Any]
"""Pixels as files hold them, (H, W, C), C from 1 to 4: uint8, uint16, or float32 in [0, 1]."""

_TYPES: dict[int, np.dtype[Any]] = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.float32)}
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBX", "RGBA", "RGBa"})
_WORK_MODES = {"1": "L", "La": "LA", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA"}
_WORDS = {"CMYK": "CMYK (printing inks)", "LAB": "LAB (CIE Lab)", "I": "I (32-bit integers)", "F": "F (32-bit floats)"}


def from_picture(picture: Image.Image) -> tuple[Tensor, Tensor | None]:
    """Return the colours (3, H, W) and the transparency (1, H, W) or None, float32 in [0, 1].

    Accepts 1-bit, grey, 16-bit grey, palette, RGB and RGBA pictures; grey becomes three equal channels.

    Raises:
        ImageError: another kind of pixel (CMYK, Lab, 32-bit integers or floats), which cannot be taken for RGB.
    """
    return split_channels(picture_array(picture))


def picture_array(picture: Image.Image) -> Samples:
    """Return a picture's pixels, (H, W, C): grey, grey and alpha, RGB, or RGBA; uint8, or uint16 for 16-bit grey.

    Raises:
        ImageError: as `from_picture`.
    """
    if picture.mode not in _GREY_MODES | _COLOUR_MODES:
        kind = _WORDS.get(picture.mode, picture.mode)
        raise ImageError(f"pixels of kind {kind} are not supported: convert the image to grey, RGB or RGBA first")
    if "transparency" in picture.info and not picture.mode.startswith("I;16"):
        # one colour, or palette entries, declared transparent
        picture = picture.convert("LA" if picture.mode in _GREY_MODES else "RGBA")
    else:
        picture = picture.convert(_WORK_MODES.get(picture.mode, picture.mode))
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def split_channels(array: Samples, tone: ToneCurve | None = None) -> tuple[Tensor, Tensor | None]:
    """Return the colours, in the tone of sRGB, and the transparency, as `from_picture`.

    Args:
        array: (H, W, C).
        tone: the curve that its colours follow, if it is not that of sRGB.
    """
    white = np.float32(1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max)
    channels = array.shape[-1]
    colours = channels - (channels in (2, 4))
    planes = torch.empty(3, *array.shape[:2])
    for index in range(colours):  # one after the other: a whole image of float32 is four times the file's pixels
        plane = array[..., index].astype(np.float32)
        plane /= white
        planes[index] = torch.from_numpy(plane if tone is None else tone.to_srgb(plane))
    planes[colours:] = planes[0]
    if colours == channels:
        return planes, None
    return planes, torch.from_numpy(array[..., -1][None].astype(np.float32) / white)


def to_picture(pixels: Tensor) -> Image.Image:
    """Return an 8-bit picture of (3, H, W) or (1, H, W) `pixels` in [0, 1]; values beyond are clipped.

    Raises:
        ParameterError: `pixels` has another shape.
        ImageError: `pixels` holds values that are not finite.
    """
    array = to_array(pixels)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def to_array(pixels: Tensor, bit_depth: int = 8, tone: ToneCurve | None = None) -> Samples:
    """Return `pixels` as an (H, W, C) array, C = 1 or 3; errors as `to_picture`.

    Args:
        pixels: (3, H, W) or (1, H, W) in [0, 1]; values beyond are clipped.
        bit_depth: 8, 16, or 32 for floats.
        tone: the curve that the colours shall follow, if it is not that of sRGB.
    """
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or pixels.numel() == 0:
        raise ParameterError(f"pixels: shape {tuple(pixels.shape)}; accepted is (3, H, W) or (1, H, W)")
    array = np.empty((*pixels.shape[1:], len(pixels)), _TYPES[bit_depth])
    for index, plane in enumerate(pixels.detach()):
        values = plane.cpu().float()
        if not bool(torch.isfinite(values).all()):
            raise ImageError("the image holds values that are not finite")
        values = values.clamp(0, 1)
        if tone is not None:
            values = torch.from_numpy(tone.from_srgb(values.numpy()))
        array[..., index] = values if bit_depth == 32 else (values * (2**bit_depth - 1)).round()
    return array
