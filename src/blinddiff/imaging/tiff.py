"""Reads TIFF files of 1 to 16 bits and floats (grey, palette, RGB, CMYK, YCbCr); writes 8 and 16 bits and floats.

tifffile, or libtiff in imagecodecs, decodes the pixels: Pillow does not open all of these files, reduces 16-bit colours
to 8 bits, and its libtiff prints messages about damaged files to the terminal.
"""

import io
import itertools
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile

from blinddiff.errors import ImageError
from blinddiff.imaging import metadata, photograph
from blinddiff.imaging.colour import cmyk_to_srgb
from blinddiff.imaging.metadata import LONG, SHORT
from blinddiff.imaging.photograph import Metadata, PixelArray, StoredImage
from blinddiff.imaging.words import checked_iptc

_KINDS, _C = tifffile.PHOTOMETRIC, tifffile.COMPRESSION
_COLOUR_CHANNELS: dict[int | None, int] = {_KINDS.MINISBLACK: 1, _KINDS.MINISWHITE: 1, _KINDS.PALETTE: 1}
_COLOUR_CHANNELS |= {_KINDS.RGB: 3, _KINDS.YCBCR: 3, _KINDS.SEPARATED: 4}
_KIND_NAMES: dict[int | None, str] = {_KINDS.SEPARATED: "CMYK (printing inks)", _KINDS.CIELAB: "LAB (CIE Lab)"}
_INK_SET = 332  # 1: CMYK
_STRUCTURE_TAGS = {258, 273, 277, 279, 320, 324, 325, 338, 339, 347}  # bits, strips, tiles, palette, ... JPEG tables
_JPEG = {_C.JPEG, _C.OJPEG}
# Compressions whose strips and tiles are image files with a size of their own, and those that fill a given buffer
_WITH_SIZE = _JPEG | {_C.APERIO_JP2000_RGB, _C.APERIO_JP2000_YCBC, _C.JPEG2000, _C.PNG, _C.WEBP}
_WITHOUT_SIZE = {_C.NONE, _C.CCITTRLE, _C.CCITT_T4, _C.CCITT_T6, _C.LZW, _C.PACKBITS}
_WITHOUT_SIZE |= {_C.ADOBE_DEFLATE, _C.DEFLATE, _C.LZMA, _C.ZSTD}


def read_tiff(data: bytes, max_pixels: int, page_number: int | None = None) -> StoredImage:
    """Decode a TIFF file, integers to 8 or 16 bits; CMYK and YCbCr become sRGB.

    ``page_number`` counts the pages from 1, without reduced images and masks; None refuses files of several pages.
    Raises ImageError if unsupported, or if there is no such page, and any error if damaged.
    """
    if page_number is not None:
        data = _with_first_page(data, page_number)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages.first
        if page.is_reduced or page.is_dng or data[8:10] == b"CR":
            raise ImageError("is a camera's raw file, which is not read: develop it first")
        if page_number is None and (pages := len(_page_offsets(tiff))) > 1:
            raise ImageError(f"has {pages} pages; choose one by --page, from 1 to {pages}")
        photograph.refuse_too_many_pixels(page.imagewidth, page.imagelength, max_pixels)
        colours, bits = _check_pixel_format(page)
        directory = metadata.read_directory(data)
        # tifffile would replace missing data by zeros or by other bytes.
        strips = zip(page.dataoffsets, page.databytecounts, strict=True)
        if directory.dangling & _STRUCTURE_TAGS or any(sum(strip) > len(data) for strip in strips):
            raise ImageError("is damaged or cut short (it points beyond its end)")
        _refuse_oversized_parts(page, data)
        # The LZW decoder of imagecodecs writes beyond its buffer if the codes are damaged; libtiff does not.
        by_libtiff = page.compression == _C.LZW and bits in (1, 8, 16, 32)
        notes: tuple[str, ...] = ()
        if to_rgb := page.compression == _C.OJPEG or (page.photometric == _KINDS.YCBCR and page.compression != _C.JPEG):
            array = _rgb_by_libtiff(data, page)
        else:
            array = np.asarray(imagecodecs.tiff_decode(data) if by_libtiff else page.asarray(maxworkers=1))
            planes_first = page.axes[0] == "S"
            array = photograph.channels_last(np.moveaxis(array, 0, -1) if planes_first else array)
        if page.photometric == _KINDS.PALETTE:
            if page.colormap is None or int(array[..., 0].max()) >= page.colormap.shape[-1]:
                raise ImageError("is damaged or cut short (palette too short)")
            # palettes have 16 bits in the standard, 8 in some old files
            levels = page.colormap >> 8 if page.colormap.max() > 255 else page.colormap
            array = levels.astype(np.uint8).T[array[..., 0].astype(np.uint8 if bits == 1 else array.dtype)]
        else:
            if array.dtype.kind == "f":
                array = photograph.checked_floats(array)
            else:
                # tifffile has already rescaled channels of unequal bits, such as 5, 6 and 5, to 8 bits.
                array = photograph.stretch(array, bits if bits > 8 or bits == np.min(page.bitspersample) else 8)
            if page.photometric == _KINDS.MINISWHITE:
                array = np.concatenate([photograph.white_of(array) - array[..., :1], array[..., 1:]], axis=-1)
            array = _with_straight_alpha(array, colours, () if to_rgb else page.extrasamples)
        profile = directory.value(metadata.ICC_TAG) or None
        if inks := page.photometric == _KINDS.SEPARATED:
            rgb, note = cmyk_to_srgb(array[..., :4], profile)
            array, profile, notes = np.concatenate([rgb, array[..., 4:]], axis=-1), None, (note,)
        mode = "P" if page.photometric == _KINDS.PALETTE else "CMYK" if inks else photograph.mode_of(array)
    orientation = directory.number(metadata.ORIENTATION_TAG)
    exif, xmp = metadata.exif_of_tiff(directory), directory.value(metadata.XMP_TAG)
    mode, iptc = "1" if bits == 1 and mode != "P" else mode, checked_iptc(directory.value(metadata.IPTC_TAG))
    return StoredImage(array, mode, orientation, profile, exif, xmp, notes, iptc=iptc)


