"""TIFF files of 8 and 16 bits and floats. tifffile, which reads them, will not write EXIF and GPS directories."""

import struct
import zlib

import numpy as np

from blinddiff.imaging.directory import (
    LONG,
    SHORT,
    UNDEFINED,
    Directory,
    Field,
    header,
    read_directory,
    write_directory,
)
from blinddiff.imaging.metadata import EXIF_MARK, ICC_TAG, XMP_TAG, descriptive
from blinddiff.imaging.pixels import Samples

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
