"""Files that list finished work. They stay valid if the process is killed, so that an interrupted run can resume."""

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blinddiff.errors import OutputError
from blinddiff.files import file_hash, write_file

LEDGER = ".blinddiff-ledger.jsonl"
"""File name of a folder's ledger."""


class Journal:
    """A text file with one entry per line: the ledger of a folder, or the log of an evaluation.

    Every line is on the disk when `append` returns. An incomplete last line, left by a killed process, is ignored, and
    the next `append` removes it. Only one run may write at a time: hold `lock_folder` while writing.

    The file is created if missing. Raises OutputError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "a+b") as file:  # fail now, not after the work
                file.seek(0)
                self._size = sum(len(line) for line in file if line.endswith(b"\n"))
        except OSError as error:
            raise OutputError(f"{path}: cannot be opened: {error.strerror}") from error

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Yield each complete line as (offset, line without its newline); undecodable bytes are replaced.

        Raises OSError if the file can no longer be read.
        """
        offset = 0
        with open(self.path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield offset, line[:-1].decode(errors="replace")
                    offset += len(line)

    def line(self, offset: int) -> str:
        """The line at an offset. Raises OSError if the file cannot be read."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.readline()[:-1].decode()

    def append(self, *lines: str) -> int:
        """Add lines. Return the offset of the first.

        Raises OutputError if the disk is full or not available; then no line is added.
        """
        data, offset = _encode(lines), self._size
        try:
            # Unbuffered: otherwise closing the file would retry a write that failed on a full disk.
            with open(self.path, "ab", buffering=0) as file:
                file.truncate(offset)
                try:
                    if file.write(data) != len(data):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(offset)
                    raise
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._size += len(data)
        return offset

    def rewrite(self, lines: Iterable[str]) -> None:
        """Replace all lines atomically. Raises OutputError if that fails; then the file is unchanged."""
        data = _encode(lines)
        write_file(self.path, data)
        self._size = len(data)


def _encode(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class Job:
    """A photograph and its result. `name` and `output` are relative to the input and output folder."""

    name: str
    output: str
    source: Path
    target: Path


@dataclass(frozen=True)
class Done:
    """A result on the disk: SHA-256 of the photograph's file and of the result's file, and `Result.facts`."""

    input_sha256: str
    output_sha256: str
    facts: dict[str, Any]


class Ledger:
    """The finished results of one output folder, listed in a hidden file of the folder.

    A result is finished if the hashes of photograph, settings and result match its line. Modification times are not
    used: copying a file changes them, and editing it may not. Each line is written after its result is on the disk: if
    the process is killed in between, the photograph is restored again. Raises OutputError if the file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / LEDGER)
        self._offsets: dict[str, int] = {}  # offset of the newest line of each result
        for offset, text in self._journal:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict) and {"output", "input_sha256", "output_sha256", "facts"} <= line.keys():
                    self._offsets[str(line["output"])] = offset

    def facts(self, job: Job, settings: str) -> dict[str, Any] | None:
        """The facts of a finished result, else None. ``settings`` is the fingerprint of the settings."""
        if job.output not in self._offsets:
            return None
        with contextlib.suppress(OSError):  # a file is missing or cannot be read
            line = json.loads(self._journal.line(self._offsets[job.output]))
            if line.get("settings") != settings or line.get("input") != job.name:
                return None
            # Check the result first: it is missing more often.
            if line["output_sha256"] == file_hash(job.target) and line["input_sha256"] == file_hash(job.source):
                return line["facts"]
        return None

    def add(self, job: Job, settings: str, done: Done) -> None:
        """Record a result that has been written to disk. Raises OutputError as `Journal.append` does."""
        line = {"input": job.name, "output": job.output, "settings": settings, **asdict(done)}
        self._offsets[job.output] = self._journal.append(json.dumps(line))
