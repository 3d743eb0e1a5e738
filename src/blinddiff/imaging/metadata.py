"""EXIF metadata: kept unchanged, except for orientation, thumbnail, and what counts pixels.

An EXIF block is a small TIFF file: directories of fields, as in TIFF 6.0. Blocks are patched in place, because
MakerNotes contain absolute offsets; only the fields of TIFF files are written to a new block.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Literal, TypeVar

from PIL import ExifTags, Image

EXIF_PREFIX = b"Exif\0\0"
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
XMP_TAG, ICC_TAG, ORIENTATION_TAG = 700, 34675, 274
_POINTERS = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
IPTC_TAG = 33723
ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7  # types of values; `_SIZES` has their sizes in bytes
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

Order = Literal["<", ">"]  # byte order, as in `struct`
Number = TypeVar("Number", float, Fraction)


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

    def fraction(self, tag: int) -> Fraction | None:
        """Return the value of a field that holds one fraction, else None."""
        found = self.fields.get(tag)
        if found is None or found.count != 1 or found.kind != RATIONAL:
            return None
        over, under = struct.unpack(self.order + "II", found.value)
        return Fraction(over, under) if under else None

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


def patch(block: bytes, change: Callable[[int, list[Fraction]], Sequence[Fraction | int]]) -> bytes:
    """Return an EXIF block (without `EXIF_PREFIX`) with numbers of existing fields replaced in place.

    ``change`` gets tag and values of each field of one to four integers or fractions in the first directory and the
    EXIF directory, and returns as many values. The link to the second directory, the thumbnail, is removed. Raises
    struct.error if the block is damaged.
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
            size = _SIZES.get(kind, 0) * number
            at = start + 8 if size <= 4 else value
            if kind not in (SHORT, LONG, RATIONAL) or not 1 <= number <= 4 or at + size > len(data):
                continue
            layout = f"{order}{number * (1 + (kind == RATIONAL))}{'H' if kind == SHORT else 'I'}"
            stored = struct.unpack_from(layout, data, at)
            pairs = list(zip(stored[::2], stored[1::2], strict=True)) if kind == RATIONAL else [(n, 1) for n in stored]
            if any(under == 0 for _, under in pairs):  # unknown
                continue
            before = [Fraction(*pair) for pair in pairs]
            after = change(tag, before)
            if list(after) == before:
                continue
            if kind == RATIONAL:
                struct.pack_into(layout, data, at, *(n for new in after for n in as_rational(new)))
            elif number == 1:  # widened to 32 bits
                struct.pack_into(order + "HHII", data, start, tag, LONG, 1, round(after[0]))
            else:
                limit = 0xFFFF if kind == SHORT else 0xFFFFFFFF
                struct.pack_into(layout, data, at, *(min(max(round(new), 0), limit) for new in after))
        if offset == first:
            struct.pack_into(order + "I", data, offset + 2 + 12 * count, 0)
    return bytes(data)


def as_rational(number: Fraction | float) -> tuple[int, int]:
    """Return numerator and denominator of 32 bits of a number from 0 to 2^32 - 1."""
    value = Fraction(number).limit_denominator(10_000)
    if value.numerator >= 2**32:
        value = Fraction(min(round(value), 2**32 - 1))
    return value.numerator, value.denominator


def with_fields(block: bytes | None, added: Directory) -> bytes:
    """Return an EXIF block with fields set in its first directory, or a new block if it is None.

    The directory moves to the end of the block, and its values stay, because MakerNotes contain absolute offsets.
    ``added`` has the byte order of the block.
    """
    data = header(added.order) + bytes(6) if block is None else block.removeprefix(EXIF_PREFIX)
    data += b"\0" * (len(data) % 2)
    (first,) = struct.unpack_from(added.order + "I", data, 4)
    (count,) = struct.unpack_from(added.order + "H", data, first)
    entries = [data[start : start + 12] for start in range(first + 2, first + 2 + 12 * count, 12)]
    values = bytearray()
    for tag, found in added.fields.items():
        entries = [entry for entry in entries if struct.unpack_from(added.order + "H", entry) != (tag,)]
        value = found.value.ljust(4, b"\0")
        if len(value) > 4:
            at = struct.pack(added.order + "I", len(data) + len(values))
            values += value + b"\0" * (len(value) % 2)
            value = at
        entries.append(struct.pack(added.order + "HHI", tag, found.kind, found.count) + value)
    entries.sort(key=lambda entry: struct.unpack_from(added.order + "H", entry))
    start = struct.pack(added.order + "I", len(data) + len(values))
    directory = struct.pack(added.order + "H", len(entries)) + b"".join(entries) + bytes(4)
    return EXIF_PREFIX + data[:4] + start + data[8:] + values + directory


# The fields of a TIFF file that describe the photograph, and not the storage of its pixels
_DESCRIPTIVE_NAMES = """ImageDescription Make Model XResolution YResolution ResolutionUnit Software DateTime Artist
    HostComputer Rating RatingPercent Copyright ExifOffset GPSInfo XPTitle XPComment XPAuthor XPKeywords XPSubject"""
_SIDES: dict[int, int] = {ExifTags.Base.ImageWidth: 0, ExifTags.Base.ExifImageWidth: 0}  # to the index of the side
_SIDES |= {ExifTags.Base.ImageLength: 1, ExifTags.Base.ExifImageHeight: 1}
_RESOLUTIONS: dict[int, int] = {ExifTags.Base.XResolution: 0, ExifTags.Base.YResolution: 1}
_RESOLUTION_UNIT = ExifTags.Base.ResolutionUnit
_DENSITIES: dict[int, int] = {ExifTags.Base.FocalPlaneXResolution: 0, ExifTags.Base.FocalPlaneYResolution: 1}
_PLACES = (0x9214, ExifTags.Base.SubjectLocation)  # of the subject: x, y; x, y, diameter; or x, y, width, height
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
        directory = read_directory(block)  # raises if it is damaged
        return EXIF_PREFIX + patch(block, partial(_upright_field, directory, picture.size))
    except Exception:  # noqa: BLE001 - Pillow raises many types for damaged blocks
        return None


