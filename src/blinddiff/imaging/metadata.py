"""What a file says of its photograph: EXIF and XMP, kept as they are but for orientation and size."""

import re
import struct
from dataclasses import dataclass, field
from typing import Literal

from PIL import ExifTags, Image

EXIF_DIRECTORY = 0x8769
GPS_DIRECTORY = 0x8825
INTEROPERABILITY_DIRECTORY = 0xA005
_POINTERS = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


Order = Literal["<", ">"]


@dataclass
class Field:
    """One field: ``count`` values of type ``kind`` as bytes in the file's order; or the directory it points to."""

    kind: int
    count: int
    value: bytes
    directory: "Directory | None" = None


@dataclass
class Directory:
    """Fields by tag.

    Attributes:
        order: of the bytes in every value: ``"<"`` or ``">"``.
        fields: the fields.
        dangling: tags of fields whose values would stand outside of the file, or that point to no directory.
    """

    order: Order
    fields: dict[int, Field] = field(default_factory=dict)
    dangling: set[int] = field(default_factory=set)

    def number(self, tag: int) -> int | None:
        """Return the value of a field that holds one whole number, else None."""
        found = self.fields.get(tag)
        if found is None or found.count != 1 or found.kind not in (SHORT, LONG):
            return None
        return int(struct.unpack(self.order + ("H" if found.kind == SHORT else "I"), found.value)[0])

    def put(self, tag: int, kind: int, *values: int) -> None:
        """Set a field of whole numbers."""
        letter = {BYTE: "B", SHORT: "H", LONG: "I"}[kind]
        self.fields[tag] = Field(kind, len(values), struct.pack(f"{self.order}{len(values)}{letter}", *values))


