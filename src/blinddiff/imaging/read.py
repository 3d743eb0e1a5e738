"""Reads image files: detects the format from the first bytes, and decodes without loss or refuses in one line."""

import io
import logging
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from blinddiff.errors import ImageError
from blinddiff.files import FilePath
from blinddiff.imaging import photograph
from blinddiff.imaging.colour import declared_profile, jpeg2000_profile, tone_curve
from blinddiff.imaging.metadata import exif_orientation, upright_exif, upright_xmp
from blinddiff.imaging.photograph import Photograph, Samples, StoredImage
from blinddiff.imaging.tiff import read_tiff

SIGNATURE_BYTES = 32
"""How many of a file's first bytes `image_format` needs."""


@dataclass(frozen=True)
class Format:
    """One image format, by Pillow's name for it."""

    name: str
    suffixes: tuple[str, ...]  # of such files, the usual one first
    signatures: tuple[tuple[int, bytes], ...]  # pairs of an offset and the bytes there; one of them has to match


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
"""What `read_image` reads. Pillow opens more formats, but every decoder can be attacked with a hostile file."""

_AV1_DEEP, _AV1_12_BITS, _AV1_GREY = 0x40, 0x20, 0x10
_NOT_READ = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIF"}
_RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr")


def image_format(head: bytes) -> Format | None:
    """Return the format of a file that begins with `head`, at least its first `SIGNATURE_BYTES`; None if unknown."""
    return next((kind for kind in FORMATS if any(head.startswith(mark, at) for at, mark in kind.signatures)), None)


def has_image_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a format that is read, or that people expect to be read."""
    suffix = path.suffix.lower()
    return suffix in (".heic", ".heif") or any(suffix in kind.suffixes for kind in FORMATS)


def has_raw_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a camera's raw format, many of which begin as TIFF files do."""
    return path.suffix.lower() in _RAW_SUFFIXES


MAX_PIXELS = 89_478_485
"""Default limit against decompression bombs: Pillow's, a quarter of a GiB of 3-byte pixels."""

# Decoders report damaged files to their loggers too; without a handler, Python would print that to the terminal.
for _library in ("PIL", "tifffile", "imagecodecs"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_GLOBALS = threading.Lock()  # Pillow's limits and Python's filters of warnings are those of the whole process


def read_image(source: FilePath | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Photograph:
    """Read one still image: a file, or the bytes of one.

    The format is detected from the content, not from the name: see `FORMATS`. Up to 16 bits and floats in [0, 1] are
    read without loss. Memory stays under 48 bytes a pixel beside the file (measured: docs/reliability.md).

    Args:
        source: a path, or the whole file as bytes.
        max_pixels: limit against decompression bombs.
        name: what error messages call the image, instead of its path.

    Raises ImageError if the file is missing, empty, damaged, no image, animated, too large, or of pixels not read.
    """
    path = None if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else read_bytes(Path(source), max_pixels)
    name = name or ("image bytes" if path is None else str(path))
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes)")
    kind = image_format(data[:SIGNATURE_BYTES])
    if kind is None:
        for mark, other in _NOT_READ.items():
            if data[4:].startswith(mark):
                raise ImageError(f"{name}: is a {other} file, which is not read: save it as PNG, TIFF or JPEG")
        raise ImageError(f"{name}: is not an image of a known format")
    try:
        with _GLOBALS, warnings.catch_warnings(), _pillow_limits():
            warnings.simplefilter("ignore")  # such as of damaged EXIF, without which the image can be used
            stored = read_tiff(data, max_pixels) if kind.name == "TIFF" else _read_by_pillow(kind, data, max_pixels)
            array, mode, orientation, profile, exif, xmp = stored
            array = _upright(array, orientation)
            grey = array.shape[-1] < 3
            pixels, alpha = photograph.split_channels(array, tone_curve(profile, grey))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is damaged, or a kind of {kind.name} file that is not read") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit the memory") from error
    except Exception as error:  # decoders of damaged files raise anything: struct.error, IndexError, SyntaxError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: is damaged or cut short ({reason})") from error
    return Photograph(pixels, alpha, grey, 8 * array.dtype.itemsize, mode, kind.name, profile, exif, xmp, path)


def read_8bit(path: FilePath) -> NDArray[np.uint8]:
    """Read a data set's image as (H, W, 3) RGB, stored values without alpha; ImageError, also for more bits of grey."""
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):  # Pillow would clip it to 255
                raise ValueError("grey of more than 8 bits")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # decoders of damaged files raise anything
        known = {"FileNotFoundError": "no such file", "UnidentifiedImageError": "no known image format"}
        kind = type(error).__name__
        reason = known.get(kind) or next(iter(str(error).splitlines()), kind)
        raise ImageError(f"{path}: cannot be read as an image ({reason})") from error


