"""What visitors send: the checked parameters of a request, and the uploaded files."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from blinddiff.app import Limits
from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS, Photograph
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.sampling.output import read_restorable

KERNEL_SUFFIXES = tuple(ending for ending in KERNEL_ENDINGS if ending != ".mat")
"""MATLAB files are excluded: they are compressed, and a file of `MAX_KERNEL_BYTES` can unpack to a gigabyte."""
FORMATS = tuple(ending[1:] for ending in OUTPUT_FORMATS if ending not in (".tiff", ".jpeg"))  # each format once
MAX_KERNEL_BYTES = 1 << 20
MAX_KERNEL_SIDE = 1024  # pixels of a kernel picture


class Region(NamedTuple):
    """A rectangle of the photograph, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return ", ".join(map(str, self))


@dataclass(frozen=True)
class Request:
    """One requested restoration. Raises ParameterError for several kernel sources or a format not in `FORMATS`."""

    photograph: Path
    settings: RestoreSettings
    file_format: str = "png"  # of the result, one of `FORMATS`
    kernel_file: Path | None = None  # the known blur kernel
    kernel_numbers: str = ""  # the known blur kernel as text
    region: str = ""  # "left, top, width, height", from which the kernel is estimated; empty for the whole photograph

    def __post_init__(self) -> None:
        names = ("a kernel file", "kernel numbers", "a region")
        sources = (self.kernel_file, self.kernel_numbers.strip(), self.region.strip())
        given = [name for name, source in zip(names, sources, strict=True) if source]
        if len(given) > 1:
            raise ParameterError(f"{' and '.join(given)} are given: the kernel can come from one of them only")
        if self.file_format not in FORMATS:
            raise ParameterError(f"format {self.file_format!r} is not one of {', '.join(FORMATS)}")

    def read_kernel(self) -> Tensor | None:
        """The given kernel, (n, m), or None. Raises KernelError if it is not a kernel, or is too large."""
        if self.kernel_file is not None:
            return _read_kernel_file(self.kernel_file, self.kernel_file.name)
        text = self.kernel_numbers.strip()
        if not text:
            return None
        if len(text) > MAX_KERNEL_BYTES:
            raise KernelError(f"kernel numbers: more than {MAX_KERNEL_BYTES:,} characters")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / ("kernel.json" if text[0] in "[{" else "kernel.txt")
            file.write_text(text, encoding="utf-8")
            return _read_kernel_file(file, "kernel numbers")


def _read_kernel_file(file: Path, name: str) -> Tensor:
    if file.suffix.lower() not in KERNEL_SUFFIXES:
        raise KernelError(f"{name}: this page accepts kernel files that end in {', '.join(KERNEL_SUFFIXES)}")
    try:
        if file.stat().st_size > MAX_KERNEL_BYTES:
            raise KernelError(f"{name}: is larger than {MAX_KERNEL_BYTES >> 20} MiB, the limit for a kernel file")
        width = height = 0
        # Check the size before decompressing the pixels. Errors are ignored here: `read_kernel` below reports them.
        with contextlib.suppress(Exception), Image.open(file, formats=["PNG"]) as picture:
            width, height = picture.size
        if max(width, height) > MAX_KERNEL_SIDE:
            raise KernelError(f"{name}: has {width} x {height} pixels; the limit is {MAX_KERNEL_SIDE} per side")
        return read_kernel(file)
    except OSError as error:
        raise KernelError(f"{name}: is no longer on the server; choose it again") from error
    except KernelError as error:  # use the visitor's name for the file
        raise KernelError(str(error).replace(str(file), name)) from None


def parse_region(text: str, width: int, height: int) -> Region | None:
    """The region "left, top, width, height" of a photograph of ``width`` x ``height`` pixels; None for empty text.

    Raises ParameterError for other text, a region that is too small, or one outside the photograph.
    """
    if not text.strip():
        return None
    numbers = _parse_integers(text)
    if len(numbers) != 4:
        raise ParameterError(f"region {text.strip()[:60]!r}: four whole numbers are needed: left, top, width, height")
    region = Region(*numbers)
    if min(region.width, region.height) < 32:  # it holds too few of the blocks that the estimate is made from
        raise ParameterError(f"region {region}: both sides must be at least 32 pixels to estimate the blur")
    if min(region.left, region.top) < 0 or region.left + region.width > width or region.top + region.height > height:
        raise ParameterError(f"region {region}: extends beyond the photograph of {width} x {height} pixels")
    return region


