"""The commands for photographs: `blinddiff upscale`, `demo`, `kernel` and `degrade`; each returns the exit code."""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from blinddiff.cli import options
from blinddiff.cli.options import (
    STREAM,
    check_kernel_outputs,
    check_not_kernel,
    kernel_words,
    say,
    write_standard_output,
)
from blinddiff.degradation import NOISES, DegradationOperator, bicubic_upsample, sample_kernels
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import OutputError, ParameterError
from blinddiff.files import check_writable, make_folder, write_file
from blinddiff.imaging import (
    MAX_PIXELS,
    SIGNATURE_BYTES,
    SheetFacts,
    check_format,
    check_output,
    comparison_sheet,
    encode_image,
    from_picture,
    has_image_name,
    image_format,
    kernel_map_picture,
    kernel_picture,
    largest_file,
    visible_colours,
    write_image,
    write_picture,
)
from blinddiff.restoring.folder import SAME, Listener, restore_folder, suffix_of_format
from blinddiff.restoring.journal import LEDGER
from blinddiff.restoring.photograph import Record, RestoreSettings, load_pipeline, restore_photograph
from blinddiff.sampling.output import read_restorable

DEMO_SCALE = 4
DEMO_KERNEL = "kernel.csv"
DEMO_PICTURES = ("input.png", "bicubic.png", "result.png", "kernel.png", "sheet.png")
KERNEL_SIZE = 31
"""Side of the kernels that `blinddiff degrade` makes."""


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
        source, name = options.read_standard_input(largest_file(settings.max_pixels)), "standard input"
    photograph = read_restorable(source, settings.max_pixels, name)
    height, width = (side * settings.scale for side in photograph.pixels.shape[-2:])
    to_stream = str(args.output) == STREAM
    if to_stream:
        suffix = suffix_of_format(photograph.file_format) if args.format == SAME else f".{args.format or 'png'}"
        output = Path("standard output").with_suffix(suffix)
        options.check_standard_output()
        check_format(output, photograph, (width, height))
    else:
        output = args.output
        if args.format is not None:
            raise ParameterError(f"--format: is for folders and standard output; {output} says its own")
        check_output(output, photograph, (width, height))
        options.check_not_kernel(output, args.kernel)
    taken = [args.photograph, args.kernel, output]
    for path, endings in ((args.save_kernel, options.KERNEL_ENDINGS), (args.kernel_map, (".png",))):
        if path is not None:
            options.check_kernel_outputs([path], *taken, endings=endings)
            taken.append(path)
    _check_json(args.json, *taken)
    kernel = None if args.kernel is None else read_kernel(args.kernel)
    pipeline = load_pipeline(args.weights, args.device)
    # With a delay, so that an error found at once is one line, without a bar before it.
    title = options.printable(Path(name).name, sys.stderr)
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
    found = options.kernel_words(result.kernel, result.noise_level, result.expected_kernel_error)
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
    if is_image or options.is_one_of(path, taken):
        raise OutputError(f"{path}: is another file of this run, or an image; choose another name for --json")


