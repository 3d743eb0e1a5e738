"""A photograph in memory: float pixels for the network, and the metadata of its file."""

import contextlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from blinddiff.errors import ImageError, ParameterError
from blinddiff.files import release_pages
from blinddiff.imaging.colour import ToneCurve, linear_to_srgb, srgb_to_linear
from blinddiff.imaging.metadata import transposes

Planes: TypeAlias = NDArray[np.float32]
"""Pixels in memory, (C, H, W) in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """A decoded image file.

    Attributes:
        pixels: (3, H, W) float32 in [0, 1], upright RGB with the tone curve of sRGB and the primaries of the colour
            profile. A grey image has three equal channels.
        alpha: (1, H, W) float32 in [0, 1], 1 is opaque, not premultiplied; None without transparency.
        grey: whether the file is grey; it is then written as grey.
        bit_depth: bits per channel: 8 for up to 8 bits and palettes, 16 for 9 to 16 bits, 32 for floats.
        mode: Pillow's name of the file's pixel format, such as "RGB", "P" or "I;16"; for formats without one, a similar
            name, such as "RGB;16" or "RGB;32F".
        file_format: Pillow's name of the file format, such as "PNG".
        icc_profile: the embedded colour profile, unchanged; or one made from the file's declared colour space.
        exif, xmp: the EXIF block (without thumbnail) and the XMP packet, both with upright orientation.
        dpi: pixels per inch, horizontal and vertical; None if the file states none.
        texts: PNG texts by keyword; comments of JPEG and GIF files under "Comment".
        iptc: the IPTC records.
        gain_map: the gain map of an Ultra HDR JPEG file, upright; itself a JPEG file with its metadata.
        path: the file; None if decoded from bytes.
        jpeg_step: mean step of a JPEG file's luma quantisation table; 0 for other formats.
        notes: what was changed or left out while reading, one line each, for the user.
    """

    pixels: Planes
    alpha: Planes | None
    grey: bool
    bit_depth: int
    mode: str
    file_format: str
    icc_profile: bytes | None
    exif: bytes | None
    xmp: bytes | None
    path: Path | None
    jpeg_step: float = 0.0
    notes: tuple[str, ...] = ()
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    iptc: bytes | None = None
    gain_map: bytes | None = None

    def without_metadata(self) -> "Photograph":
        """Return the photograph without what its file says in words and about other parts; for pictures made of it."""
        return replace(self, exif=None, xmp=None, dpi=None, texts={}, iptc=None, gain_map=None)


PixelArray: TypeAlias = NDArray[Any]
"""Pixels as stored in files, (H, W, C): grey, grey and alpha, RGB or RGBA; uint8, uint16, or float32 in [0, 1]."""


class StoredImage(NamedTuple):
    """A decoded file before its EXIF `orientation` is applied; ``xmp`` as stored; others as in `Photograph`."""

    array: PixelArray
    mode: str
    orientation: int | None
    icc_profile: bytes | None
    exif: bytes | None
    xmp: object
    notes: tuple[str, ...] = ()
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = MappingProxyType({})
    iptc: bytes | None = None


class Metadata(NamedTuple):
    """What an encoder writes besides the pixels, as in `Photograph`, for the result."""

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    texts: Mapping[str, str] = MappingProxyType({})
    iptc: bytes | None = None
    gain_map: bytes | None = None


_BAND = 256  # rows that are converted at once, because a result may be on disk
_WHITE = {"uint8": 255, "uint16": 65535, "float32": 1, "float64": 1}
_CONVERTED_MODES = {"1": "L", "La": "LA", "P": "RGB", "PA": "RGBA", "RGBX": "RGB", "RGBa": "RGBA"}
_CONVERTED_MODES |= {mode: mode for mode in ("L", "LA", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "I;16N")}
_MODE_REMARKS = {"CMYK": " (printing inks)", "LAB": " (CIE Lab)", "I": " (32-bit integers)", "F": " (32-bit floats)"}


def from_picture(picture: Image.Image) -> tuple[Planes, Planes | None]:
    """Return colours (3, H, W), three equal channels if grey, and alpha (1, H, W) or None, float32 in [0, 1].

    Raises ImageError for pictures other than 1-bit, grey, 16-bit grey, palette, RGB and RGBA.
    """
    return split_channels(picture_array(picture))


def from_array(array: PixelArray) -> Planes:
    """Return an array (h, w), (h, w, 3) or (3, h, w) of uint8, uint16, or floats in [0, 1] as (3, h, w).

    Raises ImageError for another shape, type or range.
    """
    if array.dtype.name not in _WHITE:
        raise ImageError(f"pixels of type {array.dtype} are not accepted: use {', '.join(_WHITE)}")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[-1]) or array.size == 0:
        raise ImageError(f"an array of shape {array.shape} is not (h, w), (h, w, 3) or (3, h, w)")
    array = np.moveaxis(array, -1, 0) if array.shape[-1] == 3 else array
    planes = np.ascontiguousarray(array, np.float32) / np.float32(_WHITE[array.dtype.name])
    if not (np.isfinite(planes).all() and planes.min() >= -0.01 and planes.max() <= 1.01):
        raise ImageError("float images must be finite and lie in [0, 1]")
    return planes


def open_picture(data: bytes, *formats: str) -> ImageFile.ImageFile:
    """`PIL.Image.open` without its limit of pixels, a setting of the whole process; callers apply their own.

    Raises UnidentifiedImageError for other formats than these, in Pillow's names.
    """
    Image.init()  # registers the less usual formats, once
    for factory, accept in map(Image.OPEN.__getitem__, formats):
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Pillow does
            if accept is None or accept(data[:16]) is True:
                return factory(io.BytesIO(data), "")
    raise UnidentifiedImageError(" or ".join(formats))


def picture_array(picture: Image.Image) -> PixelArray:
    """Return a picture's pixels, uint8, or uint16 for 16-bit grey. Raises ImageError as `from_picture` does."""
    mode = _CONVERTED_MODES.get(picture.mode)
    if mode is None:
        kind = picture.mode + _MODE_REMARKS.get(picture.mode, "")
        raise ImageError(f"pixels of kind {kind} are not supported: convert the image to grey, RGB or RGBA first")
    if "transparency" in picture.info and not mode.startswith("I;16"):
        mode = "RGBA" if mode.startswith("RGB") else "LA"  # one colour or some palette entries are transparent
    return channels_last(np.asarray(picture.convert(mode)))


