"""Options that several sub-commands share."""

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from blinddiff.degradation.kernel_measures import is_round, widths_and_angle

if TYPE_CHECKING:
    from blinddiff.imaging import Photograph
    from blinddiff.sampling.pipeline import BlindDiffPipeline


# As in `degradation.kernels`, which brings torch: a help text is not to wait for it. A test compares.
KERNEL_ENDINGS = (".npy", ".mat", ".csv", ".txt", ".json", ".png")
KERNEL_FORMATS = ", ".join(KERNEL_ENDINGS[:-1]) + f" or {KERNEL_ENDINGS[-1]}"  # as a help text says it


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Where the weights come from and where they run."""
    parser.add_argument("--weights", metavar="DIR", help="folder of weights (default: those in the package)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best that there is)")


def add_scale_option(parser: argparse.ArgumentParser) -> None:
    """How many times larger the result is."""
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4), default=4, help="enlargement (default: 4)")


def add_seed_option(parser: argparse.ArgumentParser, what: str) -> None:
    """What every random draw comes from."""
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help=f"{what} (default: 0)")


def read_photograph(path: Path) -> "Photograph":
    """An image file that can be restored, see `read_restorable`."""
    from blinddiff.sampling.output import read_restorable

    return read_restorable(path)


def is_one_of(path: str | Path, files: Iterable[Path | None]) -> bool:
    """Whether a path leads to one of the files that there are, links followed."""
    return os.path.realpath(path) in [os.path.realpath(file) for file in files if file is not None]


def check_kernel_outputs(paths: list[Path], *taken: Path | None, endings: tuple[str, ...] = KERNEL_ENDINGS) -> None:
    """Refuse now the kernel files that could not be written after the work, or that would replace files in use.

    Raises:
        OutputError: an unknown ending, a place that cannot be written to, or one of the files ``taken``.
    """
    from blinddiff.errors import OutputError
    from blinddiff.files import check_writable

    for path in paths:
        if path.suffix.lower() not in endings:
            raise OutputError(f"{path}: kernel files end in {', '.join(endings)}, not in {path.suffix!r}")
        if is_one_of(path, taken):
            raise OutputError(f"{path}: is another file of this run; choose another name for the kernel")
        check_writable(path)


def check_not_kernel(output: Path, kernel: Path | None) -> None:
    """Refuse a result that would replace the kernel that is given.

    Raises:
        OutputError: both are the same file.
    """
    from blinddiff.errors import OutputError

    if is_one_of(output, [kernel]):
        raise OutputError(f"{output}: is another file of this run, the kernel; choose another name for the result")


def load_pipeline(args: argparse.Namespace) -> "BlindDiffPipeline":
    """The pipeline that `add_model_options` asks for."""
    from blinddiff.sampling.pipeline import BlindDiffPipeline

    return BlindDiffPipeline.from_pretrained(args.weights, args.device)


def whole(low: int, high: int) -> "type[int]":
    """An argparse type: a whole number from ``low`` to ``high``."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    read.__name__ = "whole number"
    return read  # type: ignore[return-value]


def above_zero(text: str) -> float:
    """An argparse type: a number between 0 and a million."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000000")
    return value


def memory_size(text: str) -> int:
    """An argparse type: bytes, or with K, M, G or T the 1024, 1024^2, ... of them."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.strip().lower())
    size = 0 if found is None else int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))
    if not 0 < size < 2**60:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500M or 2G")
    return size


def make_folder(folder: Path) -> None:
    """Create a folder for results.

    Raises:
        OutputError: it cannot be made or written to.
    """
    from blinddiff.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: is not writable")


def kernel_words(kernel: Tensor, noise_level: float, expected_error: float | None = None) -> str:
    """Kernel and noise level for a person: widths in pixels of the result, angle in degrees; a warning if unknowable.

    Args:
        kernel: (n, m).
        noise_level: in grey levels.
        expected_error: of the kernel, see `BlindDiffOutput`; None where it was given.
    """
    from blinddiff.sampling.output import UNKNOWABLE

    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    turned = "" if is_round(major, minor) else f" at {angle:.0f} degrees"
    words = f"kernel {major:.2f} x {minor:.2f} px{turned}, noise {noise_level:.1f} grey levels"
    if expected_error is not None and expected_error >= UNKNOWABLE:
        words += f"; the kernel cannot be known from this picture (expected error {expected_error:.1f} of 2)"
    return words
