"""The arguments of every command, and the standard streams.

Imports no slow module, such as torch, so that ``--help`` is fast.
"""

import argparse
import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from blinddiff.app import Limits
from blinddiff.errors import ImageError, OutputError
from blinddiff.sampling.modes import ENGINES, MODES

STREAM = "-"
"""Stands for standard input or output on a command line."""
TOKEN_VARIABLE = "BLINDDIFF_TOKEN"
"""The environment variable with the token of the server. Other users could read an option in the list of processes."""
SAMPLE = Path(__file__).parents[1] / "samples" / "flowers.jpg"
GRAPH_MODES = ("fidelity", "fast")
DEFAULT_METHODS = ("bicubic", "closed-form", "fidelity", "oracle")
# These repeat values of modules that are slow to import; a test compares them.
DPI_RULES = ("scale", "keep")
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
FORMATS = ("png", "tif", "jpg", "webp", "avif", "jxl", "same")
KERNEL_ENDINGS = (".npy", ".mat", ".csv", ".txt", ".json", ".png")
_KERNEL_FORMATS = ", ".join(KERNEL_ENDINGS[:-1]) + f" or {KERNEL_ENDINGS[-1]}"
_PATH: dict[str, Any] = {"type": Path}
_FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}
_DIR: dict[str, Any] = {"type": Path, "metavar": "DIR"}


def integer_between(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an integer from ``low`` to ``high``."""

    def read(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    read.__name__ = "integer"  # in argparse's messages
    return read


def _scale(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 1 <= (value := float(text)) <= 8:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a number from 1 to 8")


def _gpu_share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.01 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text} is not a number from 0.01 to 1")


_PIXELS = integer_between(1, 999_999)


def above_zero(text: str) -> float:
    """An argparse type: a number greater than 0 and less than a million."""
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < 1e6:
            return value
    raise argparse.ArgumentTypeError(f"{text} must be greater than 0 and less than 1000000")


def memory_size(text: str) -> int:
    """An argparse type: a size in bytes, with an optional unit K, M, G or T (powers of 1024)."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.strip().lower())
    size = 0 if found is None else int(float(found[1]) * 1024 ** " kmgt".index(found[2] or " "))
    if not 0 < size < 2**60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid size; use for example 500M or 2G")
    return size


def _photograph(text: str) -> Path | str:
    """A path, or the unchanged text of a URI such as s3://bucket/folder."""
    return text if "://" in text else Path(text)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="DIR", help="folder of weights (default: the included weights)")
    parser.add_argument("--device", help="cpu, cuda or mps (default: cuda or mps if available, else cpu)")
    _add_threads_option(parser)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    text = (
        "torch, or onnx for graphs of blinddiff export in --weights, which need no torch; auto: torch where there is a "
        "GPU or no graphs are found (default: auto)"
    )
    parser.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    _add_model_options(parser)


def _add_threads_option(parser: argparse.ArgumentParser) -> None:
    text = "processor threads to use (default: one per core)"
    parser.add_argument("--threads", type=integer_between(1, 1024), metavar="N", help=text)


def set_threads(number: int | None) -> None:
    """Set the number of threads, which worker processes share; None keeps the default."""
    if number is not None:
        from blinddiff.restoring import pool

        pool.set_threads(number)


def _add_scale_option(parser: argparse.ArgumentParser, meaning: str = "enlargement") -> None:
    parser.add_argument("--scale", type=int, choices=(1, 2, 3, 4), default=4, help=f"{meaning} (default: 4)")


def _add_page_option(parser: argparse.ArgumentParser) -> None:
    text = "page of a TIFF file of several pages, from 1"
    parser.add_argument("--page", type=integer_between(1, 1000), metavar="N", help=text)


