"""EXIF and XMP metadata: kept unchanged, except for orientation, size and thumbnail.

An EXIF block is a small TIFF file: directories of fields, as in TIFF 6.0. Blocks are patched in place, because
MakerNotes contain absolute offsets; only the fields of TIFF files are written to a new block.
"""

import re
import struct
from dataclasses import dataclass, field
from typing import Literal

from PIL import ExifTags, Image

EXIF_PREFIX = b"Exif\0\0"
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
XMP_TAG, ICC_TAG, ORIENTATION_TAG = 700, 34675, 274
_POINTERS = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
SHORT, LONG, UNDEFINED = 3, 4, 7  # types of values; `_SIZES` has their sizes in bytes
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

Order = Literal["<", ">"]  # byte order, as in `struct`


@dataclass
class Field:
    """One field: ``count`` values of type ``kind``, as bytes in the file's byte order; or a directory."""

    kind: int
    count: int
    value: bytes
    directory: "Directory | None" = None


@dataclass
class Directory:
    """Fields by tag, and the byte order of their values."""

    order: Order
    fields: dict[int, Field] = field(default_factory=dict)
    dangling: set[int] = field(default_factory=set)  # tags whose offset is invalid

    def value(self, tag: int) -> bytes | None:
        """Return the bytes of a field; None if the field is missing."""
        return self.fields[tag].value if tag in self.fields else None

    def number(self, tag: int) -> int | None:
        """Return the value of a field that holds one integer, else None."""
        found = self.fields.get(tag)
        if found is None or found.count != 1 or found.kind not in (SHORT, LONG):
            return None
        return int.from_bytes(found.value, "little" if self.order == "<" else "big")

    def put(self, tag: int, kind: int, *values: int) -> None:
        """Set a field of integers of type `SHORT` or `LONG`."""
        layout = f"{self.order}{len(values)}{'H' if kind == SHORT else 'I'}"
        self.fields[tag] = Field(kind, len(values), struct.pack(layout, *values))


def read_directory(data: bytes) -> Directory:
    """Return the first directory of a TIFF file or EXIF block. Raises ValueError or struct.error if it is damaged."""
    data = data.removeprefix(EXIF_PREFIX)
    if data[:2] not in (b"II", b"MM"):
        raise ValueError("no byte order mark")
    order: Order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version not in (42, 43):
        raise ValueError(f"version {version}")
    big = version == 43  # BigTIFF, with 64-bit offsets
    (offset,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    return _read(data, offset, order, big, (EXIF_DIRECTORY, GPS_DIRECTORY))


def _read(data: bytes, offset: int, order: Order, big: bool, pointers: tuple[int, ...]) -> Directory:
    """Return the directory at `offset`, with the directories that the tags `pointers` point to."""
    length, inline_size, head, pointer = (20, 8, "HHQ", "Q") if big else (12, 4, "HHI", "I")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, offset)
    offset += 8 if big else 2
    if count * length > len(data):
        raise ValueError("more fields than bytes")
    directory = Directory(order)
    for start in range(offset, offset + count * length, length):
        tag, kind, number = struct.unpack_from(order + head, data, start)
        size = _SIZES.get(kind, 0) * number
        position = start + length - inline_size
        if size > inline_size:
            (position,) = struct.unpack_from(order + pointer, data, position)
        if position + size > len(data):
            directory.dangling.add(tag)
            continue
        if size == 0 or tag in directory.fields:
            continue  # unknown type, or a repeated tag
        value = data[position : position + size]
        if tag in pointers:
            # Each kind of directory is followed only from its parent, so that cyclic pointers cannot loop.
            (target,) = struct.unpack_from(order + ("Q" if size == 8 else "I"), value)
            inner = (INTEROPERABILITY_DIRECTORY,) if tag == EXIF_DIRECTORY else ()
            try:
                directory.fields[tag] = Field(LONG, 1, b"", _read(data, target, order, big, inner))
            except (struct.error, ValueError):
                directory.dangling.add(tag)
        elif tag not in _POINTERS:
            directory.fields[tag] = Field(kind, number, value)
    return directory


def write_directory(directory: Directory, offset: int) -> bytes:
    """Return the bytes of a directory at ``offset`` (even) of a classic TIFF file or EXIF block."""
    order, tags = directory.order, sorted(directory.fields)
    head = struct.pack(order + "H", len(tags))
    values = bytearray()  # values of more than 4 bytes follow the directory
    for tag in tags:
        found = directory.fields[tag]
        position = offset + 2 + 12 * len(tags) + 4 + len(values)
        value = found.value if found.directory is None else write_directory(found.directory, position)
        if len(value) > 4:
            values += value + b"\0" * (len(value) % 2)  # TIFF requires even offsets
            value = struct.pack(order + "I", position)
        head += struct.pack(order + "HHI", tag, found.kind, found.count) + value.ljust(4, b"\0")
    return head + b"\0\0\0\0" + bytes(values)


