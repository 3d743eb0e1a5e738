"""The arguments of every command, the standard streams, and checks of files that a command will write.

Imports neither torch nor anything else that takes long: ``blinddiff upscale --help`` comes here.
"""

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from blinddiff.app import Limits
from blinddiff.errors import ImageError, OutputError
from blinddiff.files import check_writable

if TYPE_CHECKING:
    from torch import Tensor

STREAM = "-"
"""Names standard input or output on a command line."""
SAMPLE = Path(__file__).parents[1] / "samples" / "flowers.jpg"
DEFAULT_METHODS = ("bicubic", "closed-form", "fidelity", "oracle")
# Repeated from modules that import torch; a test compares them.
MODES = ("fidelity", "fast", "perceptual", "paper")
FORMATS = ("png", "tif", "jpg", "webp", "avif", "same")
KERNEL_ENDINGS = (".npy", ".mat", ".csv", ".txt", ".json", ".png")
_KERNEL_FORMATS = ", ".join(KERNEL_ENDINGS[:-1]) + f" or {KERNEL_ENDINGS[-1]}"
_PATH: dict[str, Any] = {"type": Path}
_FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
_DIR: dict[str, Any] = {"type": Path, "metavar": "DIR"}
_PART = 1 << 20


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
    """An argparse type: bytes; with K, M, G or T, the 1024, 1024^2, ... of them."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.strip().lower())
    size = 0 if found is None else int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))
    if not 0 < size < 2**60:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500M or 2G")
    return size


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="DIR", help="folder of weights (default: those in the package)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best that there is)")


def _add_scale_option(parser: argparse.ArgumentParser, what: str = "enlargement") -> None:
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4), default=4, help=f"{what} (default: 4)")


def _add_seed_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help=f"{what} (default: 0)")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff demo`."""
    add = parser.add_argument
    add("photograph", **_PATH, nargs="?", default=SAMPLE, help="another image file (default: the sample)")
    words = (
        "folder to write (default: demo); input, bicubic and result keep the photograph's grey, bits per channel, "
        "colour profile, EXIF and XMP, but not its transparency"
    )
    add("-o", "--output", **_PATH, default=Path("demo"), help=words)
    _add_model_options(parser)


