"""XMP packets: kept byte by byte, except for what a restoration makes untrue.

Orientation, sizes and places in pixels are updated. Properties that describe parts of the file which are not kept, such
as a gain map or a video, are removed. An XML parser finds the properties; the packet is not written anew, because that
would change prefixes, white space and the order of properties.
"""

import re
from collections import ChainMap
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple
from xml.parsers import expat

from blinddiff.imaging.metadata import as_rational, transposes, upright_point

_GOOGLE = "http://ns.google.com/photos/"
_PREFIXES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xmp/note/": "xmpNote",
    "http://ns.adobe.com/xap/1.0/sType/Dimensions#": "stDim",
    "http://ns.adobe.com/xmp/sType/Area#": "stArea",
    "http://ns.adobe.com/hdr-gain-map/1.0/": "hdrgm",
    "http://ns.apple.com/HDRGainMap/1.0/": "HDRGainMap",
    _GOOGLE + "1.0/camera/": "GCamera",
    _GOOGLE + "1.0/panorama/": "GPano",
    _GOOGLE + "1.0/container/": "Container",
    _GOOGLE + "1.0/container/item/": "Item",
    _GOOGLE + "1.0/depthmap/": "GDepth",
    _GOOGLE + "1.0/image/": "GImage",
    _GOOGLE + "1.0/audio/": "GAudio",
}
"""The usual prefix of each namespace; packets may use others."""
_PARTS = {  # properties by the part of the file that they describe; an empty name stands for a duplicate in the packet
    "HDR gain map": r"hdrgm:|HDRGainMap:",
    "video": r"GCamera:(Motion|Micro)",
    "depth map": r"GDepth:",
    "sound": r"GAudio:",
    "second image": r"GImage:",
    "extended XMP": r"xmpNote:HasExtendedXMP$",
    "": r"xmp:Thumbnails$|Container:|Item:",
}
_ITEMS = {"GainMap": "HDR gain map", "MotionPhoto": "video"}  # by the semantic of an item of the Container directory
_MAX_DEPTH = 100
_ATTRIBUTE = re.compile(rb"""\s+([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


class Property(NamedTuple):
    """An attribute or element. Spans are positions in the packet; ``owner`` is that of the element it belongs to."""

    name: str  # with the usual prefix
    parents: tuple[str, ...]
    owner: int
    span: tuple[int, int]
    value_span: tuple[int, int]  # without white space around
    value: str


class _Element(NamedTuple):
    """An open element: the names from the outermost one to its own, and where it and its contents start."""

    path: tuple[str, ...]
    start: int
    inside: int
    empty: bool


def properties(packet: bytes) -> list[Property]:
    """Return the properties of a packet. Raises ValueError or expat.ExpatError if it is not well-formed."""
    found: list[Property] = []
    scopes = [ChainMap[str, str]()]  # namespace by prefix
    opened: list[_Element] = []
    parser = expat.ParserCreate("UTF-8")

    def full_name(name: str) -> str:
        prefix, _, local = name.rpartition(":")
        uri = scopes[-1].get(prefix)
        return f"{prefix if uri is None else _PREFIXES.get(uri, uri)}:{local}"

    def add(name: str, span: tuple[int, int], start: int, end: int) -> None:
        value = packet[start:end]
        start += len(value) - len(value.lstrip())
        text = value.strip()
        path, owner = (opened[-1].path, opened[-1].start) if opened else ((), -1)
        found.append(Property(name, path, owner, span, (start, start + len(text)), text.decode()))

    def begin(name: str, attributes: dict[str, str]) -> None:
        if len(opened) == _MAX_DEPTH:
            raise ValueError("too many levels")
        spaces = {key[6:]: value for key, value in attributes.items() if key.startswith("xmlns:")}
        scopes.append(scopes[-1].new_child(spaces) if spaces else scopes[-1])
        path = (*opened[-1].path, full_name(name)) if opened else (full_name(name),)
        start = parser.CurrentByteIndex
        at = start + 1 + len(name.encode())
        opened.append(_Element(path, start, 0, False))
        while match := _ATTRIBUTE.match(packet, at):
            at = match.end()
            if not match[1].startswith(b"xmlns"):
                add(full_name(match[1].decode()), match.span(), *match.span(2 if match[2] is not None else 3))
        inside = packet.index(b">", at) + 1
        opened[-1] = _Element(path, start, inside, packet[inside - 2 : inside] == b"/>")

    def finish(_name: str) -> None:
        element = opened.pop()
        close = element.inside if element.empty else parser.CurrentByteIndex
        end = close if element.empty else packet.index(b">", close) + 1
        add(element.path[-1], (element.start, end), element.inside, close)
        scopes.pop()

    def refuse(*_: object) -> None:
        raise ValueError("a document type declaration")

    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, finish, refuse
    parser.Parse(packet.rstrip(b"\0 \r\n\t"), True)
    return found


def _edited(packet: bytes, found: list[Property], change: Callable[[Property], str | None]) -> bytes:
    """Return a packet with the value of each property replaced by that of ``change``; None removes the property."""
    parts, copied = [], 0
    for entry in sorted(found, key=lambda entry: (entry.span[0], -entry.span[1])):
        value = change(entry)
        start, end = entry.span if value is None else entry.value_span
        if value != entry.value and start >= copied:  # others are inside a removed element
            parts += [packet[copied:start], b"" if value is None else value.encode()]
            copied = end
    return b"".join([*parts, packet[copied:]])


def _part_of(entry: Property) -> str | None:
    """The part of the file that a property describes, a key of `_PARTS`; None for the photograph."""
    return next((part for part, pattern in _PARTS.items() if re.match(pattern, entry.name)), None)


def parts_described(found: list[Property]) -> list[str]:
    """Return the parts of a file, such as "video", that the properties describe besides the photograph."""
    named = {_part_of(entry) for entry in found if entry.value != "0"}
    named |= {_ITEMS.get(entry.value) for entry in found if entry.name == "Item:Semantic"}
    return [part for part in _PARTS if part and part in named]


def item_lengths(found: list[Property]) -> list[tuple[str, int]]:
    """Return semantic and length in bytes of each item of the Container directory, which follow one another."""
    items: dict[int, dict[str, str]] = {}
    for entry in found:
        if entry.name.startswith("Item:"):
            items.setdefault(entry.owner, {})[entry.name[5:]] = entry.value
    lengths = ((item.get("Semantic", ""), item.get("Length", "")) for item in items.values())
    return [(semantic, int(length) if length.isdecimal() else 0) for semantic, length in lengths]


def upright_xmp(packet: bytes, found: list[Property], orientation: int | None) -> bytes:
    """Return a packet with upright orientation, without what describes other parts of the file."""
    values = {(entry.owner, entry.name): entry.value for entry in found}

    def change(entry: Property) -> str | None:
        if _part_of(entry) is not None:
            return None
        if entry.name == "tiff:Orientation":
            return "1"
        kind, _, local = entry.name.rpartition(":")
        other = values.get((entry.owner, f"{kind}:{'h' if local == 'w' else 'w'}"))
        if _counts_pixels(entry) and local in ("w", "h") and other is not None and transposes(orientation):
            return other
        if kind == "stArea" and values.get((entry.owner, "stArea:unit")) == "normalized":  # x and y are the centre
            try:
                x, y = (float(values[entry.owner, f"stArea:{side}"]) for side in "xy")
            except (KeyError, ValueError):
                return entry.value
            if local in ("x", "y") and orientation in range(2, 9):
                return f"{upright_point(x, y, orientation, (1, 1))[local == 'y']:.6g}"
            if local in ("w", "h") and other is not None and transposes(orientation):
                return other
        return entry.value

    return _edited(packet, found, change)


def xmp_with_size(
    packet: bytes,
    size: tuple[int, int],
    factors: tuple[float, float] = (1, 1),
    dpi_factors: tuple[float, float] = (1, 1),
) -> bytes:
    """Return a packet with its width and height, if it has them, set to `size`; otherwise as `exif_with_size`."""

    def change(entry: Property) -> str:
        if re.fullmatch(r"(tiff|exif):(ImageWidth|PixelXDimension)", entry.name):
            return str(size[0])
        if re.fullmatch(r"(tiff|exif):(ImageLength|PixelYDimension)", entry.name):
            return str(size[1])
        if match := re.fullmatch(r"(?:tiff:|exif:FocalPlane)([XY])Resolution", entry.name):
            by = dpi_factors if entry.name.startswith("tiff") else factors
            return _multiplied(entry.value, by[match[1] == "Y"])
        if match := re.fullmatch(r"GPano:(?:FullPano|CroppedArea|LargestValid).*(Width|Left|Height|Top).*", entry.name):
            return _multiplied(entry.value, factors[match[1] in ("Height", "Top")])
        if _counts_pixels(entry):
            return _multiplied(entry.value, factors[entry.name[-1] in "hy"])
        return entry.value

    return _edited(packet, properties(packet), change)


def _counts_pixels(entry: Property) -> bool:
    """Whether a property is a side of AppliedToDimensions, to which regions (of faces, for example) refer."""
    return entry.name in ("stDim:w", "stDim:h") and any(name.endswith(":AppliedToDimensions") for name in entry.parents)


def _multiplied(number: str, factor: float) -> str:
    """A whole number, fraction such as 720000/10000, or decimal, multiplied; other text is returned unchanged."""
    try:
        value = Fraction(number) * Fraction(factor)
    except (ValueError, ZeroDivisionError):
        return number
    if "/" in number:
        return "{}/{}".format(*as_rational(value))
    return str(round(value)) if number.isdecimal() else f"{float(value):.6g}"