def _upright_field(
    before: Directory, size: tuple[int, int], tag: int, values: list[Fraction]
) -> Sequence[Fraction | int]:
    """The values of an EXIF field after the orientation is applied to a picture of a size (width, height)."""
    orientation = before.number(ORIENTATION_TAG)
    if tag == ORIENTATION_TAG and len(values) == 1:
        return [1]
    if tag in _PLACES and len(values) >= 2:
        x, y = upright_point(values[0], values[1], orientation, size)
        return [x, y, *(values[:1:-1] if transposes(orientation) else values[2:])]
    if tag in _RESOLUTIONS and transposes(orientation):
        other = before.fraction(sum(_RESOLUTIONS) - tag)
        return values if other is None else [other]
    return values


def transposes(orientation: int | None) -> bool:
    """Whether an EXIF orientation exchanges width and height."""
    return orientation in (5, 6, 7, 8)


def upright_point(x: Number, y: Number, orientation: int | None, size: tuple[int, int]) -> tuple[Number, Number]:
    """Return where a point of a stored image of a size (width, height) lies after its EXIF orientation is applied."""
    width, height = size
    if transposes(orientation):
        x, y, width, height = y, x, height, width
    if orientation in (3, 4, 7, 8):
        y = height - y
    return (width - x if orientation in (2, 3, 6, 7) else x), y


def exif_of_tiff(directory: Directory) -> bytes | None:
    """Return an EXIF block with a TIFF file's fields that describe the photograph; None if there are none."""
    kept = descriptive_fields(directory)
    x, y = (kept.fields.pop(tag, None) for tag in _RESOLUTIONS)
    for tag, found in zip(
        _RESOLUTIONS, (y, x) if transposes(directory.number(ORIENTATION_TAG)) else (x, y), strict=True
    ):
        if found is not None:
            kept.fields[tag] = found
    return EXIF_PREFIX + header(kept.order) + write_directory(kept, 8) if kept.fields else None


def descriptive_fields(directory: Directory) -> Directory:
    """Return the fields that describe the photograph, and not the storage of its pixels."""
    kept = {tag: found for tag, found in directory.fields.items() if tag in _DESCRIPTIVE_TAGS}
    title = kept.get(ExifTags.Base.ImageDescription)
    # Scientific programs store the shape of the array here, which is wrong for the result.
    if title is not None and title.value.startswith((b'{"shape"', b"ImageJ=", b"<?xml", b"<OME")):
        del kept[ExifTags.Base.ImageDescription]
    return Directory(directory.order, kept)


def exif_with_size(
    block: bytes,
    size: tuple[int, int],
    factors: tuple[float, float] = (1, 1),
    dpi_factors: tuple[float, float] = (1, 1),
) -> bytes:
    """Return an EXIF block with its width and height, if it has them, set to `size`.

    Other numbers of pixels are multiplied by ``factors`` (x, y), the enlargement, and pixels per inch by
    ``dpi_factors``.
    """

    def change(tag: int, values: list[Fraction]) -> Sequence[Fraction | int]:
        if tag in _SIDES and len(values) == 1:
            return [size[_SIDES[tag]]]
        if tag in _PLACES:
            return [value * Fraction(factors[index % 2]) for index, value in enumerate(values)]
        by = dpi_factors if tag in _RESOLUTIONS else factors if tag in _DENSITIES else None
        return values if by is None else [value * Fraction(by[(_RESOLUTIONS | _DENSITIES)[tag]]) for value in values]

    return EXIF_PREFIX + patch(block.removeprefix(EXIF_PREFIX), change)


def exif_dpi(block: bytes) -> tuple[float, float] | None:
    """Return the pixels per inch (x, y) of an EXIF block; None if it has none."""
    directory = read_directory(block)
    x, y = (directory.fraction(tag) for tag in _RESOLUTIONS)
    unit = {2: 1.0, 3: 2.54}.get(directory.number(_RESOLUTION_UNIT) or 2)
    return None if x is None or y is None or unit is None else (float(x) * unit, float(y) * unit)


def describe_in_exif(block: bytes | None, dpi: tuple[float, float] | None, text: str) -> bytes | None:
    """Return an EXIF block with pixels per inch and a description, each only where the block has none."""
    directory = Directory("<") if block is None else read_directory(block)
    added = Directory(directory.order)
    if dpi is not None and not any(tag in directory.fields for tag in _RESOLUTIONS):
        for tag, number in zip(_RESOLUTIONS, dpi, strict=True):
            value = struct.pack(added.order + "II", *as_rational(number))
            added.fields[tag] = Field(RATIONAL, 1, value)
        added.put(_RESOLUTION_UNIT, SHORT, 2)
    if text and not exif_description(block):
        value = text.encode() + b"\0"
        added.fields[ExifTags.Base.ImageDescription] = Field(ASCII, len(value), value)
    return with_fields(block, added) if added.fields else block


def exif_description(block: bytes | None) -> str:
    """Return the description in an EXIF block; empty if it has none."""
    value = None if block is None else read_directory(block).value(ExifTags.Base.ImageDescription)
    return "" if value is None else decoded_text(value)


def decoded_text(data: bytes) -> str:
    """Return text whose encoding is not declared: UTF-8, or else Latin-1."""
    try:
        return data.strip(b"\0 ").decode()
    except UnicodeDecodeError:
        return data.strip(b"\0 ").decode("latin-1")
