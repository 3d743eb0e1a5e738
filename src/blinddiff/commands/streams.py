"""Standard input and output: of photographs, and of words with names that no encoding can hold."""

import sys

from blinddiff.errors import ImageError, OutputError

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
    """Print a line; on standard error where standard output is taken. What an encoding cannot hold is escaped."""
    stream = sys.stderr if aside else sys.stdout
    encoding = stream.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)
