"""PNG files of 8 and 16 bits, which Pillow cannot both write, with everything that comes with the pixels."""

import struct
import zlib

import numpy as np

from blinddiff.imaging.metadata import EXIF_MARK
from blinddiff.imaging.pixels import Samples

_HEADER_END = 8 + 25  # signature, IHDR


def encode_png(array: Samples, icc_profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Return a PNG file of (H, W, C) uint8 or uint16, C from 1 to 4. (PNG, third edition, section 11.)"""
    import imagecodecs

    bare = imagecodecs.png_encode(np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array))
    chunks = []
    if icc_profile is not None:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if exif is not None:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(EXIF_MARK)))
    if xmp is not None:
        chunks.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    return b"".join((bare[:_HEADER_END], *chunks, bare[_HEADER_END:]))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
