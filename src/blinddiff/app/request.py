"""What visitors send: the checked parameters of a request."""

import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from blinddiff.app import Limits
from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.errors import ImageError, KernelError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS, Photograph
from blinddiff.imaging.mask import Mask, read_mask
from blinddiff.restoring.photograph import MAX_FACTOR, RestoreSettings, read_restorable
from blinddiff.sampling.arguments import short_repr
from blinddiff.sampling.decision import SMALLEST_SIDE

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

    @property
    def rows(self) -> slice:
        """The rows of the photograph's pixels."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """The columns of the photograph's pixels."""
        return slice(self.left, self.left + self.width)

    def __str__(self) -> str:
        return ", ".join(map(str, self))


@dataclass(frozen=True)
class Request:
    """One requested restoration. Raises ParameterError for several kernel sources or a format not in `FORMATS`."""

    photograph: Path
    settings: RestoreSettings
    file_format: str = "png"  # of the result, one of `FORMATS`
    kernel_file: Path | None = None  # the known blur kernel
    mask_file: Path | None = None  # white where the photograph is not to be believed, see `read_mask`
    kernel_numbers: str = ""  # the known blur kernel as text
    region: str = ""  # "left, top, width, height", from which the kernel is estimated; empty for the whole photograph
    crop: str = ""  # the part to restore, in the same form
    page: int | None = None  # of a TIFF file, from 1
    pictures: bool = True  # whether to draw previews of the steps, and pictures of the result and the estimates

    def __post_init__(self) -> None:
        names = ("a kernel file", "kernel numbers", "a region", "kernel_map")
        sources = (self.kernel_file, self.kernel_numbers.strip(), self.region.strip(), self.settings.kernel_map)
        given = [name for name, source in zip(names, sources, strict=True) if source]
        if len(given) > 1:
            raise ParameterError(f"{' and '.join(given)} are given: the kernel can come from one of them only")
        if self.file_format not in FORMATS:
            raise ParameterError(f"format {self.file_format!r} is not one of {', '.join(FORMATS)}")

    @classmethod
    def checked(cls, **values: Any) -> "Request":
        """A request from values of any type. Raises ParameterError, with the value's name, for a wrong one."""
        try:
            return _REQUEST.validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(cause := first.get("ctx", {}).get("error"), ParameterError):  # raised by a class itself
                raise cause from None
            raise ParameterError(describe_validation(first)) from None

    def read_kernel(self) -> NDArray[np.float32] | None:
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

    def read_mask(self, height: int, width: int, limits: Limits) -> Mask | None:
        """The given mask for a photograph of a size, (height, width), or None. Raises ImageError, see `read_mask`."""
        if self.mask_file is None:
            return None
        return read_mask(_uploaded(self.mask_file), (height, width), limits.read_pixels, self.mask_file.name)


_REQUEST = TypeAdapter(Request)


def describe_validation(error: Mapping[str, Any]) -> str:
    """One of pydantic's validation errors in one line, with the value's name."""
    value = "" if error["type"] == "missing" else f" {short_repr(error['input'])}"  # then it is all other values
    return f"{error['loc'][-1]}{value}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _read_kernel_file(file: Path, name: str) -> NDArray[np.float32]:
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


def parse_crop(text: str, width: int, height: int) -> Region | None:
    """The part of a photograph of ``width`` x ``height`` pixels to restore, as `parse_region`."""
    return _parse_rectangle("crop", text, width, height, SMALLEST_SIDE, "")


def parse_region(text: str, width: int, height: int) -> Region | None:
    """The region "left, top, width, height" of a photograph of ``width`` x ``height`` pixels; None for empty text.

    Raises ParameterError for other text, a region that is too small, or one outside the photograph.
    """
    # A smaller one holds too few of the blocks that the estimate is made from.
    return _parse_rectangle("region", text, width, height, 32, " to estimate the blur")


def _parse_rectangle(name: str, text: str, width: int, height: int, smallest: int, purpose: str) -> Region | None:
    if not text.strip():
        return None
    numbers = _parse_integers(text)
    if len(numbers) != 4:
        raise ParameterError(f"{name} {text.strip()[:60]!r}: four whole numbers are needed: left, top, width, height")
    region = Region(*numbers)
    if min(region.width, region.height) < smallest:
        raise ParameterError(f"{name} {region}: both sides must be at least {smallest} pixels{purpose}")
    if min(region.left, region.top) < 0 or region.left + region.width > width or region.top + region.height > height:
        raise ParameterError(f"{name} {region}: extends beyond the photograph of {width} x {height} pixels")
    return region


def parse_size(text: str) -> dict[str, Any]:
    """The size of a result as settings of `RestoreSettings`; none for empty text.

    "1.5x", or a number up to 8, is a scale; "2000" the longer side; "1600x1200" a width and height to fit into; "6 MP"
    a number of megapixels. Raises ParameterError for other text.
    """
    words = "".join(text.lower().split()).replace("\u00d7", "x").removesuffix("px")
    if not words:
        return {}
    if found := re.fullmatch(r"(\d{1,6})x(\d{1,6})", words):
        return {"width": int(found[1]), "height": int(found[2])}
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(x|mp)?", words)
    if found is None or (found[2] is None and float(found[1]) > MAX_FACTOR and "." in found[1]):
        raise ParameterError(f"other size {text.strip()[:60]!r}: write it as 1.5x, 2000, 1600x1200 or 6 MP")
    value = float(found[1])
    if found[2] == "mp":
        return {"megapixels": value}
    return {"scale": value} if found[2] == "x" or value <= MAX_FACTOR else {"longest": int(value)}


def parse_number(name: str, text: str, low: float, high: float, whole: bool = False) -> float | None:
    """A number in a field that may be empty: None. Raises ParameterError for other text, or one beyond low or high."""
    text = text.strip()
    if not text:
        return None
    with contextlib.suppress(ValueError):
        value = int(text) if whole else float(text)
        if low <= value <= high:
            return value
    kind = "whole number" if whole else "number"
    raise ParameterError(f"{name} {text[:60]!r}: must be a {kind} from {low:g} to {high:g}, or empty")


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


def read_photograph(path: Path, limits: Limits, page: int | None = None) -> Photograph:
    """Read an uploaded photograph, or a page of a TIFF file, with at most `Limits.read_pixels`.

    Raises ImageError if it cannot be read or restored; the message contains the uploaded file's own name.
    """
    return read_restorable(_uploaded(path), limits.read_pixels, path.name, page)


def _uploaded(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: is no longer on the server; choose it again") from error


def cropped(photograph: Photograph, part: Region) -> Photograph:
    """A part of a photograph, with its metadata."""
    # Copies, because slices would keep the whole photograph in memory.
    alpha = None if photograph.alpha is None else photograph.alpha[:, part.rows, part.columns].copy()
    return replace(photograph, pixels=photograph.pixels[:, part.rows, part.columns].copy(), alpha=alpha)


def number_of_pages(path: Path) -> int:
    """The number of images in a TIFF file; 1 for other files."""
    with contextlib.suppress(Exception), Image.open(path, formats=["TIFF"]) as picture:
        return int(getattr(picture, "n_frames", 1))
    return 1
