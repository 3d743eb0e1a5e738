"""What Pillow leaves unread in a JPEG 2000 file: its colour profile."""

import struct


def jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the colour profile of a JP2 file; None if there is none. (ISO/IEC 15444-1, annex I.5.3.3.)"""
    head = _box(data, 0, len(data), b"jp2h")
    place = None if head is None else _box(data, *head, b"colr")
    if place is None or data[place[0]] not in (2, 3):  # 1: an enumerated colour space
        return None
    return data[place[0] + 3 : place[1]]


def _box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    """Return where the contents of the first box of a kind begin and end."""
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        if length == 0 or start + length > end:
            length = end - start  # 0: up to the end
        if length < 8:
            return None
        if name == kind:
            return start + 8, start + length
        start += length
    return None
