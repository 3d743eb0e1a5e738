"""What is done already: a hidden file in the output folder, so that a run that was broken off goes on.

A result is taken as done if, and only if, the contents of the photograph, the settings and the contents of the result
are those of its line here, by hash. Times of files do not tell: copying, unpacking and version control change them, and
an edited photograph can keep its own. Each line is written after its result is on the disk: what a kill leaves without
a line is done again.
"""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from blinddiff.errors import OutputError
from blinddiff.files import lock
from blinddiff.restoring.photograph import Done
from blinddiff.restoring.plan import Job

LEDGER = ".blinddiff-ledger.jsonl"
"""Name of the file."""


class Ledger:
    """The ledger of one output folder, locked against other runs while it is open."""

    def __init__(self, folder: Path) -> None:
        """Open or begin the ledger of a folder.

        Raises:
            OutputError: it cannot be opened, or another run is writing to the folder.
        """
        self.path = folder / LEDGER
        try:
            # Unbuffered: what a full disk refuses must not be tried again with the next line.
            self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - closed by `close`
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be opened: {error.strerror}") from error
        try:
            lock(self._file.fileno())
            self._places, self._size = _read_places(self.path)  # of the newest line for each result
            self._file.truncate(self._size)
        except OSError as error:
            self._file.close()
            if isinstance(error, BlockingIOError):
                raise OutputError(f"{folder}: another run is writing there") from error
            raise OutputError(f"{self.path}: cannot be used: {error.strerror}") from error

    def facts(self, job: Job, settings: str) -> dict[str, Any] | None:
        """Return the facts of a result that is done, under settings of this fingerprint; None if it is not."""
        line = self._line(job.output)
        if line.get("settings") != settings or line.get("input") != job.name:
            return None
        with contextlib.suppress(OSError):  # gone, or not readable: not done
            # The result first: most often it is that which is missing.
            if line["output_sha256"] == file_hash(job.target) and line["input_sha256"] == file_hash(job.source):
                facts: dict[str, Any] = line["facts"]
                return facts
        return None

    def add(self, job: Job, settings: str, done: Done) -> None:
        """Enter a result that is on the disk.

        Raises:
            OutputError: the disk is full, or gone.
        """
        line = {
            "input": job.name,
            "output": job.output,
            "settings": settings,
            "input_sha256": done.input_sha256,
            "output_sha256": done.output_sha256,
            "facts": done.facts,
        }
        data = json.dumps(line).encode() + b"\n"
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._places[job.output] = self._size
        self._size += len(data)

    def close(self) -> None:
        """Let other runs in."""
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, output: str) -> dict[str, Any]:
        """The newest line for a result; empty if there is none."""
        if output not in self._places:
            return {}
        with open(self.path, "rb") as file:
            file.seek(self._places[output])
            line: dict[str, Any] = json.loads(file.readline())
        return line


def _read_places(path: Path) -> tuple[dict[str, int], int]:
    """Where the newest line for each result begins, and where the last whole line ends: a kill can cut one short."""
    places, end = {}, 0
    with open(path, "rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                break
            with contextlib.suppress(ValueError):
                line = json.loads(raw)
                if isinstance(line, dict) and {"output", "input_sha256", "output_sha256", "facts"} <= line.keys():
                    places[str(line["output"])] = end
            end += len(raw)
    return places, end


def file_hash(path: Path) -> str:
    """SHA-256 of a file's contents."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