def channels_last(array: PixelArray) -> PixelArray:
    """Return (H, W) or (H, W, C) as (H, W, C). Raises ImageError for other shapes."""
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"pixels in {array.ndim} dimensions are not supported")
    return array[..., None] if array.ndim == 2 else array


def white_of(array: PixelArray) -> float:
    """Return the value of white for the array's type."""
    return 1 if array.dtype.kind == "f" else np.iinfo(array.dtype).max


def stretch(array: PixelArray, bits: int) -> PixelArray:
    """Rescale integers of 1 to 16 bits to the range of uint8, or of uint16 above 8 bits."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    if bits in (8, 16):
        return array.astype(dtype, copy=False)
    white, new_white = 2**bits - 1, np.iinfo(dtype).max
    return ((array.astype(np.uint32) * new_white + white // 2) // white).clip(0, new_white).astype(dtype)


def mode_of(array: PixelArray) -> str:
    """Return the `Photograph.mode` of pixels."""
    suffix = {"uint8": "", "uint16": ";16", "float32": ";32F"}[array.dtype.name]
    if suffix == ";16" and array.shape[-1] == 1:
        return "I;16"
    return ("L", "LA", "RGB", "RGBA")[array.shape[-1] - 1] + suffix


def upright_array(array: PixelArray, orientation: int | None) -> PixelArray:
    """Apply an EXIF orientation to an (H, W, C) array; values other than 1 to 8 are ignored."""
    if transposes(orientation):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array


def checked_floats(array: PixelArray) -> PixelArray:
    """Return floats as float32. Raises ImageError for values outside [0, 1]."""
    array = array.astype(np.float32)
    if invalid := array.size - int(np.isfinite(array).sum()):
        raise ImageError(f"has {invalid:,} values that are not finite (NaN or infinity)")
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        raise ImageError(f"has floats from {low:.3g} to {high:.3g}; accepted are 0 (black) to 1 (white)")
    return array


def divide_by_alpha(array: PixelArray) -> PixelArray:
    """Return (H, W, C), the last channel alpha, with colours that are no longer multiplied by it."""
    white, array = np.float32(white_of(array)), array.copy()
    share = np.maximum(array[..., -1].astype(np.float32) / white, np.float32(1 / 65535))
    for index in range(array.shape[-1] - 1):  # by channel, to save memory
        straight = (array[..., index] / share).clip(0, white)
        array[..., index] = straight if array.dtype.kind == "f" else straight.round()
    return array


def refuse_too_many_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageError if an image has more than `max_pixels`."""
    if width * height > max_pixels:
        raise ImageError(f"has {width} x {height} pixels, more than the {max_pixels:,} pixels that are accepted")


