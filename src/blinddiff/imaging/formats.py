"""Detects the format of an image file from its first bytes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

SIGNATURE_BYTES = 128
"""Number of bytes at the start of a file that `image_format` needs. AVIF and HEIC files list their brands there."""


@dataclass(frozen=True)
class Format:
    """An image format that can be read."""

    name: str  # in Pillow, where it has the format
    suffixes: tuple[str, ...]  # the usual one first
    signatures: tuple[tuple[int, bytes], ...] = ()  # pairs (offset, bytes at the offset); one pair must match
    brands: tuple[bytes, ...] = ()  # of ISO base media files (ISO/IEC 14496-12); one must be declared


FORMATS = (
    Format("PNG", (".png",), ((0, b"\x89PNG\r\n\x1a\n"),)),
    Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), ((0, b"\xff\xd8\xff"),)),
    Format("TIFF", (".tif", ".tiff"), ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0\x08\0\0\0"), (0, b"MM\0+\0\x08\0\0"))),
    Format("WEBP", (".webp",), ((8, b"WEBPVP8"),)),
    Format("AVIF", (".avif", ".avifs"), brands=(b"avif", b"avis")),
    Format("JPEG2000", (".jp2", ".j2k", ".jpx", ".jpf", ".j2c"), ((4, b"jP  \r\n"), (0, b"\xff\x4f\xff\x51"))),
    Format("JPEGXL", (".jxl",), ((0, b"\0\0\0\x0cJXL \r\n\x87\n"), (0, b"\xff\x0a"))),
    Format("HEIF", (".heic", ".heif", ".hif"), brands=(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")),
    Format("GIF", (".gif",), ((0, b"GIF87a"), (0, b"GIF89a"))),
    Format("BMP", (".bmp", ".dib"), ((0, b"BM"),)),
    Format("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), tuple((0, b"P%d" % kind) for kind in range(1, 7))),
)
"""The formats that `read_image` accepts. Pillow's other decoders are not exposed to untrusted files."""

_ANY_CODEC = (b"mif1", b"msf1")  # brands of the HEIF container alone, which does not determine the codec
_RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr")


def image_format(head: bytes) -> Format | None:
    """Return the format of a file from its first `SIGNATURE_BYTES` or more; None if unknown."""
    brands = _brands(head)
    for brand in brands:  # the major brand decides, if it is known
        for kind in FORMATS:
            if brand in kind.brands:
                return kind
    if any(brand in _ANY_CODEC for brand in brands):
        return next(kind for kind in FORMATS if kind.name == "HEIF")
    return next((kind for kind in FORMATS if any(head.startswith(mark, at) for at, mark in kind.signatures)), None)


def with_major_brand(data: bytes, kind: Format) -> bytes:
    """Return a file whose major brand is one of its format, as decoders expect; others are only compatible brands."""
    if not kind.brands or data[8:12] in kind.brands:
        return data
    known = next((brand for brand in _brands(data) if brand in kind.brands), data[8:12])
    return data[:8] + known + data[12:]


def _brands(head: bytes) -> list[bytes]:
    """The major brand of an ISO base media file, then the compatible ones; none for other files."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head), SIGNATURE_BYTES)
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]


def iso_boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box of an ISO base media file between two positions, and start and end of its contents."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1:  # a 64-bit length follows
            length, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = end if length == 0 else min(start + length, end)  # 0 means up to the end
        if stop < start + head:
            return
        yield kind, start + head, stop
        start = stop


def has_image_name(path: PurePath) -> bool:
    """Whether a file's extension is that of one of `FORMATS`."""
    suffix = path.suffix.lower()
    return any(suffix in kind.suffixes for kind in FORMATS)


def has_raw_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a camera's raw format; many raw files have the signature of TIFF."""
    return path.suffix.lower() in _RAW_SUFFIXES