def add_upscale_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff upscale`."""
    add = parser.add_argument
    add("photograph", **_PATH, help="the image file to restore, a folder of them, or - for standard input")
    words = "the file to write (.png, .tif, .jpg, .webp or .avif), the folder for results, or - for standard output"
    add("-o", "--output", **_PATH, required=True, help=words)
    _add_scale_option(parser)
    words = (
        "fidelity: smallest mean error; fast: nearly that, in half the time; perceptual: sharper, details partly "
        "invented; paper: the published sampler (default: fidelity)"
    )
    add("--mode", choices=MODES, default="fidelity", help=words)
    add("--steps", type=whole(1, 1000), help="steps of the sampler (default: the mode's own)")
    add("--kernel", **_PATH, help=f"the blur kernel, where it is known: {_KERNEL_FORMATS}")
    add("--noise-level", type=float, help="the noise in grey levels, where it is known")
    add("--save-kernel", **_FILE, help="also write the kernel that was found (of one photograph)")
    words = (
        "also estimate the kernel of each region, for blur that varies over the image, and write a picture of the map "
        "(.png; of one photograph); --json has its numbers"
    )
    add("--kernel-map", **_FILE, help=words)
    _add_seed_option(parser, "of the noise that the diffusion starts from")
    _add_model_options(parser)
    add("--format", choices=FORMATS, help="of results in a folder and on standard output (default: png)")
    words = "photographs restored in parallel, for folders (default: depends on the machine)"
    add("--jobs", type=whole(1, 256), metavar="N", help=words)
    add("--json", metavar="FILE", help="also write a line of JSON for each photograph there, or to standard output: -")
    words = "refuse larger photographs, against decompression bombs (default: 89.5)"
    add("--max-megapixels", type=above_zero, metavar="N", help=words)
    words = (
        "memory for the restoration, as 500M or 2G; images that need more are restored in tiles (default: half of the "
        "free memory)"
    )
    add("--max-memory", type=memory_size, metavar="SIZE", help=words)


def add_kernel_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff kernel`."""
    add = parser.add_argument
    add("photograph", **_PATH, help="the image file")
    words = f"write the kernel there: {_KERNEL_FORMATS}, by the extension; may be repeated"
    add("-o", "--output", **_PATH, action="append", default=[], help=words)
    _add_scale_option(parser)
    _add_model_options(parser)


def add_degrade_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff degrade`."""
    add = parser.add_argument
    add("photograph", **_PATH, help="the sharp image file")
    words = (
        "the degraded file to write: .png, .tif, .jpg, .webp or .avif; grey, bits per channel, colour profile, EXIF "
        "and XMP stay as the photograph's where the format holds them, transparency does not"
    )
    add("-o", "--output", **_PATH, required=True, help=words)
    _add_scale_option(parser)
    blur = parser.add_mutually_exclusive_group(required=True)
    blur.add_argument("--sigma", type=float, help="Gaussian blur of this width, in pixels of the sharp photograph")
    blur.add_argument("--kernel", **_FILE, help=f"blur kernel: {_KERNEL_FORMATS}")
    blur.add_argument("--family", help="a random kernel of a family, such as isotropic, anisotropic, motion or disk")
    add("--noise", type=float, default=0.0, metavar="SIGMA", help="Gaussian noise in grey levels (default: 0)")
    add("--jpeg", type=whole(1, 100), metavar="QUALITY", help="compress before writing")
    _add_seed_option(parser, "of the noise and the random kernel")
    add("--save-kernel", **_FILE, help=f"also write the kernel: {_KERNEL_FORMATS}")


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff convert`."""
    parser.add_argument("checkpoint", **_PATH, help="the authors' file: .pth or .safetensors")
    parser.add_argument("folder", **_PATH, help="the folder to make, for --weights; use it with --mode paper")
    _add_scale_option(parser, "of its training")


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff train`."""
    add = parser.add_argument
    add("recipe", **_PATH, help="a YAML file, such as those in the folder recipes")
    default = "the recipe's, or the environment variable BLINDDIFF_PHOTOGRAPHS"
    add("--data", nargs="+", metavar="FOLDER", help=f"folders of training photographs (default: {default})")
    add("-o", "--output", **_PATH, help="folder of the run (default: runs/ and the recipe's name)")
    add("--resume", action="store_true", help="continue from the folder's last checkpoint")
    add("--max-minutes", type=float, default=math.inf, metavar="N", help="stop after so long; --resume continues")
    add("--device", choices=("cpu",), help="do not use an accelerator")


def add_app_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff app`."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: this machine only)")
    add("--port", type=whole(1, 65535), help="default: the first free one from 7860")
    _add_model_options(parser)
    words = "of one result, all samples together (default: %(default)g)"
    add("--max-megapixels", type=above_zero, default=Limits.megapixels, metavar="N", help=words)
    words = "of one file (default: %(default)g)"
    add("--max-upload", type=above_zero, default=Limits.upload_megabytes, metavar="MB", help=words)
    words = "visitors who may wait (default: %(default)s)"
    add("--queue", type=whole(1, 10000), default=Limits.queue, metavar="N", help=words)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff evaluate`."""
    # Imported here, because they bring torch: other commands need not wait for it.
    from blinddiff.evaluation.methods import METHODS
    from blinddiff.evaluation.protocols import PROTOCOLS

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        [
            "protocols:",
            *(f"  {name:<18} {p.degradation}; scales {', '.join(map(str, p.scales))}" for name, p in PROTOCOLS.items()),
            "",
            "methods:",
            *(f"  {name:<24} {entry.summary}" for name, entry in METHODS.items()),
            "  NAME@STEPS               any of this package's with another number of steps, as in perceptual@20",
        ]
    )
    add = parser.add_argument
    add("--protocol", required=True, choices=PROTOCOLS, metavar="NAME", help="how test images are made")
    add("--scale", type=int, help="1 to 4; 4 if the protocol has it")
    add("--sets", nargs="+", metavar="SET", help="test sets (default: the protocol's usual ones)")
    words = f"what is compared (default: {' '.join(DEFAULT_METHODS)}; oracle only where the true kernel is known)"
    add("--methods", nargs="+", metavar="METHOD", help=words)
    add("--data", **_DIR, help="folder of test sets (default: $BLINDDIFF_DATA)")
    add("--out", **_DIR, help="folder of log, record and report; a killed run resumes there")
    add("--limit", type=int, metavar="N", help="only the first N images of each set")
    add("--workers", type=int, default=1, metavar="N", help="parallel processes (default: 1)")
    add("--weights", **_DIR, help="folder of weights (default: those in the package)")
    words = "one more method: this package with the weights in a folder, such as a converted checkpoint; repeatable"
    add("--checkpoint", action="append", default=[], metavar="NAME=DIR", help=words)
    add("--ablations", action="store_true", help="also every ablation that can be measured")
    words = "folder of the weights that recipes/ablations train: DIR/full, DIR/no_modulation, DIR/no_kernel_loss"
    add("--ablation-weights", **_DIR, help=words)
    add("--device", help="cpu, cuda or mps (default: chosen)")
    add("--seed", type=int, default=0, help="of degradations and methods (default: 0)")
    add("--external", **_DIR, help="results of another program: the method 'external'")
    add("--no-costs", action="store_true", help="leave out memory, multiplications and parameters")
    add("--no-pictures", action="store_true", help="leave the pictures out of report.html")
    add("--export", **_DIR, help="only write the LR and HR images and kernels there")


