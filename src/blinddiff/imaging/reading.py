"""Image files in: pixels upright and without loss, or one line that says why not."""

import io
import logging
import os
import stat
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from blinddiff.errors import ImageError
from blinddiff.imaging.photograph import Photograph
from blinddiff.imaging.pixels import COLOUR_MODES, GREY_MODES, picture_array, split_channels

# What these say of a damaged file, the one error line says; a program that listens to its loggers still hears them.
for _chatty in ("PIL", "tifffile"):
    logging.getLogger(_chatty).addHandler(logging.NullHandler())

# A TIFF's EXIF block is the file's whole directory: these describe the photograph, the rest the storing of pixels.
_DESCRIPTIVE_TIFF_TAGS = frozenset(
    {
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.Copyright,
        ExifTags.Base.ExifOffset,
        ExifTags.Base.GPSInfo,
    }
)
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


def read_image(source: str | os.PathLike[str] | bytes) -> Photograph:
    """Read one still image: a file, or the bytes of one.

    The format is told by the content, not by the name. 8-bit images of every format that Pillow knows, 16-bit grey
    PNG, and 16-bit TIFF, grey or colour, are read without loss.

    Raises:
        ImageError: the file is missing, empty, damaged, no image, animated, of more pixels than Pillow's limit against
            decompression bombs (89 million), or of a kind of pixel that cannot be kept: one line naming the file.
    """
    if isinstance(source, bytes):
        return _read("image bytes", io.BytesIO(source), len(source), None)
    path = Path(source)
    try:
        kind = os.stat(path).st_mode  # before opening: opening a pipe would wait for a writer
        if stat.S_ISDIR(kind):
            raise ImageError(f"{path}: is a folder, not an image file")
        if not stat.S_ISREG(kind):
            raise ImageError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            return _read(str(path), file, os.fstat(file.fileno()).st_size, path)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"{str(path)!r}: cannot be opened: {reason or error}") from error


def _read(name: str, file: BinaryIO, size: int, path: Path | None) -> Photograph:
    if size == 0:
        raise ImageError(f"{name}: is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as damaged EXIF: the pixels are what matters
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as picture:
                return _photograph(picture, file, path)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: is not an image of a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name}: has more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are accepted") from error
    except Exception as error:  # decoders of damaged files raise anything: struct.error, IndexError, SyntaxError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: is damaged or cut short ({reason})") from error


def _photograph(picture: Image.Image, file: BinaryIO, path: Path | None) -> Photograph:
    frames = getattr(picture, "n_frames", 1)
    # MPO: a JPEG photograph followed by previews or depth maps, as many phones write
    if frames > 1 and picture.format != "MPO":
        what = "pages" if picture.format == "TIFF" else "frames: it is animated"
        raise ImageError(f"has {frames} {what}; only single images are read")
    mode, colour_bits = picture.mode, _bits_lost_by_pillow(picture)
    if colour_bits > 8:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        array = _deep_colour_array(picture, file, colour_bits)
    else:
        array = picture_array(picture)
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)  # 1 for TIFF: Pillow has applied it
    pixels, alpha = split_channels(_upright(array, orientation))
    return Photograph(
        pixels=pixels,
        alpha=alpha,
        grey=mode in GREY_MODES,
        bit_depth=8 * array.dtype.itemsize,
        mode=mode,
        icc_profile=picture.info.get("icc_profile") or None,
        exif=_exif_without_orientation(picture),
        path=path,
    )


def _bits_lost_by_pillow(picture: Image.Image) -> int:
    """Return the bits of one channel where Pillow would cut a colour image down to 8 of them, else 8."""
    if picture.mode not in COLOUR_MODES:
        return 8
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return int(max(picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (8,))))
    if isinstance(picture, PngImagePlugin.PngImageFile) and ";16" in str(picture.tile[0].args):
        return 16
    return 8


def _deep_colour_array(picture: Image.Image, file: BinaryIO, bits: int) -> NDArray[np.integer]:
    """Return the (H, W, 3 or 4) uint16 array of a 16-bit TIFF."""
    if picture.format != "TIFF" or bits != 16:
        raise ImageError(
            f"{bits}-bit colour in a {picture.format} file is not supported: save it as 16-bit TIFF, or with 8 bits"
        )
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        array, extra = page.asarray(), page.extrasamples
        if page.axes == "SYX":
            array = array.transpose(1, 2, 0)
    unmultiplied = array.shape[-1] == 3 or extra == (tifffile.EXTRASAMPLE.UNASSALPHA,)
    if array.ndim != 3 or array.shape[-1] not in (3, 4) or array.dtype != np.uint16 or not unmultiplied:
        raise ImageError("this kind of 16-bit TIFF is not supported: save it as RGB, or RGB with plain alpha")
    return np.asarray(array)


def _upright(array: NDArray[np.integer], orientation: object) -> NDArray[np.integer]:
    """Apply an EXIF orientation to an (H, W, C) array; a value outside 1 to 8 means none."""
    transpose, flip_rows, flip_columns = _UPRIGHT[
        orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1
    ]
    if transpose:
        array = array.swapaxes(0, 1)
    if flip_rows:
        array = array[::-1]
    return array[:, ::-1] if flip_columns else array


def _exif_without_orientation(picture: Image.Image) -> bytes | None:
    """Return the EXIF block, or None if there is none or it cannot be read."""
    try:
        exif = picture.getexif()
        for tag in list(exif):
            structural = picture.format == "TIFF" and tag not in _DESCRIPTIVE_TIFF_TAGS
            if tag == ExifTags.Base.Orientation or structural:
                del exif[tag]
        return exif.tobytes() if len(exif) else None
    except Exception:  # noqa: BLE001 - a damaged block, however it fails, must not cost the photograph
        return None
