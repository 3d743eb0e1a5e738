"""The chunks of PNG files. Unpacks large compressed ones, which Pillow refuses by a limit of the whole process."""

import struct
import zlib
from collections.abc import Iterator

PILLOW_LIMIT = 1 << 20
"""Uncompressed bytes of a chunk that Pillow accepts by default."""
CHUNK_LIMIT = 16 << 20
"""Uncompressed bytes of a chunk that are accepted here, in all `TOTAL_LIMIT`."""
TOTAL_LIMIT = 64 << 20


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk of a PNG file, and start and end of its contents, which may lie beyond a damaged file."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def without_large_chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """Return a PNG file with its large texts uncompressed and without a large colour profile, and this profile.

    Damaged chunks and those above the limits stay: the reader reports them.
    """
    parts, profile, copied, left = [], None, 0, TOTAL_LIMIT
    for kind, start, end in png_chunks(data):
        if kind in (b"iCCP", b"zTXt", b"iTXt"):
            head, content = _unpacked(kind, data[start:end], min(left, CHUNK_LIMIT))
            if len(content) > PILLOW_LIMIT:
                left -= len(content)
                parts.append(data[copied : start - 8])  # up to the chunk's length and kind
                copied = end + 4  # behind its checksum
                if kind == b"iCCP":
                    profile = content
                else:
                    body = (b"iTXt" if kind == b"iTXt" else b"tEXt") + head + content
                    parts += [struct.pack(">I", len(body) - 4), body, struct.pack(">I", zlib.crc32(body))]
    return (b"".join([*parts, data[copied:]]) if parts else data), profile


def _unpacked(kind: bytes, chunk: bytes, limit: int) -> tuple[bytes, bytes]:
    """What precedes the content in an uncompressed chunk, and the content; empty if not compressed, damaged or larger.

    Source: PNG, third edition, sections 11.3.3.3 (iCCP: name, method, data; zTXt is the same) and 11.3.4.4 (iTXt).
    """
    key, _, rest = chunk.partition(b"\0")
    head, packed = key + b"\0", rest[1:]
    if kind == b"iTXt":  # flag, method, language, translated key, data
        language, _, rest_of_text = rest[2:].partition(b"\0")
        translated, _, packed = rest_of_text.partition(b"\0")
        head += b"\0\0" + language + b"\0" + translated + b"\0"
        packed = packed if rest[:1] == b"\1" else b""
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(packed, limit)
    except zlib.error:
        return head, b""
    return head, b"" if inflate.unconsumed_tail else content
