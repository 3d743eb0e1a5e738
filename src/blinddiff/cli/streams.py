"""Standard input and output, of photographs and of words; and the file that takes records in their place."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TextIO

from blinddiff.cli.options import is_one_of
from blinddiff.errors import ImageError, OutputError

STREAM = "-"
"""How a command line names standard input or output."""

_PART = 1 << 20


def open_closed_streams() -> None:
    """Give the program the standard streams that it was started without: they are empty, and take words to nowhere.

    What is opened first also takes their numbers, which a photograph's file would get else, and with it all that a
    library prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - kept open


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
    """Refuse to write an image to a terminal, or to nowhere.

    Raises:
        OutputError: standard output is a terminal, or was closed before the program began.
    """
    if sys.__stdout__ is None:
        raise OutputError("standard output: is closed")
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
        _give_up(sys.stdout)
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from error


def say(line: str, aside: bool = False) -> None:
    """Print a line; on standard error where standard output is taken.

    Raises:
        OutputError: nobody listens any more, or the disk behind is full.
    """
    stream = sys.stderr if aside else sys.stdout
    try:
        print(printable(line, stream), file=stream, flush=True)
    except OSError as error:
        _give_up(stream)
        name = "standard error" if aside else "standard output"
        raise OutputError(f"{name}: cannot be written: {error.strerror}") from error


def _give_up(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere: at the program's end it would fail a second time."""
    with contextlib.suppress(OSError):  # one that is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def printable(text: str, stream: TextIO) -> str:
    """The text, with what a stream's encoding cannot hold escaped: a file's name may be any bytes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def check_json(path: str | None, *taken: Path | None) -> None:
    """Refuse now a file for records that cannot be written after the work, or that would replace another.

    Raises:
        OutputError: it is one of the files ``taken``, or an image, or the place cannot be written to.
    """
    from blinddiff.files import check_writable
    from blinddiff.imaging import SIGNATURE_BYTES, has_image_name, image_format

    if path is None:
        return
    if path == STREAM:
        if sys.__stdout__ is None:
            raise OutputError("--json -: standard output is closed")
        return
    check_writable(path)
    is_image = has_image_name(Path(path))  # in a folder for results it would be one
    if os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                is_image |= image_format(file.read(SIGNATURE_BYTES)) is not None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if is_image or is_one_of(path, taken):
        raise OutputError(f"{path}: is another file of this run, or an image; choose another name for --json")
