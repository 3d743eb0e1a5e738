"""The gain map of an Ultra HDR JPEG file: a second JPEG behind the photograph, by which HDR screens brighten it.

The map stays as it is, because it may have any size. What refers to it is written anew: the Container directory in XMP
(Ultra HDR Image Format 1.1, Android), and the index of images (CIPA DC-007, Multi-Picture Format).
"""

import io
import struct

from PIL import Image

from blinddiff.imaging.metadata import LONG, UNDEFINED, Directory, Field, header, read_directory, write_directory
from blinddiff.imaging.photograph import open_picture, picture_array, picture_of, upright_array
from blinddiff.imaging.words import APP2, segment
from blinddiff.imaging.xmp import Property, item_lengths, properties

_HDRGM = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_ISO = b"urn:iso:std:iso:ts:21496:-1\0"
_VERSION, _NUMBER, _ENTRIES = 0xB000, 0xB001, 0xB002  # tags of the index
_PRIMARY = 0x30000  # attribute: the representative image
_DIRECTORY = b"""<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" rdf:about="" \
xmlns:hdrgm="%s" hdrgm:Version="1.0" \
xmlns:Container="http://ns.google.com/photos/1.0/container/" \
xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><Container:Directory><rdf:Seq>\
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>\
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="%d"/>\
</rdf:li></rdf:Seq></Container:Directory></rdf:Description>"""
_EMPTY = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
</rdf:RDF></x:xmpmeta>"""


def other_images(data: bytes, picture: Image.Image) -> list[tuple[int, int]]:
    """Return start and end of each image that the index of a JPEG file lists, without the first and its thumbnails."""
    index = picture.info.get("mp")
    if not index:
        return []
    try:
        directory, base = read_directory(index), data.index(b"MPF\0" + index) + 4
        entries = list(struct.iter_unpack(directory.order + "IIIHH", directory.value(_ENTRIES) or b""))
    except (ValueError, struct.error):
        return []
    thumbnails = 0x10000
    return [
        (base + offset, base + offset + size)
        for attribute, size, offset, *_ in entries
        if offset and attribute & 0xFF0000 != thumbnails
    ]


def find_gain_map(data: bytes, picture: Image.Image, found: list[Property], orientation: int | None) -> bytes | None:
    """Return the gain map of a JPEG file, upright; None if there is none, or one without the metadata to apply it.

    ``picture`` is the file as Pillow opens it, ``found`` are the properties of its XMP packet.
    """
    places, end = other_images(data, picture), len(data)
    for semantic, length in reversed(item_lengths(found)):  # the items end with the file
        places += [(end - length, end)] if semantic == "GainMap" else []
        end -= length
    for start, stop in places:
        gain_map = data[max(start, 1) : stop]
        if gain_map.startswith(b"\xff\xd8\xff") and (_HDRGM in gain_map or _ISO in gain_map):
            return gain_map if orientation not in range(2, 9) else _upright(gain_map, orientation)
    return None


def _upright(gain_map: bytes, orientation: int | None) -> bytes | None:
    """Return a gain map with an orientation applied to its pixels; None if it is damaged."""
    buffer = io.BytesIO()
    try:
        with open_picture(gain_map, "JPEG") as picture:
            iso = [block for _, block in getattr(picture, "applist", ()) if block.startswith(_ISO)]
            settings = {key: value for key, value in picture.info.items() if key in ("xmp", "icc_profile")}
            turned = picture_of(upright_array(picture_array(picture), orientation))
            turned.save(
                buffer,
                "JPEG",
                quality=95,
                subsampling=0,
                extra=b"".join(segment(APP2, block) for block in iso),
                **settings,
            )
    except Exception:  # noqa: BLE001 - decoders raise many types for damaged files
        return None
    return buffer.getvalue()


def announce_gain_map(packet: bytes | None, gain_map: bytes) -> bytes | None:
    """Return an XMP packet, or a new one, that announces a gain map with XMP of its own behind the photograph."""
    if _HDRGM not in gain_map:  # it has only the metadata of ISO 21496-1
        return packet
    found = [] if packet is None else properties(packet)
    inside = [entry.value_span[1] for entry in found if entry.name == "rdf:RDF" and entry.span[1] > entry.value_span[1]]
    if packet is None or not inside:
        packet, inside = _EMPTY, [_EMPTY.index(b"</rdf:RDF>")]
    return packet[: inside[-1]] + _DIRECTORY % (_HDRGM, len(gain_map)) + packet[inside[-1] :]


def append_gain_map(jpeg: bytes, gain_map: bytes) -> bytes:
    """Return a JPEG file with a gain map behind it, and the index of both images."""
    start = 2
    while jpeg[start : start + 2] in (b"\xff\xe0", b"\xff\xe1"):  # the index follows JFIF and EXIF
        start += 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    iso = segment(APP2, _ISO + bytes(4)) if _ISO in gain_map else b""  # the version of the standard
    base = start + len(iso) + 8  # offsets count from the index's header

    def index(length: int) -> bytes:
        directory = Directory(">")
        directory.fields[_VERSION] = Field(UNDEFINED, 4, b"0100")
        directory.put(_NUMBER, LONG, 2)
        entries = struct.pack(">IIIHHIIIHH", _PRIMARY, length, 0, 0, 0, 0, len(gain_map), length - base, 0, 0)
        directory.fields[_ENTRIES] = Field(UNDEFINED, len(entries), entries)
        return iso + segment(APP2, b"MPF\0" + header(">") + write_directory(directory, 8))

    length = len(jpeg) + len(index(base))
    return jpeg[:start] + index(length) + jpeg[start:] + gain_map