def split_channels(array: PixelArray, tone: ToneCurve | None = None) -> tuple[Planes, Planes | None]:
    """Return the colours and alpha of (H, W, C) as `from_picture`. `tone` is the file's tone curve, None for sRGB."""
    white = np.float32(white_of(array))
    channels = array.shape[-1]
    colours = channels - (channels in (2, 4))
    planes = np.empty((3, *array.shape[:2]), np.float32)
    for index in range(colours):  # by channel, to save memory
        plane = array[..., index].astype(np.float32)
        plane /= white
        planes[index] = plane if tone is None else tone.to_srgb(plane)
    planes[colours:] = planes[0]
    alpha = None if colours == channels else array[..., -1][None].astype(np.float32) / white
    return planes, alpha


def to_picture(pixels: ArrayLike) -> Image.Image:
    """Return an 8-bit picture of (3, H, W) or (1, H, W) `pixels` in [0, 1]; values outside are clipped.

    Raises ParameterError for another shape, and ImageError for non-finite values.
    """
    return picture_of(to_array(np.asarray(pixels)))


def picture_of(array: PixelArray) -> Image.Image:
    """Return a Pillow picture of (H, W, C) uint8."""
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def to_array(pixels: NDArray[Any], bit_depth: int = 8, tone: ToneCurve | None = None) -> PixelArray:
    """Convert pixels, see `to_picture`, to (H, W, C) with 8, 16 or 32 (float) bits; `tone`: None for sRGB's curve."""
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or pixels.size == 0:
        raise ParameterError(f"pixels: shape {pixels.shape}; it must be (3, H, W) or (1, H, W)")
    array = np.empty((*pixels.shape[1:], len(pixels)), {8: np.uint8, 16: np.uint16, 32: np.float32}[bit_depth])
    for top, index in product(range(0, len(array), _BAND), range(len(pixels))):
        plane = pixels[index, top : top + _BAND]
        if not np.isfinite(plane).all():
            raise ImageError("the image has values that are not finite")
        values = plane.astype(np.float32).clip(0, 1)
        if tone is not None:
            values = tone.from_srgb(values)
        values = values if bit_depth == 32 else (values * np.float32(2**bit_depth - 1)).round()
        array[top : top + _BAND, :, index] = values
        release_pages()
    return array


def visible_colours(photograph: Photograph) -> Planes:
    """Return a photograph's pixels, (3, H, W), with `spread_colours` applied to transparent parts."""
    return photograph.pixels if photograph.alpha is None else spread_colours(photograph.pixels, photograph.alpha)


