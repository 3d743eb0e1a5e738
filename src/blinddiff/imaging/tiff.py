"""TIFF files in: every kind of grey, palette and RGB, 1 to 16 bits and floats, however compressed.

By tifffile, or by libtiff inside of imagecodecs: Pillow opens only some of them, cuts colours of 16 bits down to 8, and
its libtiff writes to the terminal what it thinks of a damaged file.
"""

import io
import itertools
import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

from blinddiff.errors import ImageError
from blinddiff.imaging.formats import channels_last, refuse_too_many_pixels, stretched
from blinddiff.imaging.metadata import (
    EXIF_MARK,
    ICC_TAG,
    LONG,
    ORIENTATION_TAG,
    SHORT,
    UNDEFINED,
    XMP_TAG,
    Directory,
    Field,
    descriptive,
    header,
    read_directory,
    write_directory,
)
from blinddiff.imaging.photograph import Samples

_KINDS = tifffile.PHOTOMETRIC
_COLOURS: dict[int | None, int] = {
    _KINDS.MINISBLACK: 1,
    _KINDS.MINISWHITE: 1,
    _KINDS.PALETTE: 1,
    _KINDS.RGB: 3,
    _KINDS.YCBCR: 3,  # inside of JPEG, whose decoder gives RGB
}
_WORDS: dict[int | None, str] = {_KINDS.SEPARATED: "CMYK (printing inks)", _KINDS.CIELAB: "LAB (CIE Lab)"}
_STRUCTURE = {258, 273, 277, 279, 320, 324, 325, 338, 339, 347}  # tags: bits, strips, tiles, palette, ... tables
_JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG)
_PARTS_WITH_A_SIZE = {
    *_JPEG,
    tifffile.COMPRESSION.APERIO_JP2000_RGB,
    tifffile.COMPRESSION.APERIO_JP2000_YCBC,
    tifffile.COMPRESSION.JPEG2000,
    tifffile.COMPRESSION.PNG,
    tifffile.COMPRESSION.WEBP,
}
_PARTS_WITHOUT = {
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.CCITTRLE,
    tifffile.COMPRESSION.CCITT_T4,
    tifffile.COMPRESSION.CCITT_T6,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
    tifffile.COMPRESSION.DEFLATE,
    tifffile.COMPRESSION.PACKBITS,
    tifffile.COMPRESSION.LZMA,
    tifffile.COMPRESSION.ZSTD,
}
"""Compressions whose strips and tiles are files of their own, with a size, and those that fill what they are given."""
_BLOCK = 16  # a JPEG may be as much larger than its strip


@dataclass(frozen=True)
class TiffContents:
    """A TIFF file, read.

    Attributes:
        array: the pixels as stored, whole numbers stretched to 8 or 16 bits.
        mode: see `Photograph`.
        orientation: as in EXIF; None if it is not stated.
        icc_profile, xmp: as embedded.
    """

    array: Samples
    mode: str
    orientation: int | None
    icc_profile: bytes | None
    xmp: bytes | None


