"""Image files in: pixels upright and without loss, or one line that says why not."""

import contextlib
import io
import logging
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from blinddiff.errors import ImageError
from blinddiff.imaging.colour import declared_profile, tone_curve
from blinddiff.imaging.formats import (
    SIGNATURE_BYTES,
    Format,
    deep_pixels,
    image_format,
    jpeg2000_profile,
    refuse_too_many_pixels,
    unknown_format,
    without_colour_of_grey_avif,
)
from blinddiff.imaging.metadata import exif_of_tiff, exif_orientation, upright_exif, upright_xmp
from blinddiff.imaging.photograph import Photograph, Samples, picture_array, split_channels
from blinddiff.imaging.tiff import mode_of, read_tiff

MAX_PIXELS = 89_478_485
"""Default limit against decompression bombs: Pillow's, which is a quarter of a GiB of 3-byte pixels."""
LARGEST_PIXEL = 32
"""Bytes: four channels of 64-bit floats. A file of the largest number of pixels cannot need more for each, beside
`LARGEST_METADATA` bytes."""
LARGEST_METADATA = 64 << 20
LARGEST_CHUNK = 16 << 20
"""Bytes of a PNG's colour profile or text, unpacked."""

# What these say of a damaged file, the one error line says; a program that listens to its loggers still hears them.
for _chatty in ("PIL", "tifffile", "imagecodecs"):
    logging.getLogger(_chatty).addHandler(logging.NullHandler())

# EXIF orientation -> (transpose, flip rows, flip columns), in this order
_UPRIGHT = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_PILLOW = threading.Lock()  # its limit and the warnings' filters are of the whole process


def read_image(
    source: str | os.PathLike[str] | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Photograph:
    """Read one still image: a file, or the bytes of one.

    The format is told by the content, not by the name: see `FORMATS`. Up to 16 bits and floats in [0, 1] are read
    without loss. Memory stays under 48 bytes a pixel beside the file (measured: docs/reliability.md).

    Args:
        source: a path, or the whole file as bytes.
        max_pixels: limit against decompression bombs.
        name: what error lines call the image, in place of its path.

    Raises:
        ImageError: the file is missing, empty, damaged, no image, animated, of more pixels than the limit, or of a kind
            of pixel that cannot be kept: one line naming the file.
    """
    if isinstance(source, bytes):
        return _read(name or "image bytes", source, None, max_pixels)
    path = Path(source)
    return _read(name or str(path), read_bytes(path, max_pixels), path, max_pixels)


def read_bytes(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """Return an image file's bytes, once it is clear that it is a file and could be an image within the limit.

    Raises:
        ImageError: it is missing, a folder or a device, not readable, or too large.
    """
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
    """Return how many bytes a file of at most so many pixels can have."""
    return max_pixels * LARGEST_PIXEL + LARGEST_METADATA


def _read(name: str, data: bytes, path: Path | None, max_pixels: int) -> Photograph:
    if not data:
        raise ImageError(f"{name}: is empty (0 bytes)")
    kind = image_format(data[:SIGNATURE_BYTES])
    if kind is None:
        raise ImageError(f"{name}: {unknown_format(data[:SIGNATURE_BYTES])}")
    try:
        with _PILLOW, warnings.catch_warnings(), _limits_of_pillow():
            warnings.simplefilter("ignore")  # such as damaged EXIF: the pixels are what matters
            return _photograph(kind, data, path, max_pixels)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is damaged, or a kind of {kind.name} file that is not read") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit the memory") from error
    except Exception as error:  # decoders of damaged files raise anything: struct.error, IndexError, SyntaxError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: is damaged or cut short ({reason})") from error


@contextlib.contextmanager
def _limits_of_pillow() -> Iterator[None]:
    """Our limit of pixels instead of Pillow's, and room for colour profiles with large tables."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, LARGEST_CHUNK
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def _photograph(kind: Format, data: bytes, path: Path | None, max_pixels: int) -> Photograph:
    if kind.name == "TIFF":
        tiff = read_tiff(data, max_pixels)
        array = _upright(tiff.array, tiff.orientation)
        return _assembled(array, tiff.mode, "TIFF", tiff.icc_profile, exif_of_tiff(data), tiff.xmp, path)
    with Image.open(io.BytesIO(data), formats=[kind.name]) as picture:
        refuse_too_many_pixels(*picture.size, max_pixels)
        frames = getattr(picture, "n_frames", 1)
        # MPO: a JPEG photograph followed by previews or depth maps, as many phones write
        if frames > 1 and kind.name != "JPEG":
            raise ImageError(f"has {frames} frames: it is animated; only single images are read")
        if kind.name == "PNG":
            picture.load()  # also what is said behind the pixels, such as the XMP that ExifTool adds
        deep = deep_pixels(picture, data)
        array = picture_array(picture) if deep is None else deep
        if kind.name == "AVIF":
            array = without_colour_of_grey_avif(array, data)
        array = _upright(array, exif_orientation(picture))
        mode = picture.mode if deep is None else mode_of(deep)
        profile = jpeg2000_profile(data) if kind.name == "JPEG2000" else picture.info.get("icc_profile")
        if not profile and array.shape[-1] > 2:
            profile = declared_profile(kind.name, data)
        return _assembled(array, mode, kind.name, profile, upright_exif(picture), picture.info.get("xmp"), path)


def _assembled(
    array: Samples,
    mode: str,
    file_format: str,
    profile: bytes | None,
    exif: bytes | None,
    xmp: object,
    path: Path | None,
) -> Photograph:
    profile = profile or None
    grey = array.shape[-1] < 3
    pixels, alpha = split_channels(array, tone_curve(profile, grey))
    return Photograph(
        pixels=pixels,
        alpha=alpha,
        grey=grey,
        bit_depth=8 * array.dtype.itemsize,
        mode=mode,
        file_format=file_format,
        icc_profile=profile,
        exif=exif,
        xmp=upright_xmp(xmp),
        path=path,
    )


def _upright(array: Samples, orientation: object) -> Samples:
    """Apply an EXIF orientation to an (H, W, C) array; a value outside 1 to 8 means none."""
    transpose, flip_rows, flip_columns = _UPRIGHT[
        orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1
    ]
    if transpose:
        array = array.swapaxes(0, 1)
    if flip_rows:
        array = array[::-1]
    return array[:, ::-1] if flip_columns else array