def run_demo(args: argparse.Namespace) -> int:
    """Restore a photograph; write it, its kernel and a sheet that compares it with bicubic interpolation."""
    # Bad input is refused before the progress bar is shown, so that the error is one line.
    photograph = read_restorable(args.photograph)
    pipeline = load_pipeline(args.weights, args.device)
    make_folder(args.output)
    pixels = visible_colours(photograph)
    opaque = replace(photograph, pixels=pixels, alpha=None)
    for name in DEMO_PICTURES:
        check_output(args.output / name, opaque)
    check_kernel_outputs([args.output / DEMO_KERNEL], args.photograph)
    with tqdm(total=3, bar_format="{desc:<28} {bar} {n_fmt}/{total_fmt}") as bar:
        bar.set_description_str("restoring")
        result = restore_photograph(pipeline, opaque, RestoreSettings(scale=DEMO_SCALE))
        bar.update()
        bar.set_description_str("drawing the sheet")
        bicubic = bicubic_upsample(pixels, DEMO_SCALE).clamp(0, 1)
        major, minor, angle = (float(value) for value in widths_and_angle(result.kernel))
        facts = SheetFacts(
            scale=DEMO_SCALE,
            noise_level=result.noise_level,
            residual_rms=result.residual_rms,
            kernel_widths=(major, minor),
            kernel_angle=angle,
            seconds=result.seconds,
        )
        sheet = comparison_sheet(
            pixels, bicubic, result.pixels, result.kernel, result.residual / 255, facts, title=args.photograph.name
        )
        bar.update()
        bar.set_description_str("writing the folder")
        write_image(args.output / "input.png", pixels, opaque)
        write_image(args.output / "bicubic.png", bicubic, opaque)
        write_image(args.output / "result.png", result.pixels, opaque)
        write_picture(args.output / "kernel.png", kernel_picture(result.kernel))
        write_kernel(args.output / DEMO_KERNEL, result.kernel)
        # In the colours of the pictures on it; but a profile for grey does not describe its three channels.
        profile = None if opaque.grey else opaque.icc_profile
        like = replace(opaque, grey=False, bit_depth=8, icc_profile=profile, exif=None, xmp=None)
        write_image(args.output / "sheet.png", from_picture(sheet)[0], like)
        bar.update()
        bar.set_description_str("done")
    say(f"{args.output / 'sheet.png'}: input, bicubic and result side by side, with the kernel and the figures")
    return 0


def run_kernel(args: argparse.Namespace) -> int:
    """Estimate a photograph's kernel and noise level; write and print them."""
    photograph = read_restorable(args.photograph)
    check_kernel_outputs(args.output, args.photograph)
    pixels, pipeline = visible_colours(photograph), load_pipeline(args.weights, args.device)
    estimate = pipeline.estimate(pixels, args.scale)
    expected_error = float(pipeline.expected_kernel_error(pixels, args.scale)[0])
    for path in args.output:
        write_kernel(path, estimate.kernel[0])
    found = kernel_words(estimate.kernel[0], float(estimate.noise_level[0]), expected_error)
    say(f"{args.photograph}: {found} (kernel in pixels of the x{args.scale} result)")
    return 0


def run_degrade(args: argparse.Namespace) -> int:
    """Blur, reduce and add noise to a sharp photograph; write it, and the kernel."""
    photograph = read_restorable(args.photograph)
    opaque = replace(photograph, alpha=None)
    check_output(args.output, opaque)
    check_not_kernel(args.output, args.kernel)
    if args.save_kernel is not None:
        check_kernel_outputs([args.save_kernel], args.photograph, args.kernel, args.output)
    generator = torch.Generator().manual_seed(args.seed)
    if args.kernel is not None:
        kernel = read_kernel(args.kernel)
    elif args.sigma is not None:
        kernel = isotropic_gaussian(args.sigma, KERNEL_SIZE)
    else:
        kernel = sample_kernels({args.family: 1.0}, 1, args.scale, KERNEL_SIZE, generator)[0]
    height, width = (side // args.scale * args.scale for side in photograph.pixels.shape[-2:])
    # Grey is degraded as one channel: the mean of three would have less noise than was asked for.
    channels = 1 if photograph.grey else 3
    y = DegradationOperator(kernel, args.scale)(visible_colours(photograph)[None, :channels, :height, :width])
    y = NOISES["gaussian"].apply(y, torch.tensor([args.noise]), generator)
    if args.jpeg is not None:
        y = NOISES["jpeg"].apply(y, torch.tensor([float(args.jpeg)]), generator)
    write_image(args.output, y[0], opaque)
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, kernel)
    say(f"{args.output}: {y.shape[-1]} x {y.shape[-2]}; {kernel_words(kernel, args.noise)}")
    return 0