def read_directory(data: bytes | memoryview) -> Directory:
    """Return the first directory of a TIFF file or EXIF block, with those that it points to.

    Raises:
        ValueError, struct.error: this is no such file, or a damaged one.
    """
    if bytes(data[:2]) not in (b"II", b"MM"):
        raise ValueError("no byte order mark")
    order: Order = "<" if data[:2] == b"II" else ">"
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version not in (42, 43):
        raise ValueError(f"version {version}")
    big = version == 43
    (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    return _read(data, place, order, big, (EXIF_DIRECTORY, GPS_DIRECTORY))


def _read(data: bytes | memoryview, place: int, order: Order, big: bool, pointers: tuple[int, ...]) -> Directory:
    length, room, head = (20, 8, "HHQ") if big else (12, 4, "HHI")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    place += 8 if big else 2
    if count * length > len(data):
        raise ValueError("more fields than bytes")
    directory = Directory(order)
    for start in range(place, place + count * length, length):
        tag, kind, number = struct.unpack_from(order + head, data, start)
        size = _SIZES.get(kind, 0) * number
        where = start + length - room
        if size > room:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
        if where + size > len(data):
            directory.dangling.add(tag)
            continue
        if size == 0 or tag in directory.fields:
            continue  # of an unknown type, or said twice
        value = bytes(data[where : where + size])
        if tag in pointers:
            # Only downwards, and each kind once: a directory that points to itself ends here.
            (below,) = struct.unpack_from(order + ("Q" if size == 8 else "I"), value)
            deeper = (INTEROPERABILITY_DIRECTORY,) if tag == EXIF_DIRECTORY else ()
            try:
                directory.fields[tag] = Field(LONG, 1, b"", _read(data, below, order, big, deeper))
            except (struct.error, ValueError):
                directory.dangling.add(tag)
        elif tag not in _POINTERS:
            directory.fields[tag] = Field(kind, number, value)
    return directory


def write_directory(directory: Directory, place: int) -> bytes:
    """Return the bytes of a directory that will stand at ``place`` (even) of a classic TIFF file or EXIF block."""
    order, tags = directory.order, sorted(directory.fields)
    head = struct.pack(order + "H", len(tags))
    behind = bytearray()
    beyond = place + 2 + 12 * len(tags) + 4
    for tag in tags:
        found = directory.fields[tag]
        here = beyond + len(behind)
        if found.directory is not None:
            behind += write_directory(found.directory, here)
            value = struct.pack(order + "I", here)
        elif len(found.value) <= 4:
            value = found.value.ljust(4, b"\0")
        else:
            behind += found.value + b"\0" * (len(found.value) % 2)  # every value at an even place
            value = struct.pack(order + "I", here)
        head += struct.pack(order + "HHI", tag, found.kind, found.count) + value
    return head + b"\0\0\0\0" + bytes(behind)


def header(order: Order, first_directory: int = 8) -> bytes:
    """Return the first 8 bytes of a classic TIFF file or EXIF block."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, first_directory)


def patch(block: bytes, numbers: dict[int, int], unlink_next: bool = False) -> bytes:
    """Return an EXIF block with whole numbers, where it has fields for them, replaced; nothing else moves.

    Notes of camera makers point to absolute places: rewriting the block would break them.

    Args:
        block: a TIFF header and what follows.
        numbers: new values by tag, for the first directory and the EXIF directory.
        unlink_next: cut off what follows the first directory: the thumbnail.

    Raises:
        ValueError, struct.error: the block is damaged.
    """
    data = bytearray(block)
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack_from(order + "I", data, 4)
    places = [first]
    while places:
        place = places.pop()
        (count,) = struct.unpack_from(order + "H", data, place)
        for start in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind, number, value = struct.unpack_from(order + "HHII", data, start)
            if tag == EXIF_DIRECTORY and place == first and value != first:
                places.append(value)
            elif tag in numbers and kind in (SHORT, LONG) and number == 1:
                struct.pack_into(order + "HHII", data, start, tag, LONG, 1, numbers[tag])
        if place == first and unlink_next:
            struct.pack_into(order + "I", data, place + 2 + 12 * count, 0)
    return bytes(data)


EXIF_MARK = b"Exif\0\0"
XMP_TAG, ICC_TAG, ORIENTATION_TAG = 700, 34675, 274  # of a TIFF file
_UPRIGHT = 1
_WIDTHS = (ExifTags.Base.ImageWidth, ExifTags.Base.ExifImageWidth)
_HEIGHTS = (ExifTags.Base.ImageLength, ExifTags.Base.ExifImageHeight)

# A TIFF's EXIF block is the file's whole directory: these describe the photograph, the rest the storing of pixels.
DESCRIPTIVE_TAGS = frozenset(
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
        ExifTags.Base.HostComputer,
        ExifTags.Base.Rating,
        ExifTags.Base.RatingPercent,
        ExifTags.Base.Copyright,
        ExifTags.Base.ExifOffset,
        ExifTags.Base.GPSInfo,
        ExifTags.Base.XPTitle,
        ExifTags.Base.XPComment,
        ExifTags.Base.XPAuthor,
        ExifTags.Base.XPKeywords,
        ExifTags.Base.XPSubject,
    }
)


def exif_orientation(picture: Image.Image) -> object:
    """Return the orientation that a picture's EXIF block states, of whatever type; None if none can be read.

    As for `upright_exif`, a damaged block must not cost the photograph.
    """
    try:
        return picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - Pillow's reader fails in any way
        return None


def upright_exif(picture: Image.Image) -> bytes | None:
    """Return the EXIF block of a picture that is not a TIFF, its orientation set to upright, without its thumbnail.

    None if there is none, or if it cannot be read: a damaged block, however it fails, must not cost the photograph.
    """
    try:
        block = picture.info.get("exif")
        if not block:
            exif = picture.getexif()  # such as the hexadecimal text of ImageMagick's PNG files
            block = exif.tobytes() if len(exif) else b""
        block = bytes(block).removeprefix(EXIF_MARK)
        if not block:
            return None
        read_directory(block)
        return EXIF_MARK + patch(block, {int(ExifTags.Base.Orientation): _UPRIGHT}, unlink_next=True)
    except Exception:  # noqa: BLE001 - Pillow's reader fails in any way
        return None


# What ImageDescription holds where it describes an array, of another shape than the result's.
_STRUCTURAL_DESCRIPTIONS = (b'{"shape"', b"ImageJ=", b"<?xml", b"<OME")


def exif_of_tiff(data: bytes) -> bytes | None:
    """Return what a TIFF file says of its photograph as an EXIF block; None if nothing, or if it is damaged."""
    try:
        directory = descriptive(read_directory(data))
    except (ValueError, struct.error):
        return None
    return EXIF_MARK + header(directory.order) + write_directory(directory, 8) if directory.fields else None


def descriptive(directory: Directory) -> Directory:
    """Return the directory without the fields that tell how pixels are stored."""
    kept = {tag: found for tag, found in directory.fields.items() if tag in DESCRIPTIVE_TAGS}
    title = kept.get(ExifTags.Base.ImageDescription)
    if title is not None and title.value.startswith(_STRUCTURAL_DESCRIPTIONS):
        del kept[ExifTags.Base.ImageDescription]
    return Directory(directory.order, kept)


def exif_of_size(block: bytes, size: tuple[int, int]) -> bytes:
    """Return an EXIF block with the width and height it states, if it does, replaced."""
    width, height = size
    numbers: dict[int, int] = {**dict.fromkeys(_WIDTHS, width), **dict.fromkeys(_HEIGHTS, height)}
    return EXIF_MARK + patch(block.removeprefix(EXIF_MARK), numbers)


def upright_xmp(packet: object) -> bytes | None:
    """Return an XMP packet with its orientation set to upright; None if there is none."""
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or not packet.strip(b"\0 "):
        return None
    return _replaced(packet, "tiff:Orientation", _UPRIGHT)


def xmp_of_size(packet: bytes, size: tuple[int, int]) -> bytes:
    """Return an XMP packet with the width and height it states, if it does, replaced."""
    for names, side in zip((("ImageWidth", "PixelXDimension"), ("ImageLength", "PixelYDimension")), size, strict=True):
        for name in names:
            packet = _replaced(packet, f"(?:tiff|exif):{name}", side)
    return packet


def _replaced(packet: bytes, name: str, number: int) -> bytes:
    """Replace a number that stands as an attribute or as an element."""
    pattern = rf"""(\b{name}\s*=\s*["']|<{name}>\s*)\d+""".encode()
    return re.sub(pattern, rb"\g<1>" + str(number).encode(), packet)