def open_closed_streams() -> None:
    """Replace standard streams that the program was started without by empty ones that discard output.

    This also takes their file descriptors: otherwise the next opened file, such as a photograph, would get one of them,
    and with it everything that a library prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - kept open


def read_standard_input(most: int) -> bytes:
    """Standard input to its end.

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
    """Refuse to write an image to a terminal, or to a closed stream.

    Raises:
        OutputError: standard output is a terminal, or was closed before the program began.
    """
    if sys.__stdout__ is None:
        raise OutputError("standard output: is closed")
    if sys.stdout.isatty():
        raise OutputError("standard output: is a terminal; send it to a file or another program")


def write_standard_output(data: bytes) -> None:
    """Write all bytes. Raises OutputError if the reader has gone, or the disk is full."""
    with _one_line_errors(sys.stdout, "standard output"):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def say(line: str, to_stderr: bool = False) -> None:
    """Print a line. Raises OutputError if the reader has gone, or the disk is full."""
    stream = sys.stderr if to_stderr else sys.stdout
    with _one_line_errors(stream, "standard error" if to_stderr else "standard output"):
        print(printable(line, stream), file=stream, flush=True)


@contextlib.contextmanager
def _one_line_errors(stream: TextIO, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Discard what is left in the buffer: it would fail a second time when the program ends.
        with contextlib.suppress(OSError):  # a stream without a file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        raise OutputError(f"{name}: cannot be written: {error.strerror}") from error


def printable(text: str, stream: TextIO) -> str:
    """The text with what a stream's encoding cannot hold escaped: file names may be any bytes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def is_one_of(path: str | Path, files: Iterable[Path | None]) -> bool:
    """Whether a path leads to one of the files, links followed; None stands for no file."""
    return os.path.realpath(path) in [os.path.realpath(file) for file in files if file is not None]


def check_kernel_outputs(paths: list[Path], *taken: Path | None, endings: tuple[str, ...] = KERNEL_ENDINGS) -> None:
    """Refuse, before the work, kernel files that cannot be written or would replace another file of the run.

    Raises:
        OutputError: an unknown extension, a place that cannot be written to, or one of the files ``taken``.
    """
    for path in paths:
        if path.suffix.lower() not in endings:
            raise OutputError(f"{path}: kernel files end in {', '.join(endings)}, not in {path.suffix!r}")
        if is_one_of(path, taken):
            raise OutputError(f"{path}: is another file of this run; choose another name for the kernel")
        check_writable(path)


def check_not_kernel(output: Path, kernel: Path | None) -> None:
    """Refuse a result that would replace the given kernel.

    Raises:
        OutputError: both are the same file.
    """
    if is_one_of(output, [kernel]):
        raise OutputError(f"{output}: is another file of this run, the kernel; choose another name for the result")


def kernel_words(kernel: "Tensor", noise_level: float, expected_error: float | None = None) -> str:
    """Kernel and noise level in words: widths in pixels of the result, angle in degrees; a warning if unreliable.

    Args:
        kernel: (n, m).
        noise_level: in grey levels.
        expected_error: of the kernel, see `BlindDiffOutput`; None where it was given.
    """
    from blinddiff.degradation.kernel_measures import is_round, widths_and_angle
    from blinddiff.sampling.output import UNKNOWABLE

    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    direction = "" if is_round(major, minor) else f" at {angle:.0f} degrees"
    words = f"kernel {major:.2f} x {minor:.2f} px{direction}, noise {noise_level:.1f} grey levels"
    if expected_error is not None and expected_error >= UNKNOWABLE:
        words += f"; the kernel cannot be known from this picture (expected error {expected_error:.1f} of 2)"
    return words
