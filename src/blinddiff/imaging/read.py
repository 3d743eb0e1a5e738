"""Reads image files: detects the format from the first bytes, and decodes without loss or raises ImageError."""

import logging
import os
import re
import stat
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from blinddiff.errors import ImageError
from blinddiff.files import FilePath, error_reason
from blinddiff.imaging import photograph
from blinddiff.imaging.colour import declared_profile, jpeg2000_profile, tone_curve
from blinddiff.imaging.metadata import exif_orientation, upright_exif, upright_xmp
from blinddiff.imaging.photograph import Photograph, PixelArray, StoredImage
from blinddiff.imaging.png import without_large_chunks
from blinddiff.imaging.tiff import read_tiff

SIGNATURE_BYTES = 32
"""Number of bytes at the start of a file that `image_format` needs."""


@dataclass(frozen=True)
class Format:
    """An image format that can be read."""

    name: str  # in Pillow
    suffixes: tuple[str, ...]  # the usual one first
    signatures: tuple[tuple[int, bytes], ...]  # pairs (offset, bytes at the offset); one pair must match


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
"""The formats that `read_image` accepts. Pillow's other decoders are not exposed to untrusted files."""

_AV1_DEEP, _AV1_12_BITS, _AV1_GREY = 0x40, 0x20, 0x10
_NOT_READ = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIF"}
_RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr")


def image_format(head: bytes) -> Format | None:
    """Return the format of a file from its first `SIGNATURE_BYTES` or more; None if unknown."""
    return next((kind for kind in FORMATS if any(head.startswith(mark, at) for at, mark in kind.signatures)), None)


def has_image_name(path: PurePath) -> bool:
    """Whether a file's extension is that of one of `FORMATS`, or of HEIC, which is reported as unsupported."""
    suffix = path.suffix.lower()
    return suffix in (".heic", ".heif") or any(suffix in kind.suffixes for kind in FORMATS)


def has_raw_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a camera's raw format; many raw files have the signature of TIFF."""
    return path.suffix.lower() in _RAW_SUFFIXES


MAX_PIXELS = 89_478_485
"""Default limit against decompression bombs, as in Pillow: 256 MiB of 3-byte pixels."""

