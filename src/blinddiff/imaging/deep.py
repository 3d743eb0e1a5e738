"""More than 8 bits a channel: the pixels of those PNG, JPEG 2000, AVIF and PPM files that Pillow would cut down to 8.

Whole numbers of every depth come out as uint16 with white at 65535.
"""

import re
import struct

import numpy as np
from PIL import ImageFile

from blinddiff.errors import ImageError
from blinddiff.imaging.pixels import Samples

_SRGB_OR_GREY = b"\x10\x11"  # enumerated colour spaces of JPEG 2000


def deep_pixels(picture: ImageFile.ImageFile, data: bytes) -> Samples | None:
    """Return the pixels as stored; None where Pillow reads this file without loss.

    Raises:
        ImageError: a kind of file that nothing here reads without loss.
        Exception: of whatever type, from a decoder of a damaged file.
    """
    if picture.format == "PPM":
        return _ppm(picture)
    reader = {"PNG": _png, "JPEG2000": _jpeg2000, "AVIF": _avif}.get(picture.format or "")
    return None if reader is None else reader(data)


def _png(data: bytes) -> Samples | None:
    if data[24] != 16:  # the header's bit depth
        return None
    import imagecodecs

    return channels_last(imagecodecs.png_decode(data))


def _jpeg2000(data: bytes) -> Samples | None:
    start = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, and of the segment that tells the components
    if data.find(b"\xff\xd9", start) < 0:  # its end
        raise ImageError("is damaged or cut short (it has no end)")
    (components,) = struct.unpack_from(">H", data, start + 40)
    depths = {data[start + 42 + 3 * component] for component in range(components)}  # less one; 128 is the sign
    if max(depth & 127 for depth in depths) < 8:
        return None
    space = re.search(rb"colr\x01..\0\0\0(.)", data[:start], re.DOTALL)
    if len(depths) > 1 or min(depths) > 15 or (space is not None and space[1] not in _SRGB_OR_GREY):
        raise ImageError("this kind of JPEG 2000 with more than 8 bits is not supported: save it as 16-bit TIFF")
    import imagecodecs

    return stretched(channels_last(imagecodecs.jpeg2k_decode(data, numthreads=1)), min(depths) + 1)


def without_colour_of_grey_avif(array: Samples, data: bytes) -> Samples:
    """Return the pixels of an AVIF file as grey where it holds grey, which decoders give as RGB."""
    if _av1_configuration(data) & 0x10 and bool((array[..., :1] == array[..., :3]).all()):
        return np.concatenate([array[..., :1], array[..., 3:]], axis=-1)
    return array


def _av1_configuration(data: bytes) -> int:
    """Flags of an AVIF file: 64 for more than 8 bits, 32 for 12, 16 for grey. (AV1 codec configuration box.)"""
    return data[data.find(b"av1C") + 6]


def _avif(data: bytes) -> Samples | None:
    flags = _av1_configuration(data)
    if not flags & 0x40:
        return None
    import imagecodecs

    return stretched(channels_last(imagecodecs.avif_decode(data, numthreads=1)), 12 if flags & 0x20 else 10)


def _ppm(picture: ImageFile.ImageFile) -> Samples | None:
    if picture.mode == "I":  # grey of more than 8 bits, which Pillow stretches to 65535
        return np.asarray(picture).astype(np.uint16)[..., None]
    arguments = picture.tile[0].args
    if isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255:
        raise ImageError("colour of more than 8 bits in a PPM file is not supported: save it as 16-bit TIFF or PNG")
    return None


def refuse_too_many_pixels(width: int, height: int, max_pixels: int) -> None:
    """Raise `ImageError` if an image has more pixels than the limit."""
    if width * height > max_pixels:
        raise ImageError(f"has {width} x {height} pixels, more than the {max_pixels:,} pixels that are accepted")


def channels_last(array: Samples) -> Samples:
    """Return (H, W) or (H, W, C) as (H, W, C)."""
    if array.ndim not in (2, 3) or array.size == 0:
        raise ImageError(f"pixels in {array.ndim} dimensions are not supported")
    return array[..., None] if array.ndim == 2 else array


def stretched(pixels: Samples, bits: int) -> Samples:
    """Return whole numbers of `bits` bits, 16 at most, as such of 16: white becomes white."""
    if bits == 16:
        return pixels
    white = 2**bits - 1
    return ((pixels.astype(np.uint32) * 65535 + white // 2) // white).clip(0, 65535).astype(np.uint16)
