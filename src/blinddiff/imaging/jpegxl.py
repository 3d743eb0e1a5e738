"""Reads and writes JPEG XL files (ISO/IEC 18181): grey and RGB with alpha, 8 and 16 bits and floats, without loss.

imagecodecs decodes and encodes the pixels only. This module adds what surrounds them: the image header at the start of
the codestream, which declares the colours, and the boxes of the container, which hold EXIF and XMP.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np
from PIL import Image

from blinddiff.errors import ImageError
from blinddiff.imaging import photograph
from blinddiff.imaging.colour import BT709, D65, PRIMARIES, make_profile, profile_of_codes
from blinddiff.imaging.formats import iso_boxes
from blinddiff.imaging.metadata import EXIF_PREFIX, upright_exif
from blinddiff.imaging.photograph import Metadata, PixelArray, StoredImage

_START = b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "
_HEADER_BYTES = 8192  # more than the longest header without a profile
_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height; index 0 is not used
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_COORDINATE = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
_SIZE = ((1, 9), (1, 13), (1, 18), (1, 30))
_ALPHA, _BLACK = 0, 4  # kinds of extra channels


class _Header(NamedTuple):
    """The image header. `colour_at` and `end` are positions in bits: of the colour encoding, and behind it."""

    width: int
    height: int
    animated: bool
    bits: int
    extra_channels: tuple[int, ...]  # their kinds
    multiplied_alpha: bool
    converted: bool  # whether the encoder converted the colours (to XYB), so that the decoder chooses the output's
    grey: bool
    embedded_profile: bool
    profile: bytes | None  # of a declared colour space; None for sRGB
    colour_at: int
    end: int


class _Bits:
    """Reads numbers from a codestream, least significant bits first."""

    def __init__(self, data: bytes) -> None:
        self._value, self.at = int.from_bytes(data, "little"), 0

    def read(self, count: int) -> int:
        self.at += count
        return (self._value >> (self.at - count)) & ((1 << count) - 1)

    def choose(self, options: tuple[tuple[int, int], ...]) -> int:
        """Read two bits that select an (offset, number of bits), and return offset plus the number that follows."""
        offset, count = options[self.read(2)]
        return offset + self.read(count)


def _read_size(bits: _Bits) -> tuple[int, int]:
    small = bits.read(1)
    height = 8 * (bits.read(5) + 1) if small else bits.choose(_SIZE)
    if ratio := bits.read(3):
        over, under = _RATIOS[ratio]
        return height * over // under, height
    return 8 * (bits.read(5) + 1) if small else bits.choose(_SIZE), height


def _read_depth(bits: _Bits) -> int:
    if bits.read(1):  # floats
        count = bits.choose(((32, 0), (16, 0), (24, 0), (1, 6)))
        bits.read(4)
        return count
    return bits.choose(((8, 0), (10, 0), (12, 0), (1, 6)))


def _read_header(codestream: bytes) -> _Header:
    """Parse the image header. Raises ImageError for high dynamic range."""
    bits = _Bits(codestream[:_HEADER_BYTES])
    bits.read(16)  # the signature
    width, height = _read_size(bits)
    if bits.read(1):  # all fields have their defaults
        return _Header(width, height, False, 8, (), False, True, False, False, None, bits.at, bits.at)
    animated = False
    if bits.read(1):
        bits.read(3)  # orientation, which the decoder applies
        if bits.read(1):
            _read_size(bits)  # intrinsic size
        if bits.read(1):
            raise ImageError("is a JPEG XL file with a preview, a kind that is not supported")
        animated = bool(bits.read(1))
        if animated:  # the rest is not needed: animations are refused
            return _Header(width, height, True, 8, (), False, True, False, False, None, bits.at, bits.at)
    depth = _read_depth(bits)
    bits.read(1)
    extra, multiplied = [], False
    for _ in range(bits.choose(((0, 0), (1, 0), (2, 4), (1, 12)))):
        kind = _ALPHA
        if not bits.read(1):
            kind = bits.choose(_ENUM)
            _read_depth(bits)
            bits.choose(((0, 0), (3, 0), (4, 0), (1, 3)))
            bits.read(8 * bits.choose(((0, 0), (0, 4), (16, 5), (48, 10))))  # name
            if kind == _ALPHA:
                multiplied |= bool(bits.read(1))
            elif kind == 2:  # a spot colour
                bits.read(64)
            elif kind == 5:  # colour filter array
                bits.choose(((1, 0), (0, 2), (3, 4), (19, 8)))
        extra.append(kind)
    converted, colour_at = bool(bits.read(1)), bits.at
    grey, embedded, profile = _read_colours(bits)
    return _Header(
        width, height, animated, depth, tuple(extra), multiplied, converted, grey, embedded, profile, colour_at, bits.at
    )


def _read_colours(bits: _Bits) -> tuple[bool, bool, bytes | None]:
    """Return whether the image is grey, whether a profile is embedded, and a profile made from declared colours."""
    if bits.read(1):  # sRGB
        return False, False, None
    embedded, space = bool(bits.read(1)), bits.choose(_ENUM)
    grey = space == 1
    if embedded or space > 1:
        return grey, embedded, None

    def point() -> tuple[float, float]:
        packed = [bits.choose(_COORDINATE) for _ in range(2)]
        x, y = ((value >> 1) ^ -(value & 1) for value in packed)  # zigzag: even numbers are positive
        return x / 1e6, y / 1e6

    white_code = bits.choose(_ENUM)
    white = point() if white_code == 2 else {10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}.get(white_code, D65)
    colours = BT709[:3]
    if not grey:
        code = bits.choose(_ENUM)
        colours = tuple(point() for _ in range(3)) if code == 2 else PRIMARIES.get(code, BT709)[:3]
    gamma = 1e7 / max(1, bits.read(24)) if bits.read(1) else None
    transfer = 13 if gamma is not None else bits.choose(_ENUM)
    bits.choose(_ENUM)  # rendering intent
    named = profile_of_codes(1, transfer, grey=True)  # refuses high dynamic range
    if gamma is None and named is not None:
        gamma = {8: 1.0, 17: 2.6}.get(transfer)
    return grey, False, make_profile((*colours, white), gamma, grey)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind and contents of each box of a container; compressed ones are unpacked."""
    for kind, start, end in iso_boxes(data, 0, len(data)):
        contents = data[start:end]
        if kind == b"brob":
            kind, contents = contents[:4], bytes(imagecodecs.brotli_decode(contents[4:], out=1 << 20))
        yield kind, contents