def read_bytes(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a file's bytes; ImageError if it is missing, irregular, unreadable, or larger than `largest_file`."""
    try:
        kind = os.stat(path).st_mode  # before opening: opening a pipe would wait for a writer
        if stat.S_ISDIR(kind):
            raise ImageError(f"{path}: is a folder, not an image file")
        if not stat.S_ISREG(kind):
            raise ImageError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > largest_file(max_pixels):
                raise ImageError(f"{path}: is larger than any image of {max_pixels:,} pixels, the limit")
            return file.read()
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"{str(path)!r}: cannot be opened: {reason or error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: does not fit the memory") from error


def largest_file(max_pixels: int) -> int:
    """Return the largest size in bytes of a file: four 64-bit floats a pixel, and 64 MiB of metadata."""
    return max_pixels * 32 + (64 << 20)


@contextmanager
def _pillow_limits() -> Iterator[None]:
    """Turn off Pillow's limit of pixels, in favour of `max_pixels`, and accept colour profiles with large tables."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, 16 << 20
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def _read_by_pillow(kind: Format, data: bytes, max_pixels: int) -> StoredImage:
    with Image.open(io.BytesIO(data), formats=[kind.name]) as picture:
        photograph.refuse_too_many_pixels(*picture.size, max_pixels)
        frames = getattr(picture, "n_frames", 1)
        # MPO: a JPEG photograph followed by previews or depth maps, as many phones write
        if frames > 1 and kind.name != "JPEG":
            raise ImageError(f"has {frames} frames: it is animated; only single images are read")
        if kind.name == "PNG":
            picture.load()  # also the metadata after the pixels, such as the XMP that ExifTool adds
        flags = data[data.find(b"av1C") + 6] if kind.name == "AVIF" else 0  # in the AV1 codec configuration box
        deep = _deep_pixels(picture, data, flags)
        array = photograph.picture_array(picture) if deep is None else deep
        if flags & _AV1_GREY and bool((array[..., :1] == array[..., :3]).all()):
            array = np.concatenate([array[..., :1], array[..., 3:]], axis=-1)  # decoders return grey as RGB
        profile = jpeg2000_profile(data) if kind.name == "JPEG2000" else picture.info.get("icc_profile")
        if not profile and array.shape[-1] > 2:
            profile = declared_profile(kind.name, data)
        mode = picture.mode if deep is None else photograph.mode_of(deep)
        orientation, exif, xmp = exif_orientation(picture), upright_exif(picture), upright_xmp(picture.info.get("xmp"))
        return StoredImage(array, mode, orientation, profile or None, exif, xmp)


def _deep_pixels(picture: ImageFile.ImageFile, data: bytes, flags: int) -> Samples | None:
    """Return pixels of more than 8 bits, which Pillow would reduce to 8; None for others. Refuses what loses bits."""
    if picture.format == "PPM":
        if picture.mode == "I":  # grey of more than 8 bits, which Pillow stretches to 65535
            return np.asarray(picture).astype(np.uint16)[..., None]
        arguments = picture.tile[0].args
        if isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255:
            raise ImageError("colour of more than 8 bits in a PPM file is not supported: save it as 16-bit TIFF or PNG")
    if picture.format == "JPEG2000":
        return _deep_jpeg2000(data)
    if picture.format == "PNG" and data[24] == 16:  # the header's bit depth
        return photograph.channels_last(imagecodecs.png_decode(data))
    if flags & _AV1_DEEP:
        array = photograph.channels_last(imagecodecs.avif_decode(data, numthreads=1))
        return photograph.stretch_to_16_bits(array, 12 if flags & _AV1_12_BITS else 10)
    return None


def _deep_jpeg2000(data: bytes) -> Samples | None:
    start = data.find(b"\xff\x4f\xff\x51")  # start of the codestream, and of the segment with the components
    if data.find(b"\xff\xd9", start) < 0:  # its end
        raise ImageError("is damaged or cut short (it has no end)")
    (components,) = struct.unpack_from(">H", data, start + 40)
    depths = {data[start + 42 + 3 * component] for component in range(components)}  # bits - 1; 128 means signed
    if max(depth & 127 for depth in depths) < 8:
        return None
    space = re.search(rb"colr\x01..\0\0\0(.)", data[:start], re.DOTALL)  # 16: sRGB, 17: grey
    if len(depths) > 1 or min(depths) > 15 or (space is not None and space[1] not in b"\x10\x11"):
        raise ImageError("this kind of JPEG 2000 with more than 8 bits is not supported: save it as 16-bit TIFF")
    array = photograph.channels_last(imagecodecs.jpeg2k_decode(data, numthreads=1))
    return photograph.stretch_to_16_bits(array, min(depths) + 1)


def _upright(array: Samples, orientation: int | None) -> Samples:
    """Apply an EXIF orientation to an (H, W, C) array; anything but 1 to 8 leaves it as it is."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array
