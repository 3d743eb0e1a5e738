"""A photograph in memory: pixels for the network, and what its file held besides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blinddiff.errors import ImageError, ParameterError
from blinddiff.imaging.colour import ToneCurve


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image file, read.

    Attributes:
        pixels: (3, H, W) float32 in [0, 1], RGB, upright (the file's orientation is applied), in the tone of sRGB: the
            tone curve of the colour profile is undone, its primaries are kept (see `ToneCurve`). A grey image has three
            equal channels.
        alpha: (1, H, W) float32 in [0, 1], 1 is opaque; None where the file has no transparency. Colours are not
            multiplied with it.
        grey: whether the file holds no colour; it is then written without.
        bit_depth: bits of one channel in the file: 8 (also for a 1-bit or palette image), 16 (for everything above 8),
            or 32 for floats.
        mode: Pillow's name for the file's kind of pixel, such as "L", "RGB", "RGBA", "P" or "I;16", or what it would be
            called if Pillow knew it, such as "RGB;16" or "RGB;32F".
        file_format: name of the file's format, such as "PNG".
        icc_profile: the embedded colour profile, unchanged; or one of the colours that the file declares by numbers.
        exif: the EXIF block without the orientation, which is applied already.
        xmp: the XMP packet, its orientation set to upright.
        path: where it came from; None if from bytes.
    """

    pixels: Tensor
    alpha: Tensor | None
    grey: bool
    bit_depth: int
    mode: str
    file_format: str
    icc_profile: bytes | None
    exif: bytes | None
    xmp: bytes | None
    path: Path | None


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


OPAQUE_ENOUGH = 1 / 16
"""Alpha from which a colour counts as it is: below, 8-bit files made from multiplied colours hold mostly rounding."""


def visible_colours(photograph: Photograph) -> Tensor:
    """Return a photograph's pixels, (3, H, W), with nothing left of those that its transparency hides."""
    return photograph.pixels if photograph.alpha is None else spread_colours(photograph.pixels, photograph.alpha)


def spread_colours(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Return (3, H, W) `pixels` whose colours go on smoothly under the transparent parts.

    A restoration that sees an edge between a visible colour and the black or the rubbish hidden beside it sharpens that
    edge, and shows it. So what is hidden is replaced by means of the visible colours around, the nearest first: means
    weighted by alpha (of multiplied colours, that is) over ever larger blocks.

    Args:
        pixels: (3, H, W).
        alpha: (1, H, W) in [0, 1].
    """
    if not bool((alpha > 0).any()):
        return pixels  # nothing is visible: nothing to go on from
    return _filled(pixels[None], (alpha / OPAQUE_ENOUGH).clamp(max=1)[None])[0]


def _filled(colours: Tensor, weight: Tensor) -> Tensor:
    """(1, 3, h, w) colours where (1, 1, h, w) weights are 1; where they are less, from half the resolution."""
    if bool((weight >= 1).all()) or max(weight.shape[-2:]) == 1:
        return colours
    share = _halved(weight)
    means = _halved(colours * weight) / share.clamp(min=1e-6)
    coarse = _filled(means, (4 * share).clamp(max=1))  # one pixel of four that is visible is enough to tell
    around = F.interpolate(coarse, size=weight.shape[-2:], mode="bilinear", align_corners=False)
    return weight * colours + (1 - weight) * around


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
