"""What the browser sends: the parameters of a request, checked, and the uploaded files."""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS, Photograph
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.sampling.output import read_restorable

KERNEL_SUFFIXES = tuple(ending for ending in KERNEL_ENDINGS if ending != ".mat")
"""No MATLAB files: they are compressed, and one within `MAX_KERNEL_BYTES` can unpack to a gigabyte."""
FORMATS = tuple(ending[1:] for ending in OUTPUT_FORMATS if ending not in (".tiff", ".jpeg"))
"""Every output format once, by its shorter file ending."""
MAX_KERNEL_BYTES = 1 << 20
MAX_KERNEL_SIDE = 1024  # pixels of a kernel picture
MIN_REGION_SIDE = 32  # pixels: a smaller region holds too few blocks to estimate a blur from


@dataclass(frozen=True)
class Region:
    """A rectangle of the photograph, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left}, {self.top}, {self.width}, {self.height}"


@dataclass(frozen=True)
class Request:
    """One requested restoration.

    Attributes:
        photograph: the uploaded file.
        settings: of the restoration.
        file_format: of the result, one of `FORMATS`.
        kernel_file: the known blur kernel, a picture or numbers.
        kernel_numbers: the same as text.
        region: "left, top, width, height", from which the kernel is estimated; empty for the whole photograph.

    Raises:
        ParameterError: two sources of the kernel, or another format.
    """

    photograph: Path
    settings: RestoreSettings
    file_format: str = "png"
    kernel_file: Path | None = None
    kernel_numbers: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        sources = {
            "a kernel file": self.kernel_file,
            "kernel numbers": self.kernel_numbers.strip(),
            "a region": self.region.strip(),
        }
        given = [name for name, value in sources.items() if value]
        if len(given) > 1:
            raise ParameterError(f"{' and '.join(given)} are given: the kernel can come from one of them only")
        if self.file_format not in FORMATS:
            raise ParameterError(f"format {self.file_format!r} is not one of {', '.join(FORMATS)}")

    @property
    def kernel_source(self) -> str:
        """Where the kernel comes from: "given", "region ..." or "photograph"."""
        if self.kernel_file is not None or self.kernel_numbers.strip():
            return "given"
        return f"region {self.region.strip()}" if self.region.strip() else "photograph"

    def read_kernel(self) -> Tensor | None:
        """The given kernel, (n, m); None without one.

        Raises:
            KernelError: the file or the text is not a kernel, or is too large.
        """
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
    suffix = file.suffix.lower()
    if suffix not in KERNEL_SUFFIXES:
        raise KernelError(f"{name}: kernel files end in {', '.join(KERNEL_SUFFIXES)} here")
    try:
        if file.stat().st_size > MAX_KERNEL_BYTES:
            raise KernelError(f"{name}: larger than {MAX_KERNEL_BYTES >> 20} MiB, the limit for a kernel file")
        if suffix == ".png":
            _check_kernel_picture(file, name)
        return read_kernel(file)
    except OSError as error:
        raise KernelError(f"{name}: is no longer on the server; choose it again") from error
    except KernelError as error:  # names the file on the server, which the visitor knows by another name
        raise KernelError(str(error).replace(str(file), name)) from None


def _check_kernel_picture(file: Path, name: str) -> None:
    """Check the size before the pixels are decompressed."""
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            width, height = picture.size
    except Exception:  # noqa: BLE001  # `read_kernel` reports what is wrong with it
        return
    if max(width, height) > MAX_KERNEL_SIDE:
        raise KernelError(f"{name}: a kernel of {width} x {height} pixels; at most {MAX_KERNEL_SIDE} a side")


def parse_region(text: str, width: int, height: int) -> Region | None:
    """The region "left, top, width, height" of a photograph of ``width`` x ``height`` pixels; None for empty text.

    Raises:
        ParameterError: other text, a region that is too small, or one outside the photograph.
    """
    if not text.strip():
        return None
    numbers = _parse_integers(text)
    if len(numbers) != 4:
        raise ParameterError(f"region {text.strip()[:60]!r}: four whole numbers are needed: left, top, width, height")
    region = Region(*numbers)
    if min(region.width, region.height) < MIN_REGION_SIDE:
        raise ParameterError(
            f"region {region}: both sides must be at least {MIN_REGION_SIDE} pixels to estimate the blur"
        )
    if min(region.left, region.top) < 0 or region.left + region.width > width or region.top + region.height > height:
        raise ParameterError(f"region {region}: lies outside the photograph of {width} x {height} pixels")
    return region


def add_corner(text: str, x: int, y: int) -> tuple[tuple[int, int] | None, str]:
    """Add a click at (x, y) to the text of a region: a first corner, or the corner opposite to the first.

    Returns:
        The corner while there is only one, else None; and the new text.
    """
    numbers = _parse_integers(text)
    if len(numbers) != 2:
        return (x, y), f"{x}, {y}"
    left, top = min(numbers[0], x), min(numbers[1], y)
    return None, str(Region(left, top, abs(numbers[0] - x), abs(numbers[1] - y)))


def _parse_integers(text: str) -> list[int]:
    """Integers of up to nine digits, separated by commas or spaces; empty if the text holds anything else."""
    parts = text.replace(",", " ").split()
    return [int(part) for part in parts] if all(re.fullmatch(r"-?\d{1,9}", part) for part in parts) else []


def read_photograph(path: Path, max_pixels: int) -> Photograph:
    """Read an uploaded photograph.

    Raises:
        ImageError: it cannot be read or restored; the message names the file as the visitor does.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: is no longer on the server; choose it again") from error
    return read_restorable(data, max_pixels, path.name)


