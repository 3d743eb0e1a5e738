"""`blinddiff upscale`: a photograph in, the sharp photograph out; or a folder of them."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

from blinddiff.cli.options import (
    KERNEL_ENDINGS,
    KERNEL_FORMATS,
    above_zero,
    add_model_options,
    add_scale_option,
    add_seed_option,
    check_kernel_outputs,
    check_not_kernel,
    load_pipeline,
    memory_size,
    whole,
)
from blinddiff.cli.streams import STREAM, check_json, say, write_standard_output
from blinddiff.degradation.kernel_files import read_kernel
from blinddiff.errors import OutputError, ParameterError
from blinddiff.files import write_file
from blinddiff.restoring.folder import SAME, Listener, restore_folder
from blinddiff.restoring.journal import LEDGER
from blinddiff.restoring.photograph import Record, RestoreSettings
from blinddiff.sampling.modes import MODES

if TYPE_CHECKING:
    from blinddiff.imaging import Photograph
    from blinddiff.restoring.photograph import RestoreSettings


def run_folder(args: argparse.Namespace, settings: RestoreSettings) -> int:
    """Restore a folder; 0 if every photograph could be, else 1."""
    _check(args)
    suffix = SAME if args.format == SAME else f".{args.format or 'png'}"
    aside = args.json == STREAM
    started = time.perf_counter()
    with _Progress(args, aside) as progress:
        listener = Listener(begin=progress.begin, note=lambda line: say(line, aside), record=progress.record)
        report = restore_folder(args.photograph, args.output, settings, suffix, args.jobs, listener)
    for _, reason in report.failures:
        say(f"blinddiff upscale: {' '.join(reason.split())}", aside=True)
    before = f", {report.skipped} done before" if report.skipped else ""
    failed = f", {len(report.failures)} failed" if report.failures else ""
    say(f"{args.output}: {report.done} restored{before}{failed}; {time.perf_counter() - started:.1f} s", aside)
    return 1 if report.failures else 0


def _check(args: argparse.Namespace) -> None:
    """Find now what would fail for every file."""
    if str(args.output) == STREAM:
        raise ParameterError(f"{args.photograph}: is a folder, which does not fit into standard output")
    if args.save_kernel is not None:
        raise ParameterError("--save-kernel: is for one photograph; --json writes the kernels of a folder")
    if args.kernel_map is not None:
        raise ParameterError("--kernel-map: is for one photograph")
    if os.path.exists(args.output) and not os.path.isdir(args.output):
        raise OutputError(f"{args.output}: is a file; the results of a folder need one too")
    check_json(args.json, args.photograph, args.output, args.output / LEDGER, args.kernel)
    if args.kernel is not None:
        read_kernel(args.kernel)


class _Progress:
    """One bar with the time left, and the records."""

    def __init__(self, args: argparse.Namespace, aside: bool) -> None:
        self._file = None if aside else args.json
        self._to_stream = aside
        self._lines: list[str] = []
        self._begun = False
        # On a terminal only: a log is better off without.
        self._bar: tqdm[NoReturn] = tqdm(unit="file", disable=None)

    def begin(self, what: str, count: int) -> None:
        self._begun = True
        self._bar.set_description_str(what, refresh=False)
        self._bar.reset(count)

    def record(self, record: Record) -> None:
        self._bar.update()
        if self._to_stream:
            write_standard_output(record.line().encode() + b"\n")
        elif self._file is not None:
            self._lines.append(record.line() + "\n")

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        # Once begun, there are records, if only of nothing: an interrupted run leaves none of an earlier one's.
        if self._file is not None and self._begun:
            write_file(self._file, "".join(self._lines).encode())


# As in `imaging.OUTPUT_FORMATS`, which brings torch: a help text is not to wait for it. A test compares.
FORMATS = ("png", "tif", "jpg", "webp", "avif", "same")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `blinddiff upscale`."""
    parser.add_argument(
        "photograph", type=Path, help="the image file to restore, a folder of them, or - for standard input"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="the file to write (.png, .tif, .jpg, .webp or .avif), the folder for results, or - for standard output",
    )
    add_scale_option(parser)
    parser.add_argument(
        "--mode",
        choices=MODES,
        default="fidelity",
        help="fidelity: closest on average; fast: nearly that, in half the time; perceptual: sharper, partly invented; "
        "paper: the published sampler (default: fidelity)",
    )
    parser.add_argument("--steps", type=whole(1, 1000), help="steps of the sampler (default: the mode's own)")
    parser.add_argument("--kernel", type=Path, help=f"the blur kernel, where it is known: {KERNEL_FORMATS}")
    parser.add_argument("--noise-level", type=float, help="the noise in grey levels, where it is known")
    parser.add_argument(
        "--save-kernel", type=Path, metavar="FILE", help="also write the kernel that was found (of one photograph)"
    )
    parser.add_argument(
        "--kernel-map",
        type=Path,
        metavar="FILE",
        help="also estimate the kernel region by region, for blur that differs from place to place, and write a "
        "picture of the map (.png; of one photograph); --json has its numbers",
    )
    add_seed_option(parser, "of the noise that the diffusion starts from")
    add_model_options(parser)
    parser.add_argument(
        "--format", choices=FORMATS, help="of results in a folder and on standard output (default: png)"
    )
    parser.add_argument(
        "--jobs", type=whole(1, 256), metavar="N", help="photographs side by side, for folders (default: what pays)"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write a line of JSON for each photograph there, or to standard output: -"
    )
    parser.add_argument(
        "--max-megapixels",
        type=above_zero,
        metavar="N",
        help="refuse larger photographs, against decompression bombs (default: 89.5)",
    )
    parser.add_argument(
        "--max-memory",
        type=memory_size,
        metavar="SIZE",
        help="memory that the restoration may take, as 500M or 2G; what needs more goes through in tiles "
        "(default: half of what is free)",
    )