def _codestream(data: bytes) -> bytes:
    """The codestream of a file: all of it, or the contents of its boxes."""
    if data.startswith(b"\xff\x0a"):
        return data
    return b"".join(box[4 * (kind == b"jxlp") :] for kind, box in _boxes(data) if kind in (b"jxlc", b"jxlp"))


def metadata_carrier(exif: bytes) -> Image.Image:
    """A picture of one pixel with an EXIF block, for the functions that take it from a picture."""
    picture = Image.new("L", (1, 1))
    picture.info["exif"] = exif
    return picture


def read_jpegxl(data: bytes, max_pixels: int) -> StoredImage:
    """Decode a JPEG XL file. Raises ImageError if unsupported, or any error if damaged."""
    if not imagecodecs.JPEGXL.available:
        raise ImageError("is a JPEG XL file, which the installed imagecodecs cannot decode")
    header = _read_header(_codestream(data))
    photograph.refuse_too_many_pixels(header.width, header.height, max_pixels)
    if header.animated:
        raise ImageError("is animated; only single images are read")
    if _BLACK in header.extra_channels:
        raise ImageError("pixels of kind CMYK are not supported in JPEG XL: save it as CMYK TIFF")
    array = photograph.channels_last(imagecodecs.jpegxl_decode(data, numthreads=1))
    colours = 1 if header.grey else 3
    array = array[..., : colours + (_ALPHA in header.extra_channels)]
    if array.dtype.kind == "f":
        # Lossy coding exceeds the range slightly.
        array = photograph.checked_floats(array.clip(-1, 2).clip(0, 1) if header.converted else array)
    else:
        array = photograph.stretch(array, header.bits)
    if header.multiplied_alpha:
        array = photograph.divide_by_alpha(array)
    profile = header.profile
    notes: tuple[str, ...] = ()
    if header.embedded_profile and header.converted:
        profile = make_profile(BT709, 1.0, header.grey)  # libjxl converts to linear light with the primaries of sRGB
    elif header.embedded_profile:
        profile, notes = _embedded_profile(data)
    boxes = dict(reversed(list(_boxes(data)))) if data.startswith(_START[:12]) else {}
    block = boxes.get(b"Exif", b"")
    if block[:4] not in (b"II*\0", b"MM\0*"):  # some writers leave out the offset that begins the box
        block = block[4 + int.from_bytes(block[:4], "big") :].removeprefix(EXIF_PREFIX)
    exif = upright_exif(metadata_carrier(EXIF_PREFIX + block))
    return StoredImage(array, photograph.mode_of(array), None, profile, exif, boxes.get(b"xml "), notes)


