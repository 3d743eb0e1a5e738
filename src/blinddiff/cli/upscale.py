"""`blinddiff upscale`: restores one photograph, or a folder of them."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from blinddiff.cli.options import (
    KERNEL_ENDINGS,
    STREAM,
    check_kernel_outputs,
    check_not_kernel,
    check_standard_output,
    is_one_of,
    kernel_words,
    printable,
    read_standard_input,
    say,
    write_standard_output,
)
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.errors import OutputError, ParameterError
from blinddiff.files import check_writable, write_file
from blinddiff.imaging import (
    MAX_PIXELS,
    SIGNATURE_BYTES,
    check_format,
    check_output,
    encode_image,
    has_image_name,
    image_format,
    kernel_map_picture,
    largest_file,
    visible_colours,
    write_picture,
)
from blinddiff.restoring.folder import SAME, Listener, restore_folder, suffix_of_format
from blinddiff.restoring.journal import LEDGER
from blinddiff.restoring.photograph import Record, RestoreSettings, load_pipeline, restore_photograph
from blinddiff.sampling.output import read_restorable


def run_upscale(args: argparse.Namespace) -> int:
    """Restore one photograph, 0; or a folder of them, 0 if all could be restored, else 1."""
    if str(args.output) == STREAM and args.json == STREAM:
        raise ParameterError("--json -: standard output takes the photograph already")
    settings = RestoreSettings(
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
    if str(args.photograph) != STREAM and os.path.isdir(args.photograph):
        return _restore_folder(args, settings)
    return _restore_one(args, settings)


def _restore_one(args: argparse.Namespace, settings: RestoreSettings) -> int:
    if args.jobs is not None:
        raise ParameterError("--jobs: is for folders")
    source, name = args.photograph, str(args.photograph)
    if name == STREAM:
        source, name = read_standard_input(largest_file(settings.max_pixels)), "standard input"
    photograph = read_restorable(source, settings.max_pixels, name)
    height, width = (side * settings.scale for side in photograph.pixels.shape[-2:])
    to_stream = str(args.output) == STREAM
    if to_stream:
        suffix = suffix_of_format(photograph.file_format) if args.format == SAME else f".{args.format or 'png'}"
        output = Path("standard output").with_suffix(suffix)
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
    _check_json(args.json, *taken)
    kernel = None if args.kernel is None else read_kernel(args.kernel)
    pipeline = load_pipeline(args.weights, args.device)
    # With a delay, so that an error found at once is one line, without a bar before it.
    title = printable(Path(name).name, sys.stderr)
    with tqdm(total=settings.number_of_steps, desc=title, unit="step", delay=0.1) as bar:
        result = restore_photograph(pipeline, photograph, settings, kernel, lambda *_: bar.update())
    data = encode_image(output, result.pixels, photograph, result.alpha)
    if to_stream:
        write_standard_output(data)
    else:
        write_file(output, data)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, result.kernel)
    facts = result.facts(output)
    if args.kernel_map is not None:
        kernel_map = pipeline.kernel_map(visible_colours(photograph), settings.scale)
        write_picture(args.kernel_map, kernel_map_picture(kernel_map.kernels))
        facts["kernel_map"] = kernel_map.facts()
    if args.json is not None:
        line = Record(name, str(output), "done", facts=facts).line() + "\n"
        if args.json == STREAM:
            write_standard_output(line.encode())
        else:
            write_file(args.json, line.encode())
    found = kernel_words(result.kernel, result.noise_level, result.expected_kernel_error)
    say(
        f"{output}: {width} x {height}; {found}; residual {result.residual_rms:.2f} grey levels; "
        f"{result.seconds:.1f} s",
        to_stderr=to_stream or args.json == STREAM,
    )
    return 0


def _restore_folder(args: argparse.Namespace, settings: RestoreSettings) -> int:
    if str(args.output) == STREAM:
        raise ParameterError(f"{args.photograph}: is a folder, which does not fit into standard output")
    if args.save_kernel is not None:
        raise ParameterError("--save-kernel: is for one photograph; --json writes the kernels of a folder")
    if args.kernel_map is not None:
        raise ParameterError("--kernel-map: is for one photograph")
    if os.path.exists(args.output) and not os.path.isdir(args.output):
        raise OutputError(f"{args.output}: is a file; the results of a folder need one too")
    _check_json(args.json, args.photograph, args.output, args.output / LEDGER, args.kernel)
    if args.kernel is not None:
        read_kernel(args.kernel)
    suffix = SAME if args.format == SAME else f".{args.format or 'png'}"
    to_stderr = args.json == STREAM
    started = time.perf_counter()
    with _Progress(args.json) as progress:
        listener = Listener(progress.begin, lambda line: say(line, to_stderr), progress.record)
        report = restore_folder(args.photograph, args.output, settings, suffix, args.jobs, listener)
    for _, reason in report.failures:
        say(f"blinddiff upscale: {' '.join(reason.split())}", to_stderr=True)
    before = f", {report.skipped} done before" if report.skipped else ""
    failed = f", {len(report.failures)} failed" if report.failures else ""
    say(f"{args.output}: {report.done} restored{before}{failed}; {time.perf_counter() - started:.1f} s", to_stderr)
    return 1 if report.failures else 0


class _Progress:
    """A progress bar, and the records: to standard output as they come, to a file at the end."""

    def __init__(self, json: str | None) -> None:
        self._json = json
        self._lines: list[str] = []
        self._begun = False
        # On a terminal only, so that a log has no bars.
        self._bar: tqdm[NoReturn] = tqdm(unit="file", disable=None)

    def begin(self, what: str, count: int) -> None:
        self._begun = True
        self._bar.set_description_str(what, refresh=False)
        self._bar.reset(count)

    def record(self, record: Record) -> None:
        self._bar.update()
        if self._json == STREAM:
            write_standard_output(record.line().encode() + b"\n")
        else:
            self._lines.append(record.line() + "\n")

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        # After an interruption too, and even if there is none: those of an earlier run must not stay.
        if self._json not in (None, STREAM) and self._begun:
            write_file(self._json, "".join(self._lines).encode())


def _check_json(path: str | None, *taken: Path | None) -> None:
    """Refuse, before the work, a file for records that cannot be written, or would replace another.

    Raises:
        OutputError: it is one of the files ``taken``, or an image, or the place cannot be written to.
    """
    if path is None:
        return
    if path == STREAM:
        if sys.__stdout__ is None:
            raise OutputError("--json -: standard output is closed")
        return
    check_writable(path)
    is_image = has_image_name(Path(path))  # in the folder for results, a result may get that name
    if os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                is_image |= image_format(file.read(SIGNATURE_BYTES)) is not None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if is_image or is_one_of(path, taken):
        raise OutputError(f"{path}: is another file of this run, or an image; choose another name for --json")