def run(args: argparse.Namespace) -> int:
    """Restore one photograph, 0; or a folder of them, 0 if all could be restored, else 1."""
    if str(args.photograph) != STREAM and os.path.isdir(args.photograph):
        return run_folder(args, settings_of(args))
    return _run_one(args, settings_of(args))


def settings_of(args: argparse.Namespace) -> "RestoreSettings":
    """The settings that the arguments ask for."""
    from blinddiff.errors import ParameterError
    from blinddiff.imaging import MAX_PIXELS
    from blinddiff.restoring.photograph import RestoreSettings

    if str(args.output) == STREAM and args.json == STREAM:
        raise ParameterError("--json -: standard output takes the photograph already")
    return RestoreSettings(
        weights=args.weights,
        device=args.device,
        scale=args.scale,
        mode=args.mode,
        steps=args.steps,
        seed=args.seed,
        kernel=args.kernel,
        noise_level=args.noise_level,
        max_pixels=MAX_PIXELS if args.max_megapixels is None else int(args.max_megapixels * 1e6),
        max_memory=args.max_memory,
    )


def _run_one(args: argparse.Namespace, settings: "RestoreSettings") -> int:
    from tqdm import tqdm

    from blinddiff.cli.options import kernel_words
    from blinddiff.cli.streams import check_standard_output, printable, say, write_standard_output
    from blinddiff.degradation.kernel_files import read_kernel, write_kernel
    from blinddiff.errors import ParameterError
    from blinddiff.files import write_file
    from blinddiff.imaging import (
        check_format,
        check_output,
        encode_image,
        kernel_map_picture,
        visible_colours,
        write_picture,
    )
    from blinddiff.restoring.photograph import Record, restore_photograph

    if args.jobs is not None:
        raise ParameterError("--jobs: is for folders")
    photograph = _read(args, settings)
    height, width = (side * settings.scale for side in photograph.pixels.shape[-2:])
    to_stream = str(args.output) == STREAM
    if to_stream:
        output = Path("standard output").with_suffix(_stream_suffix(args, photograph))
        check_standard_output()
        check_format(output, photograph, (width, height))
    else:
        output = args.output
        if args.format is not None:
            raise ParameterError(f"--format: is for folders and standard output; {output} says its own")
        check_output(output, photograph, (width, height))
        check_not_kernel(output, args.kernel)
    taken = [args.photograph, args.kernel, output]
    for path, endings in ((args.save_kernel, KERNEL_ENDINGS), (args.kernel_map, (".png",))):
        if path is not None:
            check_kernel_outputs([path], *taken, endings=endings)
            taken.append(path)
    check_json(args.json, *taken)
    kernel = None if args.kernel is None else read_kernel(args.kernel)
    pipeline = load_pipeline(args)
    name = _name(args.photograph)
    # The delay keeps the bar away until the arguments have been found good: what is wrong is said in one line.
    with tqdm(
        total=settings.number_of_steps, desc=printable(Path(name).name, sys.stderr), unit="step", delay=0.1
    ) as bar:
        result = restore_photograph(pipeline, photograph, settings, kernel, lambda *_: bar.update())
    data = encode_image(output, result.pixels, photograph, result.alpha)
    if to_stream:
        write_standard_output(data)
    else:
        write_file(output, data)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, result.kernel)
    kernel_map = None
    if args.kernel_map is not None:
        kernel_map = pipeline.kernel_map(visible_colours(photograph), settings.scale)
        write_picture(args.kernel_map, kernel_map_picture(kernel_map.kernels))
    if args.json is not None:
        facts = result.facts(output)
        if kernel_map is not None:
            facts["kernel_map"] = kernel_map.facts()
        line = Record(name, str(output), "done", facts=facts).line() + "\n"
        if args.json == STREAM:
            write_standard_output(line.encode())
        else:
            write_file(args.json, line.encode())
    found = kernel_words(result.kernel, result.noise_level, result.expected_kernel_error)
    say(
        f"{output}: {width} x {height}; {found}; residual {result.residual_rms:.2f} grey levels; "
        f"{result.seconds:.1f} s",
        aside=to_stream or args.json == STREAM,
    )
    return 0


def _name(path: Path) -> str:
    return "standard input" if str(path) == STREAM else str(path)


def _read(args: argparse.Namespace, settings: "RestoreSettings") -> "Photograph":
    """The photograph, found to be one that can be restored."""
    from blinddiff.cli.streams import read_standard_input
    from blinddiff.imaging import largest_file
    from blinddiff.sampling.output import read_restorable

    source = args.photograph
    if str(source) == STREAM:
        source = read_standard_input(largest_file(settings.max_pixels))
    return read_restorable(source, settings.max_pixels, _name(args.photograph))


def _stream_suffix(args: argparse.Namespace, photograph: "Photograph") -> str:
    from blinddiff.restoring.folder import SAME, suffix_of_format

    return suffix_of_format(photograph.file_format) if args.format == SAME else f".{args.format or 'png'}"
