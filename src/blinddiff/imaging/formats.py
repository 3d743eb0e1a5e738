"""Which kinds of image file there are, told by their first bytes: names lie."""

from dataclasses import dataclass
from pathlib import PurePath

SIGNATURE_BYTES = 32
"""How much of a file `image_format` needs."""


@dataclass(frozen=True)
class Format:
    """One kind of image file.

    Attributes:
        name: Pillow's name for it.
        suffixes: the extensions of such files, the usual one first.
        signatures: pairs of a place in the file and the bytes there; one of them has to fit.
    """

    name: str
    suffixes: tuple[str, ...]
    signatures: tuple[tuple[int, bytes], ...]


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
"""What `read_image` reads. Formats of vector drawings, of documents and of old game consoles, which Pillow would
open too, are left out: each decoder is a way in for a hostile file."""

_NOT_READ = {b"ftyphei": "HEIC", b"ftyphev": "HEIC", b"ftypmif1": "HEIF"}
_NOT_READ_SUFFIXES = (".heic", ".heif")
_RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw", ".3fr")


def image_format(head: bytes) -> Format | None:
    """Return the format of a file that begins with `head`, at least its first `SIGNATURE_BYTES`; None if unknown."""
    for kind in FORMATS:
        if any(head[place : place + len(mark)] == mark for place, mark in kind.signatures):
            return kind
    return None


def has_image_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a format that is read, or that people expect to be."""
    suffix = path.suffix.lower()
    return suffix in _NOT_READ_SUFFIXES or any(suffix in kind.suffixes for kind in FORMATS)


def has_raw_name(path: PurePath) -> bool:
    """Whether a file's extension is that of a camera's raw format: many begin as TIFF files do."""
    return path.suffix.lower() in _RAW_SUFFIXES


def unknown_format(head: bytes) -> str:
    """Return what to say of a file whose format is not read."""
    for mark, name in _NOT_READ.items():
        if head[4:].startswith(mark):
            return f"is a {name} file, which is not read: save it as PNG, TIFF or JPEG"
    return "is not an image of a known format"
