"""What `blinddiff upscale` does around a restoration: patterns, pipes, names of results, the plan, the progress bar."""

import argparse
import contextlib
import glob
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from blinddiff import imaging
from blinddiff.cli import options
from blinddiff.cli.options import STREAM, print_line
from blinddiff.errors import ImageError, ParameterError
from blinddiff.restoring.folder import SAME, suffix_of_format
from blinddiff.restoring.photograph import RestoreSettings, read_restorable
from blinddiff.restoring.plan import CALIBRATION_SIDE, duration, plan_restoration
from blinddiff.sampling.engine import Engine

ASK_SECONDS = 300
"""Expected duration above which a terminal is asked before the first step."""
TELL_SECONDS = 10
"""Expected duration from which the plan is printed."""
_SHORT = 8 * CALIBRATION_SIDE**2
"""HR pixels times steps that take little longer than measuring how long they would take."""


def expand(arguments: Sequence[Path]) -> list[Path]:
    """The files that arguments name, each once. Patterns are expanded for shells that leave that to programs.

    Raises ImageError if a pattern matches no file.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        matches = [argument]
        if glob.has_magic(str(argument)) and not os.path.lexists(argument):
            names = sorted(glob.glob(str(argument), recursive=True))
            matches = [Path(name) for name in names if not os.path.isdir(name)]
            if not matches:
                raise ImageError(f"{argument}: no file has such a name")
        for match in matches:
            found.setdefault(os.path.realpath(match) if str(match) != STREAM else STREAM, match)
    return list(found.values())


def is_standard_input(path: Path) -> bool:
    """Whether a photograph comes from standard input."""
    return str(path) in (STREAM, "/dev/stdin")


def name_of(path: Path) -> str:
    """The name of a photograph in messages."""
    return "standard input" if is_standard_input(path) else str(path)


def is_stream(path: Path) -> bool:
    """Whether a photograph comes from standard input or a pipe, so that it has no name and can be read only once."""
    if is_standard_input(path):
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_photograph(path: Path, max_pixels: int = imaging.MAX_PIXELS, page: int | None = None) -> imaging.Photograph:
    """`read_restorable`, also for ``-``, ``/dev/stdin`` and pipes such as those of ``<(command)``.

    Prints the photograph's notes on standard error.
    """
    name = name_of(path)
    source = _read_pipe(path, imaging.largest_file(max_pixels)) if is_stream(path) else path
    photograph = read_restorable(source, max_pixels, name, page)
    print_notes(name, photograph.notes)
    return photograph


def print_notes(name: str, notes: Sequence[str]) -> None:
    """Print notes on a photograph on standard error, one line each."""
    for note in notes:
        print_line(f"{name}: {note}", to_stderr=True)


def _read_pipe(path: Path, limit: int) -> bytes:
    if is_standard_input(path):
        return options.read_stream(sys.stdin.buffer, name_of(path), limit)
    try:
        with open(path, "rb") as pipe:
            return options.read_stream(pipe, str(path), limit)
    except OSError as error:
        raise ImageError(f"{path}: cannot be opened: {error.strerror}") from error


def output_path(
    args: argparse.Namespace, source: Path, photograph: imaging.Photograph, settings: RestoreSettings
) -> Path:
    """The file for a result: that of --output, or photo_x4.png in its folder, or else beside the photograph.

    Raises ParameterError if the photograph is read from a pipe and its result needs a name.
    """
    output = None if args.output is None else Path(args.output)
    if output is not None and not (len(args.photograph) > 1 or is_folder(args.output)):
        if args.format is not None:
            reason = f"the extension of {output} sets the format"
            raise ParameterError(f"--format: applies only to folders and standard output; {reason}")
        return output
    if is_stream(source):
        raise ParameterError("-o: is required for a photograph from a pipe, because it has no name")
    label = settings.size_label(*photograph.pixels.shape[-2:])
    stem = source.stem if imaging.has_image_name(source) else source.name
    return (source.parent if output is None else output) / f"{stem}_{label}{output_suffix(args, photograph)}"


def output_suffix(args: argparse.Namespace, photograph: imaging.Photograph) -> str:
    """The extension of a result without a given name: that of --format."""
    return suffix_of_format(photograph.file_format) if args.format == SAME else f".{args.format or 'png'}"


def is_folder(output: str) -> bool:
    """Whether an output is a folder: it exists, or its name ends in a slash."""
    return os.path.isdir(output) or output.endswith(("/", os.sep))


def is_new_folder(given: str | None, output: Path) -> bool:
    """Whether --output is a folder that has to be made for a result, after all checks."""
    return given is not None and is_folder(given) and not output.parent.is_dir()


def announce(
    sizes: Sequence[tuple[int, int]],
    settings: RestoreSettings,
    load: Callable[[], Engine],
    args: argparse.Namespace,
) -> None:
    """Print the plan for photographs of sizes (height, width) if it is long; ask a terminal if it is very long.

    Raises ParameterError if the answer is no.
    """
    work = sum(height * width * settings.factor(height, width) ** 2 for height, width in sizes)
    if work * settings.number_of_steps * settings.samples < _SHORT and not args.verbose:
        return
    line, seconds = describe_plan(sizes, settings, load())
    if (seconds >= TELL_SECONDS or args.verbose) and not args.quiet:
        print_line(line, to_stderr=True)
    if seconds > ASK_SECONDS and not args.yes and sys.stdin.isatty() and sys.stderr.isatty():
        print(f"This takes about {duration(seconds)}. Continue? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ParameterError("not started; nothing is written (--yes starts without asking)")


def describe_plan(sizes: Sequence[tuple[int, int]], settings: RestoreSettings, engine: Engine) -> tuple[str, float]:
    """The plan for photographs of sizes (height, width), as one line, and its seconds."""
    plans = [plan_restoration(*size, settings, engine) for size in sizes]
    seconds = sum(plan.seconds for plan in plans)
    if len(plans) == 1:
        return plans[0].sentence(), seconds
    megapixels = sum(plan.height * plan.width for plan in plans) / 1e6
    return f"{len(plans)} photographs; results of {megapixels:.1f} megapixels; about {duration(seconds)}", seconds


def stored_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Height and width of the image files that Pillow can open, from their first bytes."""
    sizes = []
    for path in paths:
        with contextlib.suppress(Exception), warnings.catch_warnings():  # what cannot be read is reported later
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                sizes.append((picture.height, picture.width))
    return sizes


@contextlib.contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[float], object]]:
    """A bar on a terminal; yields the function that sets its share, 0 to 1."""
    # The delay keeps the bar from appearing before an immediate error message; None hides it without a terminal.
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=100, desc=title, bar_format=form, delay=0.1, disable=quiet or None) as bar:
        stop = threading.Event()

        def tick() -> None:  # so that the clock runs during a long step
            while not stop.wait(1):
                bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        if not bar.disable:
            thread.start()
        try:
            yield lambda share: bar.update(100 * share - bar.n)
        finally:
            stop.set()
            if thread.is_alive():
                thread.join()
