"""Standard input and output, of photographs and of words; and the file that takes records in their place."""

import os
import sys
from pathlib import Path
from typing import TextIO

from blinddiff.errors import ImageError, OutputError

STREAM = "-"
"""How a command line names standard input or output."""

_PART = 1 << 20


def read_standard_input(most: int) -> bytes:
    """Everything that standard input has to say.

    Raises:
        ImageError: that is more than ``most`` bytes, or cannot be read.
    """
    parts, size = [], 0
    try:
        while part := sys.stdin.buffer.read(_PART):
            parts.append(part)
            size += len(part)
            if size > most:
                raise ImageError("standard input: is larger than any image within the limit of pixels")
    except OSError as error:
        raise ImageError(f"standard input: cannot be read: {error.strerror}") from error
    return b"".join(parts)


def check_standard_output() -> None:
    """Refuse to write an image to a terminal.

    Raises:
        OutputError: standard output is one.
    """
    if sys.stdout.isatty():
        raise OutputError("standard output: is a terminal; send it to a file or another program")


def write_standard_output(data: bytes) -> None:
    """Write bytes, all of them.

    Raises:
        OutputError: nobody listens, or the disk behind is full.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from error


def say(line: str, aside: bool = False) -> None:
    """Print a line; on standard error where standard output is taken."""
    stream = sys.stderr if aside else sys.stdout
    print(printable(line, stream), file=stream)


def printable(text: str, stream: TextIO) -> str:
    """The text, with what a stream's encoding cannot hold escaped: a file's name may be any bytes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def check_json(path: str | None, *taken: Path) -> None:
    """Refuse now a file for records that cannot be written after the work, or that would replace a photograph.

    Raises:
        OutputError: it is one of the files ``taken``, or an image, or the place cannot be written to.
    """
    from blinddiff.imaging import SIGNATURE_BYTES, check_writable, image_format

    if path is None or path == STREAM:
        return
    check_writable(path)
    is_image = False
    if os.path.isfile(path):
        with open(path, "rb") as file:
            is_image = image_format(file.read(SIGNATURE_BYTES)) is not None
    if is_image or os.path.realpath(path) in [os.path.realpath(other) for other in taken]:
        raise OutputError(f"{path}: is the photograph, its result or another image; choose another name for --json")