def _add_seed_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--seed", type=integer_between(0, 2**63 - 1), default=0, help=f"{meaning} (default: 0)")


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff demo`."""
    add = parser.add_argument
    add("photograph", **_PATH, nargs="?", default=SAMPLE, help="another image file (default: the sample)")
    text = (
        "folder for the kernel and the pictures (default: demo); input.png, bicubic.png and result.png have the bit "
        "depth, colour profile, EXIF and XMP of the photograph, and are grey if it is grey; transparency is dropped"
    )
    add("-o", "--output", **_PATH, default=Path("demo"), help=text)
    _add_engine_options(parser)


def add_upscale_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff upscale`."""
    add = parser.add_argument
    text = (
        "image files or patterns such as '*.jpg', a folder of them, or - for standard input; with --engine-cluster, a "
        "folder or the URI of one, such as s3://bucket/folder"
    )
    add("photograph", type=_photograph, nargs="+", help=text)
    text = (
        "file to write (.png, .tif, .jpg, .webp, .avif or .jxl), folder for the results, or - for standard output "
        "(default: photo_x4.png beside photo.jpg, and the folder album_x4 beside album); a folder keeps a list of "
        "finished photographs, .blinddiff-ledger.jsonl, so that the next run skips them"
    )
    add("-o", "--output", metavar="OUTPUT", help=text)  # as text, because a final slash counts
    size = parser.add_mutually_exclusive_group()
    text = "enlargement, 1 to 8 (default: 4); above 4 in two passes; factors such as 1.5 are reduced from a larger one"
    size.add_argument("--scale", type=_scale, metavar="N", help=text)
    size.add_argument("--longest", type=_PIXELS, metavar="N", help="longer side of the result in pixels")
    size.add_argument("--megapixels", type=above_zero, metavar="N", help="size of the result in megapixels")
    text = "width of the result in pixels; with --height, the result is the largest that fits into both"
    add("--width", type=_PIXELS, metavar="N", help=text)
    add("--height", type=_PIXELS, metavar="N", help="height of the result in pixels")
    _add_page_option(parser)
    text = (
        "fidelity: smallest mean error; fast: slightly larger error, half the time; perceptual: sharper, details "
        "partly invented; paper: the published sampler, for weights from blinddiff convert only (default: fidelity, or "
        "the mode of the graphs)"
    )
    add("--mode", choices=MODES, help=text)
    add("--steps", type=integer_between(1, 1000), help="number of steps of the sampler (default: set by the mode)")
    text = "number of restorations with different noise; the result is only their mean (default: 1)"
    add("--samples", type=integer_between(1, 64), default=1, metavar="N", help=text)
    text = "also write the standard deviation of the samples, as a grey image; the printed line says how much white is"
    add("--std", **_FILE, help=f"{text} (single photograph only)")
    text = "also write a picture of input, bicubic interpolation and result (single photograph only)"
    add("--compare", **_FILE, help=text)
    text = (
        "restore each picture as a photograph at its own size; otherwise one that was enlarged is reduced first, "
        "and a result that does not agree with the photograph is replaced by a milder one"
    )
    add("--as-is", action="store_true", help=text)
    text = f"file of the blur kernel, if it is known: {_KERNEL_FORMATS}; in pixels of the result of the given --scale"
    add("--kernel", **_PATH, help=text)
    text = "standard deviation of the noise, 0 to 255 grey levels, if it is known"
    add("--noise-level", type=float, help=text)
    text = (
        "grey picture of the photograph's size, white where it is not to be believed, such as scratches; these pixels "
        "are filled (single photograph only)"
    )
    add("--mask", **_FILE, help=text)
    add("--save-kernel", **_FILE, help=f"also write the kernel: {_KERNEL_FORMATS} (single photograph only)")
    text = (
        "estimate the kernel of each region and restore the region with it, for blur that varies over the photograph, "
        "and write a picture of all kernels (.png; single photograph only); --json contains the values"
    )
    add("--kernel-map", **_FILE, help=text)
    _add_seed_option(parser, "seed of the initial noise of the diffusion")
    _add_engine_options(parser)
    text = "format of results in a folder or on standard output; same: that of the photograph (default: png)"
    add("--format", choices=FORMATS, help=text)
    text = "quality of JPEG, WebP and AVIF files (default: 95, for AVIF 90)"
    add("--quality", type=integer_between(1, 100), metavar="N", help=text)
    text = "colour resolution of JPEG and AVIF files (default: 4:4:4, for AVIF 4:2:0)"
    add("--subsampling", choices=SUBSAMPLINGS, help=text)
    text = "dots per inch of the result: scale them, so that the printed size stays, or keep them (default: scale)"
    add("--dpi", choices=DPI_RULES, default=DPI_RULES[0], help=text)
    text = "number of photographs of a folder restored in parallel (default: depends on the machine)"
    add("--jobs", type=integer_between(1, 256), metavar="N", help=text)
    text = "restore the photographs of a folder or a URI on a cluster of Ray, or on this machine if there is none"
    add("--engine-cluster", choices=("ray",), help=text)
    text = "worker processes of the cluster, each with --threads cores (default: one per GPU, or as many as fit)"
    add("--num-workers", type=integer_between(1, 9999), metavar="N", help=text)
    text = "share of a GPU that each of these processes gets (default: 1); at 0.5, two share one"
    add("--gpus-per-worker", type=_gpu_share, metavar="SHARE", help=text)
    text = (
        "also write JSON Lines, one line per photograph, to this file (such as record.jsonl) or to standard output (-)"
    )
    add("--json", metavar="FILE", help=text)
    text = "reject larger photographs, as a protection against decompression bombs (default: 89.5)"
    add("--max-megapixels", type=above_zero, metavar="N", help=text)
    text = (
        "memory for the restoration, such as 500M or 2G; images that need more are restored in tiles (default: half of "
        "the free memory)"
    )
    add("--max-memory", type=memory_size, metavar="SIZE", help=text)
    text = "print the size of each result, tiles, memory and expected time; write nothing"
    add("--dry-run", action="store_true", help=text)
    add("-y", "--yes", action="store_true", help="do not ask before a restoration of more than five minutes")
    verbosity = parser.add_mutually_exclusive_group()
    text = "print only errors, and no progress bar, which otherwise appears on a terminal"
    verbosity.add_argument("-q", "--quiet", action="store_true", help=text)
    text = "print the plan of every photograph, and the sizes of files"
    verbosity.add_argument("-v", "--verbose", action="store_true", help=text)


def add_kernel_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff kernel`."""
    add = parser.add_argument
    add("photograph", **_PATH, help="image file")
    text = (
        f"file to write the kernel to: {_KERNEL_FORMATS}; the extension sets the format; may be repeated, or left out"
    )
    add("-o", "--output", **_PATH, action="append", default=[], help=text)
    _add_scale_option(parser, "scale of the restoration that the kernel is for; it is in pixels of that result")
    _add_page_option(parser)
    _add_engine_options(parser)