# Decoders also log damaged files; without a handler, Python would print these messages to the terminal.
for _library in ("PIL", "tifffile", "imagecodecs"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_WARNINGS_LOCK = threading.Lock()  # Python's warning filters are global to the process


def read_image(source: FilePath | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Photograph:
    """Read one still image.

    The format (see `FORMATS`) is detected from the content, not from the name. Integers of up to 16 bits and floats in
    [0, 1] are read without loss. Uses less than 48 bytes per pixel besides the file (measured: docs/reliability.md).

    Args:
        source: a path, or the content of a file.
        max_pixels: limit against decompression bombs.
        name: the image's name in error messages, instead of its path.

    Raises ImageError if the file is missing, empty, damaged, animated, too large, or not a supported image.
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
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about damaged EXIF, which does not affect the pixels
            stored = read_tiff(data, max_pixels) if kind.name == "TIFF" else _read_by_pillow(kind, data, max_pixels)
            array, mode, orientation, profile, exif, xmp = stored
            jpeg_step = _jpeg_step(data) if kind.name == "JPEG" else 0.0
            grey = array.shape[-1] < 3
            pixels, alpha = photograph.split_channels(_upright(array, orientation), tone_curve(profile, grey))
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is damaged, or a kind of {kind.name} file that is not read") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit in memory") from error
    except Exception as error:  # decoders raise many types for damaged files: struct.error, IndexError, SyntaxError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: is damaged or cut short ({reason})") from error
    depth = 8 * array.dtype.itemsize
    return Photograph(pixels, alpha, grey, depth, mode, kind.name, profile, exif, xmp, path, jpeg_step)


def _jpeg_step(data: bytes) -> float:
    """Mean step of the first quantisation table, that of luma, in a JPEG file that has been decoded."""
    with photograph.open_picture(data, "JPEG") as picture:
        return float(np.mean(picture.quantization[0]))  # type: ignore[attr-defined]


def read_8bit(path: FilePath) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) RGB with its stored values, without alpha. Raises ImageError, also for 16-bit grey."""
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):  # Pillow would clip it to 255
                raise ValueError("grey of more than 8 bits")
            return np.asarray(picture.convert("RGB"))
    except Exception as error:  # decoders raise many types for damaged files
        known = {"FileNotFoundError": "no such file", "UnidentifiedImageError": "no known image format"}
        kind = type(error).__name__
        reason = known.get(kind) or next(iter(str(error).splitlines()), kind)
        raise ImageError(f"{path}: cannot be read as an image ({reason})") from error


def read_bytes(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return a file's bytes. Raises ImageError if it is missing, not regular, unreadable, or above `largest_file`."""
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
        raise ImageError(f"{str(path)!r}: cannot be opened: {error_reason(error)}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: does not fit in memory") from error


def largest_file(max_pixels: int) -> int:
    """Return the maximum file size in bytes: four 64-bit floats per pixel, and 64 MiB of metadata."""
    return max_pixels * 32 + (64 << 20)


def _read_by_pillow(kind: Format, data: bytes, max_pixels: int) -> StoredImage:
    large_profile = None
    if kind.name == "PNG":
        data, large_profile = without_large_chunks(data)
    with photograph.open_picture(data, kind.name) as picture:
        photograph.refuse_too_many_pixels(*picture.size, max_pixels)
        frames = getattr(picture, "n_frames", 1)
        # Further frames of a JPEG (MPO, from many phones) are previews or depth maps.
        if frames > 1 and kind.name != "JPEG":
            raise ImageError(f"has {frames} frames: it is animated; only single images are read")
        if kind.name == "PNG":
            picture.load()  # also reads the metadata after the pixels, such as ExifTool's XMP
        flags = data[data.find(b"av1C") + 6] if kind.name == "AVIF" else 0  # from the AV1 codec configuration box
        deep = _deep_pixels(picture, data, flags)
        array = photograph.picture_array(picture) if deep is None else deep
        if flags & _AV1_GREY and bool((array[..., :1] == array[..., :3]).all()):
            array = np.concatenate([array[..., :1], array[..., 3:]], axis=-1)  # the decoders return grey as RGB
        profile = jpeg2000_profile(data) if kind.name == "JPEG2000" else picture.info.get("icc_profile", large_profile)
        if not profile and array.shape[-1] > 2:
            profile = declared_profile(kind.name, data)
        mode = picture.mode if deep is None else photograph.mode_of(deep)
        orientation, exif, xmp = exif_orientation(picture), upright_exif(picture), upright_xmp(picture.info.get("xmp"))
        return StoredImage(array, mode, orientation, profile or None, exif, xmp)


def _deep_pixels(picture: ImageFile.ImageFile, data: bytes, flags: int) -> PixelArray | None:
    """Return pixels of more than 8 bits, which Pillow would reduce to 8; None for others. May raise ImageError."""
    if picture.format == "PPM":
        if picture.mode == "I":  # grey of more than 8 bits, which Pillow rescales to 65535
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
        return photograph.stretch(array, 12 if flags & _AV1_12_BITS else 10)
    return None


def _deep_jpeg2000(data: bytes) -> PixelArray | None:
    start = data.find(b"\xff\x4f\xff\x51")  # markers SOC (start of codestream) and SIZ (sizes and components)
    if data.find(b"\xff\xd9", start) < 0:  # marker EOC (end of codestream)
        raise ImageError("is damaged or cut short (the end-of-codestream marker is missing)")
    (components,) = struct.unpack_from(">H", data, start + 40)
    depths = {data[start + 42 + 3 * component] for component in range(components)}  # bits - 1; plus 128 if signed
    if max(depth & 127 for depth in depths) < 8:
        return None
    space = re.search(rb"colr\x01..\0\0\0(.)", data[:start], re.DOTALL)  # 16: sRGB, 17: grey
    if len(depths) > 1 or min(depths) > 15 or (space is not None and space[1] not in b"\x10\x11"):
        raise ImageError("this kind of JPEG 2000 with more than 8 bits is not supported: save it as 16-bit TIFF")
    array = photograph.channels_last(imagecodecs.jpeg2k_decode(data, numthreads=1))
    return photograph.stretch(array, min(depths) + 1)


def _upright(array: PixelArray, orientation: int | None) -> PixelArray:
    """Apply an EXIF orientation to an (H, W, C) array; values other than 1 to 8 are ignored."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array[:, ::-1] if orientation in (2, 3, 6, 7) else array