def read_tiff(data: bytes, max_pixels: int) -> TiffContents:
    """Read a TIFF file.

    Raises:
        ImageError: several pages, more than `max_pixels`, or a kind of pixel that is not read.
        Exception: of whatever type, from decoding a damaged file.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        if page.is_reduced or page.is_dng or data[8:10] == b"CR":
            raise ImageError("is a camera's raw file, which is not read: develop it first")
        pages = sum(_is_image(other) for other in itertools.islice(tiff.pages, 1000))
        if pages > 1:
            raise ImageError(f"has {pages} pages; only single images are read")
        refuse_too_many_pixels(page.imagewidth, page.imagelength, max_pixels)
        colours, bits = _checked(page)
        fields = read_directory(data)
        # What is missing would be filled up, or taken for something else.
        strips = zip(page.dataoffsets, page.databytecounts, strict=True)
        if fields.dangling & _STRUCTURE or any(sum(strip) > len(data) for strip in strips):
            raise ImageError("is damaged or cut short (it points beyond its end)")
        _refuse_large_parts(page, data)
        # imagecodecs' own LZW decoder writes beyond its buffer where the codes are damaged; libtiff does not.
        by_libtiff = page.compression == tifffile.COMPRESSION.LZW and bits in (1, 8, 16, 32)
        array = np.asarray(imagecodecs.tiff_decode(data) if by_libtiff else page.asarray(maxworkers=1))
        array = channels_last(np.moveaxis(array, 0, -1) if page.axes[0] == "S" else array)
        mode = "1" if bits == 1 else "P"
        if page.photometric == _KINDS.PALETTE:
            array = _looked_up(array, page.colormap)
        else:
            # Channels of different bits, such as 5, 6 and 5, tifffile stretches itself.
            array = _levelled(array, bits if bits == np.min(page.bitspersample) or bits > 8 else 8)
            if page.photometric == _KINDS.MINISWHITE:
                array = np.concatenate([_white(array) - array[..., :1], array[..., 1:]], axis=-1)
            array = _with_plain_alpha(array, colours, page.extrasamples)
            mode = mode_of(array) if bits > 1 else mode
    profile, packet = (fields.fields.get(tag) for tag in (ICC_TAG, XMP_TAG))
    return TiffContents(
        array=array,
        mode=mode,
        orientation=fields.number(ORIENTATION_TAG),
        icc_profile=None if profile is None else profile.value,
        xmp=None if packet is None else packet.value,
    )


def mode_of(array: Samples) -> str:
    """Return what Pillow calls, or would call, such pixels."""
    suffix = {"uint8": "", "uint16": ";16", "float32": ";32F"}[array.dtype.name]
    return (
        "I" if suffix == ";16" and array.shape[-1] == 1 else ("L", "LA", "RGB", "RGBA")[array.shape[-1] - 1]
    ) + suffix


def _is_image(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether a page is neither thumbnail nor mask of another."""
    return not (isinstance(page, tifffile.TiffPage) and (page.is_reduced or page.is_mask))


