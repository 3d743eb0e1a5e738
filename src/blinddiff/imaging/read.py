"""Reads image files: decodes them without loss or raises ImageError."""

import io
import logging
import os
import re
import stat
import struct
import threading
import warnings
from pathlib import Path
from xml.parsers import expat

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from blinddiff.errors import ImageError
from blinddiff.files import FilePath, error_reason
from blinddiff.imaging import photograph
from blinddiff.imaging.colour import cmyk_to_srgb, declared_profile, jpeg2000_profile, tone_curve
from blinddiff.imaging.formats import SIGNATURE_BYTES, Format, image_format, with_major_brand
from blinddiff.imaging.gain_map import find_gain_map, other_images
from blinddiff.imaging.jpegxl import metadata_carrier, read_jpegxl
from blinddiff.imaging.metadata import exif_dpi, exif_orientation, transposes, upright_exif
from blinddiff.imaging.photograph import Photograph, PixelArray, StoredImage
from blinddiff.imaging.png import without_large_chunks
from blinddiff.imaging.tiff import read_tiff
from blinddiff.imaging.words import checked_dpi, dpi_of, iptc_of, texts_of
from blinddiff.imaging.xmp import parts_described, properties, upright_xmp

_SIGNS = {  # bytes of parts of a file besides the photograph
    "HDR gain map": (b"urn:iso:std:iso:ts:21496:-1", b"aux:hdrgainmap", b"//ns.apple.com/HDRGainMap/", b"\0\0tmap"),
    "video": (b"ftypmp4", b"ftypisom", b"ftypiso2", b"ftypqt  ", b"ftypMSNV"),
}
_AV1_DEEP, _AV1_12_BITS, _AV1_GREY = 0x40, 0x20, 0x10

MAX_PIXELS = 89_478_485
"""Default limit against decompression bombs, as in Pillow: 256 MiB of 3-byte pixels."""

# Decoders also log damaged files; without a handler, Python would print these messages to the terminal.
for _library in ("PIL", "tifffile", "imagecodecs"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

_WARNINGS_LOCK = threading.Lock()  # Python's warning filters are global to the process


def read_image(
    source: FilePath | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None, page: int | None = None
) -> Photograph:
    """Read one still image.

    The format (see `FORMATS`) is detected from the content, not from the name. Integers of up to 16 bits and floats in
    [0, 1] are read without loss. Uses less than 48 bytes per pixel besides the file (measured: docs/reliability.md).

    Args:
        source: a path, or the content of a file.
        max_pixels: limit against decompression bombs.
        name: the image's name in error messages, instead of its path.
        page: the page of a TIFF file, from 1; None refuses files of several pages.

    Raises ImageError if the file is missing, empty, damaged, animated, too large, or not a supported image, or lacks
    the page.
    """
    path = None if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else read_bytes(Path(source), max_pixels)
    name = name or ("image bytes" if path is None else str(path))
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes)")
    kind = image_format(data[:SIGNATURE_BYTES])
    if kind is None:
        raise ImageError(f"{name}: is not an image of a known format")
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about damaged EXIF, which does not affect the pixels
            stored = _decode(kind, with_major_brand(data, kind), max_pixels, page)
            array, orientation, profile = stored.array, stored.orientation, stored.icc_profile
            xmp, gain_map, left_out = _other_parts(kind, stored, data)
            jpeg_step = _jpeg_step(data) if kind.name == "JPEG" else 0.0
            grey = array.shape[-1] < 3
            pixels, alpha = photograph.split_channels(
                photograph.upright_array(array, orientation), tone_curve(profile, grey)
            )
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
    dpi = None if stored.exif is None else exif_dpi(stored.exif)
    if stored.dpi is not None:
        dpi = stored.dpi[::-1] if transposes(stored.orientation) else stored.dpi
    described = depth, stored.mode, kind.name, profile, stored.exif, xmp, path, jpeg_step, (*stored.notes, *left_out)
    return Photograph(pixels, alpha, grey, *described, checked_dpi(dpi), dict(stored.texts), stored.iptc, gain_map)