def add_corner(text: str, x: int, y: int) -> tuple[tuple[int, int] | None, str]:
    """Add a click at (x, y) to the text of a region. Return (corner, new text).

    corner is (x, y) after the first click of a region, and None after the second.
    """
    numbers = _parse_integers(text)
    if len(numbers) != 2:
        return (x, y), f"{x}, {y}"
    first_x, first_y = numbers
    return None, str(Region(min(first_x, x), min(first_y, y), abs(first_x - x), abs(first_y - y)))


def _parse_integers(text: str) -> list[int]:
    """Integers of up to nine digits, separated by commas or spaces; empty if the text holds anything else."""
    parts = text.replace(",", " ").split()
    return [int(part) for part in parts] if all(re.fullmatch(r"-?\d{1,9}", part) for part in parts) else []


def read_photograph(path: Path, limits: Limits) -> Photograph:
    """Read an uploaded photograph. Its limit is that of its result, which has at least as many pixels.

    Raises ImageError if it cannot be read or restored; the message contains the uploaded file's own name.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: is no longer on the server; choose it again") from error
    return read_restorable(data, int(1e6 * limits.megapixels), path.name)


class VisitorFiles:
    """Uploads and results of all visitors, in one folder.

    Removes files unused for ``max_age`` seconds, and a visitor's files ``grace_period`` seconds after the visitor has
    left. A lost connection counts as leaving, although a restoration may still be running and need the files. So the
    grace period must exceed any restoration time.
    """

    def __init__(self, folder: Path, max_age: float = 3600, grace_period: float = 1200) -> None:
        self.folder = folder
        self._max_age, self._grace_period = max_age, grace_period
        self._left_at: dict[str, float] = {}  # time of leaving by visitor, on the monotonic clock
        self._visitors_of: dict[Path, set[str]] = {}  # the visitors who use each folder
        self._results: set[Path] = set()  # folders of results, not uploads
        self._lock = threading.Lock()

    def new_folder(self, visitor: str) -> Path:
        """Make a folder with a random name for a result of a visitor."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        with self._lock:
            self._results.add(folder)
            self._visitors_of[folder] = {visitor}
            self._left_at.pop(visitor, None)
        return folder

    def keep_upload(self, visitor: str, upload: Path) -> None:
        """Keep an uploaded file until this visitor leaves. Visitors who upload equal files share one copy."""
        if upload.parent.parent == self.folder:
            with self._lock, contextlib.suppress(OSError):
                self._visitors_of.setdefault(upload.parent, set()).add(visitor)
                self._left_at.pop(visitor, None)
                os.utime(upload.parent)

    def uploaded_bytes(self) -> int:
        """Total size of the stored uploads."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # removed meanwhile
                if path.parent not in self._results and path.is_file():
                    total += path.stat().st_size
        return total

    def leave(self, visitor: str) -> None:
        """Mark a visitor as gone, until the visitor uses the page again."""
        with self._lock:
            self._left_at[visitor] = time.monotonic()

    def sweep(self) -> None:
        """Remove the files of visitors who have left, and files unused for `max_age`."""
        left_before, changed_before = time.monotonic() - self._grace_period, time.time() - self._max_age
        with self._lock:
            gone = {visitor for visitor, left_at in self._left_at.items() if left_at <= left_before}
            self._left_at = {visitor: left_at for visitor, left_at in self._left_at.items() if visitor not in gone}
            for visitors in self._visitors_of.values():
                visitors -= gone
            for entry in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if self._visitors_of.get(entry) == set() or entry.stat().st_mtime < changed_before:
                        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
            self._visitors_of = {folder: kept for folder, kept in self._visitors_of.items() if folder.exists()}
            self._results &= self._visitors_of.keys()


@contextlib.contextmanager
def private_files() -> Iterator[VisitorFiles]:
    """Visitors' files in a folder that only the server's account can read: swept every minute, removed at the end."""
    closed = threading.Event()
    with tempfile.TemporaryDirectory(prefix="blinddiff-", ignore_cleanup_errors=True) as folder:  # mode 0700
        files = VisitorFiles(Path(folder).resolve())

        def sweep_until_closed() -> None:
            while not closed.wait(60):
                files.sweep()

        threading.Thread(target=sweep_until_closed, name="sweeping", daemon=True).start()
        try:
            yield files
        finally:
            closed.set()