def _checked(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the number of colours and the bits of a channel, if this kind of pixel is read."""
    kind, dtype, bits = page.photometric, page.dtype, int(np.max(page.bitspersample))
    colours = _COLOURS.get(kind)
    if colours is None or (kind == _KINDS.YCBCR and page.compression not in _JPEG) or page.imagedepth != 1:
        name = _WORDS.get(kind, getattr(kind, "name", str(kind)))
        raise ImageError(f"pixels of kind {name} are not supported: convert the image to grey, RGB or RGBA first")
    whole = dtype is not None and dtype.kind in "bu" and bits <= 16
    if dtype is None or not (whole or dtype.kind == "f") or page.samplesperpixel > 16:
        channels = f"{page.samplesperpixel} channels of {dtype}"
        raise ImageError(f"{channels} are not supported: save the image with 8 or 16 bits, or as floats")
    if page.samplesperpixel < colours:
        raise ImageError("is damaged or cut short (too few channels)")
    return colours, bits


def _refuse_large_parts(page: tifffile.TiffPage, data: bytes) -> None:
    """Refuse strips and tiles that would unpack to more than their place: their decoders believe what they say."""
    if page.compression in _PARTS_WITHOUT:
        return
    if page.compression not in _PARTS_WITH_A_SIZE:
        name = getattr(page.compression, "name", str(page.compression))
        raise ImageError(f"compression {name} is not supported: save the image with LZW or Deflate")
    place = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0:  # left out: black
            continue
        with Image.open(io.BytesIO(data[offset : offset + count])) as part:
            size = part.size
        if any(side > allowed + _BLOCK for side, allowed in zip(size, place, strict=True)):
            raise ImageError(f"is damaged (a part of {place[0]} x {place[1]} pixels claims {size[0]} x {size[1]})")


def _levelled(array: Samples, bits: int) -> Samples:
    """Return pixels of any depth as uint8, uint16 or float32, white at the top."""
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ImageError(_floats_beyond_range(array))
        return array
    if bits > 8:
        return stretched(array.astype(np.uint16, copy=False), bits)
    if bits == 8:
        return array.astype(np.uint8, copy=False)
    white = 2**bits - 1
    return ((array.astype(np.uint16) * 255 + white // 2) // white).astype(np.uint8)


def _looked_up(indices: Samples, palette: Samples | None) -> Samples:
    if palette is None or int(indices[..., 0].max()) >= palette.shape[-1]:
        raise ImageError("is damaged or cut short (palette too short)")
    levels = palette >> 8 if palette.max() > 255 else palette  # 16 bits by the standard, 8 in some old files
    return levels.astype(np.uint8).T[indices[..., 0]]


def _white(pixels: Samples) -> np.uint8 | np.uint16 | np.float32:
    return pixels.dtype.type(1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max)


def _with_plain_alpha(pixels: Samples, colours: int, extras: tuple[int, ...]) -> Samples:
    """Keep the colours and the transparency, if one of the further channels is declared to be that."""
    kinds = (tifffile.EXTRASAMPLE.UNASSALPHA, tifffile.EXTRASAMPLE.ASSOCALPHA)
    found = [index for index, extra in enumerate(extras) if extra in kinds]
    if not found:
        return pixels[..., :colours]
    pixels = pixels[..., [*range(colours), colours + found[0]]]
    if extras[found[0]] == tifffile.EXTRASAMPLE.ASSOCALPHA:
        # Colours multiplied with it: divided, and black where nothing is left of them.
        white = np.float32(_white(pixels))
        share = np.maximum(pixels[..., -1].astype(np.float32) / white, np.float32(1 / 65535))
        for index in range(colours):
            plain = (pixels[..., index] / share).clip(0, white)
            pixels[..., index] = plain if pixels.dtype.kind == "f" else plain.round()
    return pixels


def _floats_beyond_range(pixels: Samples) -> str:
    bad = pixels.size - int(np.isfinite(pixels).sum())
    if bad:
        return f"holds {bad:,} values that are not finite (NaN or infinity)"
    return f"holds floats from {pixels.min():.3g} to {pixels.max():.3g}; accepted are 0 (black) to 1 (white)"


STRIP_BYTES = 1 << 20
LARGEST_FILE = 2**32 - 1  # places in the file are numbers of 32 bits


def encode_tiff(array: Samples, icc_profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Return a TIFF file of (H, W, C) uint8, uint16 or float32, C from 1 to 4, deflated. (TIFF 6.0; supplement 2.)

    Raises:
        ValueError: the file would be larger than 4 GiB.
    """
    directory = Directory("<") if exif is None else descriptive(read_directory(exif.removeprefix(EXIF_MARK)))
    order = directory.order
    height, width, channels = array.shape
    rows = max(1, STRIP_BYTES // (width * channels * array.itemsize))
    file, places, lengths = bytearray(header(order)), [], []
    for top in range(0, height, rows):
        strip = zlib.compress(_predicted(array[top : top + rows]).astype(array.dtype.newbyteorder(order)).tobytes())
        places.append(len(file))
        lengths.append(len(strip))
        file += strip + b"\0" * (len(strip) % 2)
    floats = array.dtype.kind == "f"
    for tag, kind, values in (
        (256, LONG, (width,)),
        (257, LONG, (height,)),
        (258, SHORT, (8 * array.itemsize,) * channels),  # bits of a sample
        (259, SHORT, (8,)),  # compression: deflate
        (262, SHORT, (2 if channels > 2 else 1,)),  # RGB, or grey with 0 for black
        (273, LONG, places),
        (277, SHORT, (channels,)),
        (278, LONG, (rows,)),
        (279, LONG, lengths),
        (284, SHORT, (1,)),  # samples of a pixel side by side
        (317, SHORT, (1 if floats else 2,)),  # predictor: the pixel to the left
        (339, SHORT, (3 if floats else 1,) * channels),  # sample format
    ):
        directory.put(tag, kind, *values)
    if channels in (2, 4):
        directory.put(338, SHORT, 2)  # the last channel is transparency, colours not multiplied with it
    for tag, data in ((ICC_TAG, icc_profile), (XMP_TAG, xmp)):
        if data is not None:
            directory.fields[tag] = Field(UNDEFINED, len(data), data)
    file[4:8] = struct.pack(order + "I", len(file) & LARGEST_FILE)
    file += write_directory(directory, len(file))
    if len(file) > LARGEST_FILE:
        raise ValueError("the file would be larger than 4 GiB")
    return bytes(file)


def _predicted(strip: Samples) -> Samples:
    """Whole numbers as differences from the pixel to the left."""
    if strip.dtype.kind == "f":
        return strip
    return np.concatenate([strip[:, :1], np.diff(strip, axis=1)], axis=1)