def _page_offsets(tiff: tifffile.TiffFile) -> list[int]:
    """The offset of each page that is no reduced image (such as a thumbnail) and no mask; at most 1000."""
    pages = itertools.islice(tiff.pages, 1000)
    return [page.offset for page in pages if not (isinstance(page, tifffile.TiffPage) and _is_auxiliary(page))]


def _is_auxiliary(page: tifffile.TiffPage) -> bool:
    return bool(page.is_reduced or page.is_mask)


def _with_first_page(data: bytes, number: int) -> bytes:
    """Return a TIFF file whose first page is the one with this number. Raises ImageError if there is none."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        offsets, order, big = _page_offsets(tiff), tiff.byteorder, tiff.is_bigtiff
    if not 1 <= number <= len(offsets):
        raise ImageError(f"has no page {number}: it has {len(offsets)} page{'s' * (len(offsets) != 1)}")
    head = struct.pack(order + ("Q" if big else "I"), offsets[number - 1])
    start = 8 if big else 4
    return data[:start] + head + data[start + len(head) :]


def _rgb_by_libtiff(data: bytes, page: tifffile.TiffPage) -> PixelArray:
    """Decode YCbCr to RGB by libtiff, which knows subsampled chroma and old-style JPEG."""
    if (tag := page.tags.get(metadata.ORIENTATION_TAG)) is not None:
        # libtiff would apply a part of the orientation: declare the pixels upright.
        upright = struct.pack(page.parent.byteorder + "H", 1)
        data = data[: tag.valueoffset] + upright + data[tag.valueoffset + 2 :]
    return np.asarray(imagecodecs.tiff_decode(data, asrgb=True))[..., :3]


def _check_pixel_format(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return the number of colour channels and the bits of each. Raises ImageError for unsupported pixel formats."""
    kind, dtype, bits = page.photometric, page.dtype, int(np.max(page.bitspersample))
    colours = _COLOUR_CHANNELS.get(kind)
    name = _KIND_NAMES.get(kind, getattr(kind, "name", str(kind)))
    inks = kind == _KINDS.SEPARATED
    if inks and (page.tags.valueof(_INK_SET, default=1) != 1 or page.samplesperpixel < 4):
        name, colours = "SEPARATED (printing inks other than CMYK)", None
    if (inks or (kind == _KINDS.YCBCR and page.compression not in _JPEG)) and (dtype is None or dtype.kind != "u"):
        name, colours = f"{name} of {dtype}", None
    if kind == _KINDS.YCBCR and bits != 8:
        name, colours = f"YCBCR of {bits} bits", None
    if colours is None or page.imagedepth != 1:
        raise ImageError(f"pixels of kind {name} are not supported: convert the image to grey, RGB or RGBA first")
    integers = dtype is not None and dtype.kind in "bu" and bits <= 16
    if dtype is None or not (integers or dtype.kind == "f") or page.samplesperpixel > 16:
        channels = f"{page.samplesperpixel} channels of {dtype}"
        if dtype is not None and dtype.kind == "i":
            raise ImageError(f"{channels} (signed integers) are not supported: save the image with unsigned integers")
        raise ImageError(f"{channels} are not supported: save the image with 8 or 16 bits, or as floats")
    if page.samplesperpixel < colours:
        raise ImageError("is damaged or cut short (too few channels)")
    return colours, bits