def _embedded_profile(data: bytes) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the ICC profile, which imagecodecs does not return, by the plugin for Pillow; a note if there is none."""
    try:
        import pillow_jxl  # noqa: F401 - registers the format
    except ImportError:
        reason = "its colour profile was not read, and sRGB is assumed: to read it, install the extra jxl"
        return None, (f"{reason}: pip install 'blinddiff[jxl]'",)
    with Image.open(io.BytesIO(data), formats=["JXL"]) as picture:
        return picture.info.get("icc_profile"), ()


def encode_jpegxl(array: PixelArray, metadata: Metadata) -> bytes:
    """Return a JPEG XL file, without loss, of (H, W, C) uint8, uint16 or float32, C from 1 to 4."""
    icc_profile, exif, xmp = metadata[:3]
    squeezed = array[..., 0] if array.shape[-1] == 1 else array
    coded = _codestream(bytes(imagecodecs.jpegxl_encode(np.ascontiguousarray(squeezed), lossless=True, numthreads=1)))
    header = _read_header(coded)
    # imagecodecs embeds no profile, and declares 16 bits and floats as linear light: write the end of the header anew.
    fields = [(int.from_bytes(coded[:_HEADER_BYTES], "little") % (1 << header.colour_at), header.colour_at)]
    grey = array.shape[-1] < 3
    if icc_profile is not None:
        fields += [(0, 1), (1, 1), *([(1, 2)] if grey else [(0, 2)]), (0, 2), (1, 1), *_coded_profile(icc_profile)]
    elif grey:
        # not the default, no profile, grey, white point D65, a named curve: that of sRGB, relative colorimetric
        fields += [(0, 1), (0, 1), (1, 2), (1, 2), (0, 1), (2 | 11 << 2, 6), (1, 2), (0, 2), (1, 1)]
    else:
        fields += [(1, 1), (0, 2), (1, 1)]  # sRGB, no extensions, the default transform
    boxes = {b"Exif": None if exif is None else bytes(4) + exif.removeprefix(EXIF_PREFIX), b"xml ": xmp}
    boxes[b"jxlc"] = _pack(fields) + coded[-(-(header.end + 3) // 8) :]
    if array.dtype != np.uint8:
        boxes = {b"jxll": b"\x0a", **boxes}  # level 10 of the standard: more than 16 bits of working precision
    file = bytearray(_START)
    for kind, contents in boxes.items():
        if contents is not None:
            head = struct.pack(">I4s", len(contents) + 8, kind) if len(contents) < 2**32 - 8 else b""
            file += (head or struct.pack(">I4sQ", 1, kind, len(contents) + 16)) + contents
    return bytes(file)


def _pack(fields: Iterable[tuple[int, int]]) -> bytes:
    """Join (value, number of bits), least significant bits first."""
    total, at = 0, 0
    for value, count in fields:
        total |= value << at
        at += count
    return total.to_bytes(-(-at // 8), "little")


def _coded_profile(profile: bytes) -> list[tuple[int, int]]:
    """Return an ICC profile as bits of the codestream, uncompressed. (ISO/IEC 18181-1, annex E.4 and C.)"""
    predicted = bytearray(128)  # the standard's prediction of an ICC header; the differences are stored
    predicted[0:4] = struct.pack(">I", len(profile))
    predicted[8], predicted[12:24], predicted[36:40] = 4, b"mntrRGB XYZ ", b"acsp"
    predicted[68:80] = bytes.fromhex("0000f6d6000100000000d32d")
    predicted[80:84] = profile[4:8]
    platform = {b"A": b"APPL", b"M": b"MSFT"}.get(profile[40:41], {b"SG": b"SGI ", b"SU": b"SUNW"}.get(profile[40:42]))
    if platform is not None:
        predicted[41:44] = platform[1:]
        if platform[:1] == b"S":
            predicted[41] = 0  # the second letter is not predicted
    head = bytes((is_ - was) % 256 for is_, was in zip(profile[:128], predicted, strict=True))
    commands = b"\0\1" + _variable(len(profile) - 128)  # no list of tags; insert the rest
    stream = _variable(len(profile)) + _variable(len(commands)) + commands + head + profile[128:]
    size = len(stream)
    fields = [(3, 2), (size % 4096, 12)]
    while size := size >> (12 if len(fields) == 2 else 8):
        fields += [(1, 1), (size % 256, 8)]
    fields += [(0, 1)]
    # No LZ77, one distribution, prefix codes; bytes are symbols; 256 symbols; all code lengths are 8.
    fields += [(0, 1), (1, 1), (0, 2), (1, 1), (15, 4), (1, 1), (7, 4), (127, 7)]
    fields += [(0, 2), *[(0, 2)] * 10, (2, 2), *[(0, 2)] * 7]
    return fields + [(int(f"{byte:08b}"[::-1], 2), 8) for byte in stream]


def _variable(number: int) -> bytes:
    """A number in groups of 7 bits, the least significant first."""
    out = bytearray()
    while number > 127:
        out.append(number % 128 | 128)
        number >>= 7
    return bytes([*out, number])
