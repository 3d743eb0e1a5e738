"""What image files say in words besides EXIF and XMP: PNG texts, comments and IPTC records; and pixels per inch."""

import math
import struct
from collections.abc import Mapping

from PIL import Image, PngImagePlugin

from blinddiff.imaging.metadata import decoded_text

COMMENT = "Comment"
"""The keyword of texts that have none, such as JPEG comments; one of PNG's own."""
SEGMENT_LIMIT = 65_533
"""Bytes of contents that one segment of a JPEG file holds."""
APP2, APP13, COM = 0xE2, 0xED, 0xFE  # markers of these segments
_PHOTOSHOP, _RESOURCE, _IPTC_RESOURCE = b"Photoshop 3.0\0", b"8BIM", 0x0404
_RAW_PROFILE = "Raw profile type "  # keyword of metadata in PNG texts, as ImageMagick and ExifTool write it


def texts_of(picture: Image.Image) -> dict[str, str]:
    """Return the texts of a loaded PNG, JPEG or GIF file by keyword, without those that hold EXIF, XMP or IPTC."""
    if isinstance(picture, PngImagePlugin.PngImageFile):
        other = (_RAW_PROFILE, "XML:com.adobe.xmp")
        return {key: text for key, text in picture.text.items() if not key.startswith(other)}
    comments = [contents for kind, contents in getattr(picture, "applist", ()) if kind == "COM"]
    if picture.format == "GIF":
        comments = [picture.info.get("comment", b"")]
    text = "\n".join(filter(None, map(decoded_text, comments)))
    return {COMMENT: text} if text else {}


def as_one_text(texts: Mapping[str, str]) -> str:
    """Return texts as one, for formats that have no keywords."""
    return texts[COMMENT] if list(texts) == [COMMENT] else "\n".join(f"{key}: {text}" for key, text in texts.items())


def text_chunks(texts: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return kind and contents of a PNG chunk for each text; languages are kept."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return [(kind, data) for kind, data, *_ in info.chunks]


def iptc_of(picture: Image.Image) -> bytes | None:
    """Return the IPTC records of a loaded JPEG or PNG file; None if there are none."""
    found = picture.info.get("photoshop", {}).get(_IPTC_RESOURCE)
    for kind in ("iptc", "8bim"):
        profile = picture.info.get(_RAW_PROFILE + kind)
        if found is None and isinstance(profile, str):
            try:  # an empty line, the kind, the length, and hexadecimal digits
                found = _resource(bytes.fromhex("".join(profile.split("\n")[3:])))
            except ValueError:
                continue
    return checked_iptc(found)


def checked_iptc(records: bytes | None) -> bytes | None:
    """Return IPTC records, also from a TIFF tag whose 32-bit numbers are in the wrong order; None if they are none."""
    swapped = b"" if records is None else b"".join(records[at : at + 4][::-1] for at in range(0, len(records), 4))
    return next((block for block in (records, swapped) if block and block[:1] == b"\x1c"), None)


def _resource(block: bytes) -> bytes | None:
    """Return the IPTC records in Photoshop's image resources, or the block itself if it has none."""
    at = len(_PHOTOSHOP) if block.startswith(_PHOTOSHOP) else 0
    if not block.startswith(_RESOURCE, at):
        return block
    while block.startswith(_RESOURCE, at) and at + 12 <= len(block):
        name = (block[at + 6] + 2) // 2 * 2  # with its length, padded to an even number
        (code,) = struct.unpack_from(">H", block, at + 4)
        size = int.from_bytes(block[at + 6 + name : at + 10 + name], "big")
        at += 10 + name
        if code == _IPTC_RESOURCE:
            return block[at : at + size]
        at += size + size % 2
    return None


def segment(marker: int, contents: bytes) -> bytes:
    """Return a segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(contents) + 2) + contents


def photoshop_block(records: bytes) -> bytes:
    """Return IPTC records as the contents of an APP13 segment of a JPEG file."""
    head = struct.pack(">4sHHI", _RESOURCE, _IPTC_RESOURCE, 0, len(records))
    return _PHOTOSHOP + head + records + b"\0" * (len(records) % 2)


def raw_profile(records: bytes) -> dict[str, str]:
    """Return IPTC records as a PNG text."""
    block = photoshop_block(records).removeprefix(_PHOTOSHOP)
    digits = block.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return {_RAW_PROFILE + "iptc": "\n".join(["", "iptc", f"{len(block):8d}", *lines, ""])}


def dpi_of(picture: Image.Image) -> tuple[float, float] | None:
    """Return the pixels per inch (x, y) that a file states outside EXIF; None if it states none."""
    if picture.format in ("JPEG", "MPO") and picture.info.get("jfif_unit") not in (1, 2):
        return None  # Pillow takes them from EXIF, or assumes 72
    return checked_dpi(picture.info.get("dpi"))


def checked_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return pixels per inch without the rounding of formats that store whole pixels per metre; None if impossible."""
    if dpi is None or not all(math.isfinite(side) and 0 < side < 1e6 for side in map(float, dpi)):
        return None
    x, y = (round(side) if abs(side - round(side)) <= 0.0128 else float(side) for side in map(float, dpi))
    return x, y