def _refuse_oversized_parts(page: tifffile.TiffPage, data: bytes) -> None:
    """Raise ImageError if a strip or tile declares a larger size than it should have: its decoder would allocate it."""
    if page.compression in _WITHOUT_SIZE:
        return
    if page.compression not in _WITH_SIZE:
        name = getattr(page.compression, "name", str(page.compression))
        raise ImageError(f"compression {name} is not supported: save the image with LZW or Deflate")
    allowed = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if count == 0:  # a missing part is black
            continue
        with photograph.open_picture(data[offset : offset + count], "JPEG", "JPEG2000", "PNG", "WEBP") as part:
            size = part.size
        # A JPEG may be up to one block larger than its strip.
        if any(side > most + 16 for side, most in zip(size, allowed, strict=True)):
            raise ImageError(f"is damaged (a part of {allowed[0]} x {allowed[1]} pixels claims {size[0]} x {size[1]})")


def _with_straight_alpha(pixels: PixelArray, colours: int, extras: tuple[int, ...]) -> PixelArray:
    """Return the colours, not premultiplied, and the first alpha channel if there is one; drop other channels."""
    kinds = (tifffile.EXTRASAMPLE.UNASSALPHA, tifffile.EXTRASAMPLE.ASSOCALPHA)
    found = [index for index, extra in enumerate(extras) if extra in kinds]
    if not found:
        return pixels[..., :colours]
    pixels = pixels[..., [*range(colours), colours + found[0]]]
    return photograph.divide_by_alpha(pixels) if extras[found[0]] == kinds[1] else pixels


def encode_tiff(array: PixelArray, says: Metadata) -> bytes:
    """Return a deflated TIFF 6.0 file of (H, W, C) uint8, uint16 or float32, C <= 4. Raises ValueError above 4 GiB."""
    directory = metadata.Directory("<")
    if says.exif is not None:
        directory = metadata.descriptive_fields(metadata.read_directory(says.exif))
    order, floats = directory.order, array.dtype.kind == "f"
    height, width, channels = array.shape
    rows = max(1, (1 << 20) // (width * channels * array.itemsize))
    file, offsets, lengths = bytearray(metadata.header(order)), [], []
    for top in range(0, height, rows):
        strip = array[top : top + rows]
        if not floats:
            strip = imagecodecs.delta_encode(strip, axis=1)  # the predictor
        data = zlib.compress(strip.astype(array.dtype.newbyteorder(order)).tobytes())
        offsets.append(len(file))
        lengths.append(len(data))
        file += data + b"\0" * (len(data) % 2)
    directory.put(256, LONG, width)
    directory.put(257, LONG, height)
    directory.put(258, SHORT, *[8 * array.itemsize] * channels)  # bits per sample
    directory.put(259, SHORT, 8)  # compression: deflate
    directory.put(262, SHORT, 2 if channels > 2 else 1)  # photometric interpretation: RGB, or grey with 0 as black
    directory.put(273, LONG, *offsets)
    directory.put(277, SHORT, channels)
    directory.put(278, LONG, rows)
    directory.put(279, LONG, *lengths)
    directory.put(284, SHORT, 1)  # planar configuration: interleaved
    directory.put(317, SHORT, 1 if floats else 2)  # predictor: none, or horizontal differences
    directory.put(339, SHORT, *[3 if floats else 1] * channels)  # sample format
    if channels in (2, 4):
        directory.put(338, SHORT, 2)  # extra samples: alpha, not premultiplied
    for tag, block in (
        (metadata.ICC_TAG, says.icc_profile),
        (metadata.XMP_TAG, says.xmp),
        (metadata.IPTC_TAG, says.iptc),
    ):
        if block is not None:
            directory.fields[tag] = metadata.Field(metadata.UNDEFINED, len(block), block)
    file[4:8] = struct.pack(order + "I", len(file) % 2**32)
    file += metadata.write_directory(directory, len(file))
    if len(file) >= 2**32:  # offsets are 32-bit integers
        raise ValueError("the file would be larger than 4 GiB")
    return bytes(file)