def add_degrade_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff degrade`."""
    add = parser.add_argument
    add("photograph", **_PATH, help="sharp image file")
    text = (
        "degraded image file to write (.png, .tif, .jpg, .webp, .avif or .jxl), or folder for photo_degraded.png; it "
        "keeps bit depth, colour profile and metadata if the format supports them, and is grey if the photograph is "
        "grey; transparency is dropped"
    )
    add("-o", "--output", metavar="OUTPUT", required=True, help=text)
    _add_scale_option(parser, "reduction")
    blur = parser.add_mutually_exclusive_group(required=True)
    text = "Gaussian blur of this standard deviation, in pixels of the sharp photograph"
    blur.add_argument("--sigma", type=float, help=text)
    blur.add_argument("--kernel", **_FILE, help=f"file of the blur kernel: {_KERNEL_FORMATS}")
    blur.add_argument("--family", help="a random kernel of this family, such as isotropic, anisotropic, motion or disk")
    add("--noise", type=float, default=0.0, metavar="SIGMA", help="Gaussian noise in grey levels (default: 0)")
    text = "apply JPEG compression of this quality (1 to 100) to the degraded image"
    add("--jpeg", type=integer_between(1, 100), metavar="QUALITY", help=text)
    _add_seed_option(parser, "seed of the noise and the random kernel")
    add("--save-kernel", **_FILE, help=f"also write the kernel: {_KERNEL_FORMATS}")


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff convert`."""
    parser.add_argument("checkpoint", **_PATH, help="the authors' checkpoint: .pth or .safetensors")
    parser.add_argument("folder", **_PATH, help="folder to create; use it as --weights with --mode paper")
    _add_scale_option(parser, "scale that the checkpoint was trained for")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff export`."""
    add = parser.add_argument
    add("folder", **_PATH, help="folder for the graphs, their description and a card; made if needed")
    text = "scales; each has graphs of its own (default: all of the network)"
    add("--scales", type=int, nargs="+", choices=(1, 2, 3, 4), metavar="N", help=text)
    text = "modes of the graphs, the default of the engine first (default: fast)"
    add("--modes", nargs="+", choices=GRAPH_MODES, default=["fast"], metavar="MODE", help=text)
    add("--weights", metavar="DIR", help="folder of weights (default: the included weights)")
    _add_threads_option(parser)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff train`."""
    add = parser.add_argument
    add("recipe", **_PATH, help="YAML file, such as those in the folder recipes")
    default = "those of the recipe, or of the environment variable BLINDDIFF_PHOTOGRAPHS"
    add("--data", nargs="+", metavar="FOLDER", help=f"folders of training photographs (default: {default})")
    add("-o", "--output", **_PATH, help="folder of the run (default: runs/NAME for NAME.yaml)")
    add("--resume", action="store_true", help="continue from the last checkpoint in the folder")
    add("--max-minutes", type=float, default=math.inf, metavar="N", help="stop after N minutes; --resume continues")
    add("--device", choices=("cpu",), help="do not use an accelerator")
    _add_threads_option(parser)


def add_app_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff app`."""
    _add_server_options(parser)
    text = "port to listen on (default: the first free port from 7860)"
    parser.add_argument("--port", type=integer_between(1, 65535), help=text)


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff serve`."""
    _add_server_options(parser)
    text = "port to listen on (default: %(default)s)"
    parser.add_argument("--port", type=integer_between(1, 65535), default=7860, help=text)
    text = "seconds that a request may take, waiting included (default: %(default)g)"
    parser.add_argument("--deadline", type=above_zero, default=Limits.seconds, metavar="SECONDS", help=text)


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (default: this machine only)")
    _add_model_options(parser)
    text = "largest result in megapixels, all samples together (default: %(default)g)"
    add("--max-megapixels", type=above_zero, default=Limits.megapixels, metavar="N", help=text)
    text = "largest uploaded file in megabytes (default: %(default)g)"
    add("--max-upload", type=above_zero, default=Limits.upload_megabytes, metavar="MB", help=text)
    text = "requests that may wait (default: %(default)s)"
    add("--queue", type=integer_between(1, 10000), default=Limits.queue, metavar="N", help=text)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff evaluate`."""
    # Imported here: these modules import torch, which the help of the other commands does not need.
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
            "  NAME@STEPS               a method of this package with another number of steps, such as perceptual@20",
        ]
    )
    add = parser.add_argument
    add("--protocol", required=True, choices=PROTOCOLS, metavar="NAME", help="how the test images are made")
    add("--scale", type=int, help="1 to 4 (default: 4 if the protocol supports it)")
    add("--sets", nargs="+", metavar="SET", help="test sets (default: the protocol's usual ones)")
    text = f"methods to compare (default: {' '.join(DEFAULT_METHODS)}; oracle only if the true kernel is known)"
    add("--methods", nargs="+", metavar="METHOD", help=text)
    add("--data", **_DIR, help="folder of test sets (default: $BLINDDIFF_DATA)")
    add("--out", **_DIR, help="folder for log, record and report; run again with the same folder to resume")
    add("--limit", type=int, metavar="N", help="only the first N images of each set")
    add("--workers", type=int, default=1, metavar="N", help="number of parallel processes (default: 1)")
    add("--weights", **_DIR, help="folder of weights (default: the included weights)")
    text = "add a method: this package with the weights in a folder, such as a converted checkpoint; may be repeated"
    add("--checkpoint", action="append", default=[], metavar="NAME=DIR", help=text)
    add("--ablations", action="store_true", help="add all ablations; trained ones only if --ablation-weights has them")
    text = "folder of the weights that recipes/ablations train: DIR/full, DIR/no_modulation, DIR/no_kernel_loss"
    add("--ablation-weights", **_DIR, help=text)
    add("--device", help="cpu, cuda or mps (default: cuda or mps if available, else cpu)")
    _add_threads_option(parser)
    text = "seed of degradations and methods (default: 0); with several, also the standard deviation of their means"
    add("--seed", type=int, nargs="+", default=[0], help=text)
    text = "add a method: the results of another program in DIR (without NAME=, it is 'external'); may be repeated"
    add("--external", action="append", default=[], metavar="NAME=DIR", help=text)
    text = "folder of weights: LPIPS (alexnet-owt-7be5be79.pth, alex.pth) or DISTS (vgg16-397923af.pth, weights.pt)"
    add("--learned-weights", **_DIR, help=text)
    text = "also write all results as CSV and every table of the report as LaTeX, to the folder tables in --out"
    add("--export-tables", action="store_true", help=text)
    add("--no-costs", action="store_true", help="do not measure memory, multiplications and parameters")
    add("--no-pictures", action="store_true", help="do not include pictures in report.html")
    add("--export", **_DIR, help="only write the LR images, HR images and kernels to this folder; evaluate nothing")


def open_closed_streams() -> None:
    """Open the null device for each standard stream that was closed at start.

    Otherwise the next opened file would get the closed descriptor, and libraries could write their output into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - kept open


def read_stream(stream: BinaryIO, name: str, max_bytes: int) -> bytes:
    """Read a stream to its end. Raises ImageError if it is longer than ``max_bytes``, or cannot be read."""
    data = bytearray()
    try:
        while chunk := stream.read(1 << 20):
            data += chunk
            if len(data) > max_bytes:
                raise ImageError(f"{name}: is larger than any image within the pixel limit (--max-megapixels)")
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror}") from error
    return bytes(data)


def check_standard_output() -> None:
    """Raise OutputError if standard output is a terminal, or was closed at start: no image can be written to it."""
    if sys.__stdout__ is None:
        raise OutputError("standard output: is closed")
    if sys.stdout.isatty():
        raise OutputError("standard output: is a terminal; send it to a file or another program")


def write_standard_output(data: bytes, stream: TextIO | None = None) -> None:
    """Write all bytes. Raises OutputError if the reader has closed the pipe, or the disk is full.

    ``stream`` is standard output if `sys.stdout` is redirected.
    """
    stream = stream or sys.stdout
    with _as_output_error(stream, "standard output"):
        stream.buffer.write(data)
        stream.buffer.flush()


def print_line(line: str, to_stderr: bool = False) -> None:
    """Print a line. Raises OutputError if the reader has closed the pipe, or the disk is full."""
    stream = sys.stderr if to_stderr else sys.stdout
    with _as_output_error(stream, "standard error" if to_stderr else "standard output"):
        print(printable(line, stream), file=stream, flush=True)


@contextlib.contextmanager
def _as_output_error(stream: TextIO, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Discard the rest of the buffer: writing it would fail again when the program ends.
        with contextlib.suppress(OSError):  # the stream has no descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        raise OutputError(f"{name}: cannot be written: {error.strerror}") from error


def printable(text: str, stream: TextIO) -> str:
    """Escape the characters that a stream's encoding cannot represent: file names may contain any bytes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