class VisitorFiles:
    """Uploads and results of all visitors, in one folder; each visitor's are removed after they leave.

    Args:
        folder: readable by this user only.
        max_age: seconds after which an unused file of a visitor who has not left is removed.
        grace_period: seconds for which the files of a visitor who has left stay. A lost connection looks the same,
            so this is longer than a restoration may take.
    """

    def __init__(self, folder: Path, max_age: float = 3600, grace_period: float = 1200) -> None:
        self.folder = folder
        self._max_age, self._grace_period = max_age, grace_period
        self._left_at: dict[str, float] = {}  # on the monotonic clock
        self._folders: dict[str, set[Path]] = defaultdict(set)  # of each visitor
        self._results: set[Path] = set()  # the folders that hold no uploads
        self._lock = threading.Lock()

    def new_folder(self, visitor: str) -> Path:
        """Make a folder with a random name for one result."""
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        with self._lock:
            self._results.add(folder)
            self._folders[visitor].add(folder)
            self._left_at.pop(visitor, None)
        return folder

    def keep_upload(self, visitor: str, upload: Path) -> None:
        """Keep an uploaded file while this visitor is here. Visitors with equal uploads share one file."""
        if upload.parent.parent != self.folder:
            return
        with self._lock, contextlib.suppress(OSError):
            self._folders[visitor].add(upload.parent)
            self._left_at.pop(visitor, None)
            os.utime(upload.parent)

    def uploaded_bytes(self) -> int:
        """Size of all stored uploads."""
        with self._lock:
            results = set(self._results)
        total = 0
        for path in self.folder.rglob("*"):
            if path.parent not in results:
                with contextlib.suppress(OSError):  # removed meanwhile
                    total += path.stat().st_size if path.is_file() else 0
        return total

    def leave(self, visitor: str) -> None:
        """Remove a visitor's files after the grace period, unless the visitor comes back and uses the page."""
        with self._lock:
            self._left_at[visitor] = time.monotonic()

    def sweep(self) -> None:
        """Remove the files of visitors who have left, and files unused for `max_age`."""
        left_before, changed_before = time.monotonic() - self._grace_period, time.time() - self._max_age
        with self._lock:
            gone = [visitor for visitor, left_at in self._left_at.items() if left_at <= left_before]
            unused = set[Path]().union(*(self._folders.pop(visitor, set()) for visitor in gone))
            unused -= set[Path]().union(*self._folders.values())
            for visitor in gone:
                del self._left_at[visitor]
        for entry in list(self.folder.iterdir()):
            with contextlib.suppress(OSError):
                if entry in unused or entry.stat().st_mtime < changed_before:
                    shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink()
        with self._lock:
            self._results = {folder for folder in self._results if folder.exists()}
            for visitor, folders in list(self._folders.items()):
                self._folders[visitor] = {folder for folder in folders if folder.exists()}
                if not self._folders[visitor]:
                    del self._folders[visitor]


@contextlib.contextmanager
def private_files() -> Iterator[VisitorFiles]:
    """A temporary folder that only this user can read, swept every minute and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="blinddiff-")).resolve()  # mode 0700
    files, closed = VisitorFiles(folder), threading.Event()

    def sweep_until_closed() -> None:
        while not closed.wait(60):
            files.sweep()

    threading.Thread(target=sweep_until_closed, name="sweeping", daemon=True).start()
    try:
        yield files
    finally:
        closed.set()
        shutil.rmtree(folder, ignore_errors=True)
