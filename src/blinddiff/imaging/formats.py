"""Which kinds of image file there are, told by their first bytes: names lie."""

import re
import struct
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from PIL import ImageFile

from blinddiff.errors import ImageError
from blinddiff.imaging.photograph import Samples

SIGNATURE_BYTES = 32
"""How much of a file `image_format` needs."""


@dataclass(frozen=True)
class Format:
    """One kind of image file.

    Attributes:
        name: Pillow's name for it.
        suffixes: the extensions of such files, the usual one first.
        signatures: pairs of a place in the file and the bytes there; one of them has to fit.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[tuple[int, bytes], ...]


FORMATS = (
    Format("PNG", (".png",), ((0, b"\x89PNG\r\n\x1a\n"),)),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ((0, b"\xff\xd8\xff"),)),
    Format("TIFF", (".tif", ".tiff"), ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0\x08\0\0\0"), (0, b"MM\0+\0\x08\0\0"))),
    Format("WEBP", (".webp",), ((8, b"WEBPVP8"),)),
    Format("AVIF", (".avif", ".avifs"), ((4, b"ftypavif"), (4, b"ftypavis"))),
    Format("JPEG2000", (".jp2", ".j2k", ".jpx", ".jpf", ".j2c"), ((4, b"jP  \r\n"), (0, b"\xff\x4f\xff\x51"))),
    Format("GIF", (".gif",), ((0, b"GIF87a"), (0, b"GIF89a"))),
    Format("BMP", (".bmp", ".dib"), ((0, b"BM"),)),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), tuple((0, b"P%d" % kind) for kind in range(1, 7))),
)
"""What `read_image` reads. Formats of vector drawings, of documents and of old game consoles, which Pillow would
open too, are left out: each decoder is a way in for a hostile file."""

_NOT_READ = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIF"}
_NOT_READ_SUFFIXES = (".heic", ".heif")
_RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr")


def image_format(head: bytes) -> Format | None:
    """Return the format of a file that begins with `head`, at least its first `SIGNATURE_BYTES`; None if unknown."""
    for kind in FORMATS:
        if any(head[place : place + len(mark)] == mark for place, mark in kind.signatures):
            return kind
    return None


def has_image_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a format that is read, or that people expect to be."""
    suffix = path.suffix.lower()
    return suffix in _NOT_READ_SUFFIXES or any(suffix in kind.suffixes for kind in FORMATS)


def has_raw_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a camera's raw format: many begin as TIFF files do."""
    return path.suffix.lower() in _RAW_SUFFIXES


def unknown_format(head: bytes) -> str:
    """Return what to say of a file whose format is not read."""
    for mark, name in _NOT_READ.items():
        if head[4:].startswith(mark):
            return f"is a {name} file, which is not read: save it as PNG, TIFF or JPEG"
    return "is not an image of a known format"


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


def jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the colour profile of a JP2 file; None if there is none. (ISO/IEC 15444-1, annex I.5.3.3.)"""
    head = _box(data, 0, len(data), b"jp2h")
    place = None if head is None else _box(data, *head, b"colr")
    if place is None or data[place[0]] not in (2, 3):  # 1: an enumerated colour space
        return None
    return data[place[0] + 3 : place[1]]


def _box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    """Return where the contents of the first box of a kind begin and end."""
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        if length == 0 or start + length > end:
            length = end - start  # 0: up to the end
        if length < 8:
            return None
        if name == kind:
            return start + 8, start + length
        start += length
    return None
