"""What a visitor asks for, and how what was typed or handed in for the kernel is understood."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from blinddiff.app.limits import LARGEST_KERNEL_FILE, LARGEST_KERNEL_SIDE
from blinddiff.degradation.kernel_files import KERNEL_ENDINGS, read_kernel
from blinddiff.errors import KernelError, ParameterError
from blinddiff.imaging import OUTPUT_FORMATS

KERNEL_SUFFIXES = tuple(ending for ending in KERNEL_ENDINGS if ending != ".mat")
"""Not MATLAB's, which are packed: one within `LARGEST_KERNEL_FILE` can hold a gigabyte."""
FORMATS = tuple(ending[1:] for ending in OUTPUT_FORMATS if ending not in (".tiff", ".jpeg"))
"""Each format that is written, under its shorter name."""
SMALLEST_REGION = 32
"""Pixels: less holds too few blocks to tell a blur from."""


@dataclass(frozen=True)
class Region:
    """A part of the photograph, in its pixels."""

    left: int
    top: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.left}, {self.top}, {self.width}, {self.height}"


@dataclass(frozen=True)
class Asked:
    """One restoration.

    Attributes:
        photograph: the uploaded file.
        scale, mode, steps, samples, noise_level: as for the pipeline.
        seed: of its generator.
        kernel_file: the visitor's own kernel, a picture or numbers.
        kernel_numbers: the same, typed.
        region: what the kernel is estimated from, typed, see `region_of`.
        file_format: of the result: one of `FORMATS`.
    """

    photograph: Path
    scale: int = 4
    mode: str = "fidelity"
    steps: int | None = None
    samples: int = 1
    seed: int = 0
    noise_level: float | None = None
    kernel_file: Path | None = None
    kernel_numbers: str = ""
    region: str = ""
    file_format: str = "png"

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        given = [
            name
            for name, value in (
                ("a kernel file", self.kernel_file),
                ("kernel numbers", self.kernel_numbers.strip()),
                ("a region", self.region.strip()),
            )
            if value
        ]
        if len(given) > 1:
            raise ParameterError(f"{' and '.join(given)} are given: the kernel can come from one of them only")
        if self.file_format not in FORMATS:
            raise ParameterError(f"format {self.file_format!r} is not one of {', '.join(FORMATS)}")


def kernel_of(asked: Asked) -> Tensor | None:
    """The visitor's own kernel, (n, m), if there is one.

    Raises:
        KernelError: it is none.
    """
    if asked.kernel_file is not None:
        return _kernel_of_file(asked.kernel_file, asked.kernel_file.name)
    if asked.kernel_numbers.strip():
        if len(asked.kernel_numbers) > LARGEST_KERNEL_FILE:
            raise KernelError(f"kernel numbers: more than {LARGEST_KERNEL_FILE:,} characters")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / ("kernel.json" if asked.kernel_numbers.lstrip()[0] in "[{" else "kernel.txt")
            file.write_text(asked.kernel_numbers, encoding="utf-8")
            return _kernel_of_file(file, "kernel numbers")
    return None


def _kernel_of_file(file: Path, name: str) -> Tensor:
    if file.suffix.lower() not in KERNEL_SUFFIXES:
        raise KernelError(f"{name}: kernel files end in {', '.join(KERNEL_SUFFIXES)} here")
    try:
        if file.stat().st_size > LARGEST_KERNEL_FILE:
            raise KernelError(f"{name}: a kernel file of over {LARGEST_KERNEL_FILE >> 20} MiB is not taken")
        if file.suffix.lower() == ".png":
            _refuse_large_picture(file, name)
        return read_kernel(file)
    except OSError as error:
        raise KernelError(f"{name}: is no longer here; choose it again") from error
    except KernelError as error:  # names a file of the server, of which the visitor knows another name
        raise KernelError(str(error).replace(str(file), name)) from None


def _refuse_large_picture(file: Path, name: str) -> None:
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            size = picture.size
    except Exception:  # noqa: BLE001  # `read_kernel` says what is wrong with it
        return
    if max(size) > LARGEST_KERNEL_SIDE:
        raise KernelError(f"{name}: a kernel of {size[0]} x {size[1]} pixels; at most {LARGEST_KERNEL_SIDE} a side")


def region_of(text: str, width: int, height: int) -> Region | None:
    """The part of a photograph of ``width`` x ``height`` that "left, top, width, height" names; None for nothing.

    Raises:
        ParameterError: it is no such text, too small, or outside the photograph.
    """
    if not text.strip():
        return None
    numbers = numbers_of(text)
    if len(numbers) != 4:
        raise ParameterError(f"region {text.strip()[:60]!r}: four whole numbers are needed: left, top, width, height")
    region = Region(*numbers)
    if min(region.width, region.height) < SMALLEST_REGION:
        raise ParameterError(
            f"region {region}: both sides must be at least {SMALLEST_REGION} pixels, to tell the blur from"
        )
    if min(region.left, region.top) < 0 or region.left + region.width > width or region.top + region.height > height:
        raise ParameterError(f"region {region}: lies outside the photograph of {width} x {height} pixels")
    return region


def numbers_of(text: str) -> list[int]:
    """The whole numbers, of up to nine digits, that a text separates by commas or spaces; none if it holds more."""
    parts = text.replace(",", " ").split()
    return [int(part) for part in parts] if all(re.fullmatch(r"-?\d{1,9}", part) for part in parts) else []