def header(order: Order) -> bytes:
    """Return the 8-byte header of a classic TIFF file or EXIF block, for a first directory directly after it."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)


def patch(block: bytes, numbers: dict[int, int], unlink_next: bool = False) -> bytes:
    """Return an EXIF block (without `EXIF_PREFIX`) with integers of existing fields replaced in place.

    `numbers` are the new values by tag, for the first directory and the EXIF directory. `unlink_next` removes the first
    directory's link to the second one, the thumbnail. Raises struct.error if the block is damaged.
    """
    data = bytearray(block)
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    offsets = [first]
    while offsets:
        offset = offsets.pop()
        (count,) = struct.unpack_from(order + "H", data, offset)
        for start in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHII", data, start)
            if tag == EXIF_DIRECTORY and offset == first and value != first:
                offsets.append(value)
            elif tag in numbers and kind in (SHORT, LONG) and number == 1:
                struct.pack_into(order + "HHII", data, start, tag, LONG, 1, numbers[tag])
        if offset == first and unlink_next:
            struct.pack_into(order + "I", data, offset + 2 + 12 * count, 0)
    return bytes(data)


# The fields of a TIFF file that describe the photograph, and not the storage of its pixels
_DESCRIPTIVE_NAMES = """ImageDescription Make Model XResolution YResolution ResolutionUnit Software DateTime Artist
    HostComputer Rating RatingPercent Copyright ExifOffset GPSInfo XPTitle XPComment XPAuthor XPKeywords XPSubject"""
_DESCRIPTIVE_TAGS = frozenset(ExifTags.Base[name] for name in _DESCRIPTIVE_NAMES.split())


def exif_orientation(picture: Image.Image) -> int | None:
    """Return the orientation in a picture's EXIF block; None if it is missing, damaged, or not an integer."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
        return orientation if isinstance(orientation, int) else None
    except Exception:  # noqa: BLE001 - Pillow raises many types for damaged blocks
        return None


def upright_exif(picture: Image.Image) -> bytes | None:
    """Return a picture's EXIF block with upright orientation and without thumbnail; None if missing or damaged."""
    try:
        block = picture.info.get("exif")
        if not block:
            exif = picture.getexif()  # also decodes other forms, such as the hexadecimal text of ImageMagick
            block = exif.tobytes() if len(exif) else b""
        block = bytes(block).removeprefix(EXIF_PREFIX)
        read_directory(block)  # raises if it is damaged
        return EXIF_PREFIX + patch(block, {ORIENTATION_TAG: 1}, unlink_next=True)
    except Exception:  # noqa: BLE001 - Pillow raises many types for damaged blocks
        return None


def exif_of_tiff(directory: Directory) -> bytes | None:
    """Return an EXIF block with a TIFF file's fields that describe the photograph; None if there are none."""
    kept = descriptive_fields(directory)
    return EXIF_PREFIX + header(kept.order) + write_directory(kept, 8) if kept.fields else None


def descriptive_fields(directory: Directory) -> Directory:
    """Return the fields that describe the photograph, and not the storage of its pixels."""
    kept = {tag: found for tag, found in directory.fields.items() if tag in _DESCRIPTIVE_TAGS}
    title = kept.get(ExifTags.Base.ImageDescription)
    # Scientific programs store the shape of the array here, which is wrong for the result.
    if title is not None and title.value.startswith((b'{"shape"', b"ImageJ=", b"<?xml", b"<OME")):
        del kept[ExifTags.Base.ImageDescription]
    return Directory(directory.order, kept)


def exif_with_size(block: bytes, size: tuple[int, int]) -> bytes:
    """Return an EXIF block with its width and height, if it has them, set to `size`."""
    tags = ExifTags.Base
    sides = {tags.ImageWidth: 0, tags.ExifImageWidth: 0, tags.ImageLength: 1, tags.ExifImageHeight: 1}
    return EXIF_PREFIX + patch(block.removeprefix(EXIF_PREFIX), {int(tag): size[side] for tag, side in sides.items()})


def upright_xmp(packet: object) -> bytes | None:
    """Return an XMP packet with upright orientation; None if `packet` is empty or not text."""
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or not packet.strip(b"\0 "):
        return None
    return _replace_number(packet, "tiff:Orientation", 1)


def xmp_with_size(packet: bytes, size: tuple[int, int]) -> bytes:
    """Return an XMP packet with its width and height, if it has them, set to `size`."""
    packet = _replace_number(packet, "(?:tiff|exif):(?:ImageWidth|PixelXDimension)", size[0])
    return _replace_number(packet, "(?:tiff|exif):(?:ImageLength|PixelYDimension)", size[1])


def _replace_number(packet: bytes, name: str, number: int) -> bytes:
    """Replace the integer value of an attribute or an element."""
    pattern = rf"""(\b{name}\s*=\s*["']|<{name}>\s*)\d+""".encode()
    return re.sub(pattern, rb"\g<1>" + str(number).encode(), packet)