def _other_parts(kind: Format, stored: StoredImage, data: bytes) -> tuple[bytes | None, bytes | None, list[str]]:
    """Return the XMP packet, upright, the gain map, and notes on the parts of the file that are left out."""
    packet = stored.xmp.encode() if isinstance(stored.xmp, str) else stored.xmp
    packet = packet if isinstance(packet, bytes) and packet.strip(b"\0 ") else None
    found, lost, gain_map, others = [], [], None, 0
    if packet is not None:
        try:
            found = properties(packet)
            packet = upright_xmp(packet, found, stored.orientation)
        except (ValueError, expat.ExpatError):
            packet, lost = None, ["XMP (it is damaged)"]
    parts = parts_described(found)
    parts += [part for part, signs in _SIGNS.items() if part not in parts and any(map(data.__contains__, signs))]
    if kind.name == "JPEG":
        with photograph.open_picture(data, "JPEG") as picture:
            gain_map, others = find_gain_map(data, picture, found, stored.orientation), len(other_images(data, picture))
    hdr = "HDR gain map"
    lost += [part for part in parts if part != hdr or gain_map is None]
    notes = [f"its {' and its '.join(lost)} {'is' if len(lost) == 1 else 'are'} left out"] if lost else []
    others -= hdr in parts or gain_map is not None
    return packet, gain_map, notes + _others_note(others)


def _others_note(others: int) -> list[str]:
    plural = others > 1
    return [f"has {others} more image{'s' * plural}, which {'are' if plural else 'is'} not read"] if others > 0 else []


def _decode(kind: Format, data: bytes, max_pixels: int, page: int | None) -> StoredImage:
    if kind.name == "TIFF":
        return read_tiff(data, max_pixels, page)
    if page not in (None, 1):
        raise ImageError(f"has no page {page}: only TIFF files have several pages")
    if kind.name == "JPEGXL":
        return read_jpegxl(data, max_pixels)
    return (_read_heic if kind.name == "HEIF" else _read_by_pillow)(kind, data, max_pixels)


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
        profile = jpeg2000_profile(data) if kind.name == "JPEG2000" else picture.info.get("icc_profile", large_profile)
        notes: tuple[str, ...] = ()
        if picture.mode == "CMYK" and deep is None:
            array, note = cmyk_to_srgb(np.asarray(picture), profile)
            profile, notes = None, (note,)
        else:
            array = photograph.picture_array(picture) if deep is None else deep
        if flags & _AV1_GREY and bool((array[..., :1] == array[..., :3]).all()):
            array = np.concatenate([array[..., :1], array[..., 3:]], axis=-1)  # the decoders return grey as RGB
        profile = profile or declared_profile(kind.name, data, grey=array.shape[-1] < 3)
        mode = picture.mode if deep is None else photograph.mode_of(deep)
        orientation, exif, xmp = exif_orientation(picture), upright_exif(picture), picture.info.get("xmp")
        words = dpi_of(picture), texts_of(picture), iptc_of(picture)
        return StoredImage(array, mode, orientation, profile or None, exif, xmp, notes, *words)


def _read_heic(kind: Format, data: bytes, max_pixels: int) -> StoredImage:
    """Decode the primary image of a HEIC file by pillow-heif, which also applies the orientation."""
    try:
        import pillow_heif
    except ImportError:
        raise ImageError("is a HEIC file; to read it, install the extra heic: pip install 'blinddiff[heic]'") from None
    stored = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    width, height = stored.size
    photograph.refuse_too_many_pixels(width, height, max_pixels)
    array = photograph.channels_last(np.asarray(stored))
    if array.dtype == np.uint16:
        bits = stored.info["bit_depth"]
        array = photograph.stretch(array >> (16 - bits), bits)
    profile = stored.info.get("icc_profile") or declared_profile(kind.name, data, grey=array.shape[-1] < 3)
    notes = tuple(_others_note(len(stored) - 1))
    exif, xmp = upright_exif(metadata_carrier(stored.info.get("exif") or b"")), stored.info.get("xmp")
    return StoredImage(array, photograph.mode_of(array), None, profile, exif, xmp, notes)


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