def spread_colours(pixels: Planes, alpha: Planes) -> Planes:
    """Replace transparent colours in (3, H, W) by means of visible ones. `alpha` is (1, H, W) in [0, 1].

    Otherwise a restoration would sharpen the edges of hidden colours, which are often black. The means are over blocks
    that grow until they contain visible pixels.
    """
    if not (alpha > 0).any():
        return pixels
    # Colours with alpha below 1/16 are partly replaced: if they were once premultiplied, they are mostly rounding.
    return _fill(pixels, (16 * alpha).clip(max=1))


def _fill(colours: Planes, weight: Planes) -> Planes:
    """Where weight, (1, h, w), is below 1, blend colours, (3, h, w), with those filled at half the resolution."""
    if (weight >= 1).all() or max(weight.shape[-2:]) == 1:
        return colours
    share = _halved(weight)
    means = _halved(colours * weight) / share.clip(1e-6)
    coarse = _fill(means, (4 * share).clip(max=1))  # one visible pixel in four gives full weight
    around = resize(coarse, colours.shape[-2:], Image.Resampling.BILINEAR)
    return weight * colours + (1 - weight) * around


def _halved(planes: Planes) -> Planes:
    """Means of blocks of 2 x 2 pixels, of fewer at the edges: (C, h, w) -> (C, (h + 1) // 2, (w + 1) // 2)."""
    return np.stack([np.asarray(Image.fromarray(plane).reduce(2)) for plane in planes])


def reduce_image(image: Planes, size: tuple[int, int]) -> Planes:
    """Reduce (..., 3, H, W), in [0, 1] with the tone curve of sRGB, to a size (height, width).

    Antialiased bicubic interpolation in linear light: fine detail then keeps its mean brightness, as in a lens. That is
    possible for every file, because `Photograph.pixels` have the tone curve of sRGB whatever the file's profile.
    """
    planes = image.reshape(-1, 1, *image.shape[-2:])  # one by one, to save memory
    reduced = [linear_to_srgb(resample(srgb_to_linear(plane), size)) for plane in planes]
    return np.concatenate(reduced).reshape(*image.shape[:-2], *size)


def resample(planes: Planes, size: tuple[int, int]) -> Planes:
    """Resample (C, H, W) by antialiased bicubic interpolation to a size (height, width), clamped to [0, 1]."""
    return resize(planes, size).clip(0, 1)


def resize(planes: Planes, size: tuple[int, int], method: Image.Resampling = Image.Resampling.BICUBIC) -> Planes:
    """Resample (C, H, W) to a size (height, width) by antialiased interpolation, bicubic with a = -0.5 by default."""
    return np.stack([np.asarray(Image.fromarray(plane).resize(size[::-1], method)) for plane in planes])


def enlarge(planes: Planes, scale: int) -> Planes:
    """Enlarge (C, H, W) by bicubic interpolation with symmetric borders, as MATLAB's ``imresize(planes, scale)``."""
    margin = 3
    around = np.pad(planes, ((0, 0), (margin, margin), (margin, margin)), "symmetric")
    size = around.shape[-2] * scale, around.shape[-1] * scale
    inner = slice(margin * scale, -margin * scale)
    return planes if scale == 1 else resize(around, size)[:, inner, inner]


def enlarge_in_range(planes: Planes, scale: int) -> Planes:
    """Enlarge (C, h, w) by bicubic interpolation, clamped to the range of the surrounding 3 x 3 pixels.

    Bicubic interpolation alone overshoots at hard edges, which is visible as an outline.
    """
    if scale == 1:
        return planes
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (-2, -1))
    low, high = (bound((-2, -1)).repeat(scale, -2).repeat(scale, -1) for bound in (windows.min, windows.max))
    return enlarge(planes, scale).clip(low, high)
