"""The commands that restore photographs: `blinddiff upscale`, `demo` and `kernel`."""

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from blinddiff import imaging
from blinddiff.cli import inputs, options
from blinddiff.cli.options import KERNEL_ENDINGS, STREAM, print_line, write_standard_output
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernel_measures import is_round, widths_and_angle
from blinddiff.degradation.sharpness import Sharpness, mtf50_in_words, noise_in_words, sharpness_of
from blinddiff.errors import ImageError, OutputError, ParameterError, need
from blinddiff.files import check_writable, make_folder, write_file
from blinddiff.imaging.mask import read_mask
from blinddiff.imaging.photograph import enlarge
from blinddiff.restoring.engines import default_mode, load_engine
from blinddiff.restoring.folder import SAME, FolderReport, Listener, make_plan, restore_folder
from blinddiff.restoring.journal import LEDGER, Job
from blinddiff.restoring.photograph import Record, RestoreSettings, Result, restore_photograph
from blinddiff.sampling.decision import UNRELIABLE_KERNEL_ERROR
from blinddiff.sampling.engine import Engine

DEMO_SCALE = 4
DEMO_KERNEL = "kernel.csv"
DEMO_PICTURES = ("input.png", "bicubic.png", "result.png", "kernel.png", "sheet.png")


def run_upscale(args: argparse.Namespace) -> int:
    """Restore photographs or a folder. Return the exit code: 0, or 1 if one of several files failed."""
    if args.output == STREAM and args.json == STREAM:
        raise ParameterError("--json -: standard output is already used for the photograph")
    if args.scale is not None and (args.width is not None or args.height is not None):
        raise ParameterError("--scale: not allowed with --width or --height")
    load = functools.cache(lambda: load_engine(args.engine, args.weights, args.device))
    settings = RestoreSettings(
        engine=args.engine,
        weights=args.weights,
        device=args.device,
        scale=4 if args.scale is None else args.scale,
        mode=args.mode or default_mode(args.engine, args.weights, args.device),
        steps=args.steps,
        samples=args.samples,
        as_is=args.as_is,
        kernel_map=args.kernel_map is not None,
        seed=args.seed,
        kernel=args.kernel,
        noise_level=args.noise_level,
        max_pixels=imaging.MAX_PIXELS if args.max_megapixels is None else int(args.max_megapixels * 1e6),
        max_memory=args.max_memory,
        width=args.width,
        height=args.height,
        longest=args.longest,
        megapixels=args.megapixels,
        quality=args.quality,
        subsampling=args.subsampling,
        dpi=args.dpi,
    )
    if args.std is not None and args.samples == 1:
        raise ParameterError("--std: needs --samples of at least 2")
    if args.engine_cluster is not None:
        return _restore_on_cluster(args, settings)
    for name in ("num_workers", "gpus_per_worker"):
        if getattr(args, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ParameterError(f"{option}: applies only to --engine-cluster; for a folder, use --jobs")
    if uris := [path for path in args.photograph if isinstance(path, str)]:
        raise ParameterError(f"{uris[0]}: is a URI, which only --engine-cluster ray restores")
    args.photograph = inputs.expand(args.photograph)
    folders = [path for path in args.photograph if str(path) != STREAM and os.path.isdir(path)]
    if folders and len(args.photograph) > 1:
        raise ParameterError(f"{folders[0]}: is a folder; it needs a command of its own")
    if folders:
        return _restore_folder(args, folders[0], settings, load)
    if args.jobs is not None:
        raise ParameterError("--jobs: applies only to folders")
    if len(args.photograph) > 1:
        return _restore_several(args, settings, load)
    record = _restore_one(args, args.photograph[0], settings, load, set(), ask=True)
    if args.json is not None and record is not None:
        with closing(_Progress(args.json, hidden=True)) as progress:
            progress.begin("restoring", 1)
            progress.record(record)
    return 0


def _restore_several(args: argparse.Namespace, settings: RestoreSettings, load: Callable[[], Engine]) -> int:
    """Restore one file after another; an error in one does not stop the others."""
    _refuse_single_outputs(args)
    if args.output == STREAM or (args.output is not None and os.path.isfile(args.output)):
        raise OutputError(f"{args.output}: the output for several photographs must be a folder")
    _check_json(args.json, *args.photograph, args.kernel)
    if args.kernel is not None:
        read_kernel(args.kernel)  # as bad weights, it ends the run before anything is written
    load()
    named = [path for path in args.photograph if not inputs.is_stream(path)]
    if not args.dry_run:
        inputs.announce(inputs.stored_sizes(named), settings, load, args)
        if args.output is not None:
            make_folder(Path(args.output))
    written: set[str] = set()
    failed = 0
    with closing(_Progress(args.json, hidden=True)) as progress:
        progress.begin("restoring", len(args.photograph))
        for path in args.photograph:
            try:
                record = _restore_one(args, path, settings, load, written)
            except (ImageError, OutputError) as error:
                failed += 1
                print_line(f"blinddiff upscale: {' '.join(str(error).split())}", to_stderr=True)
                record = Record(str(path), None, "failed", error=str(error))
            if record is not None:
                progress.record(record)
    return 1 if failed else 0


def _refuse_single_outputs(args: argparse.Namespace) -> None:
    for name in ("mask", "save_kernel", "kernel_map", "std", "compare", "page"):
        if getattr(args, name) is not None:
            more = "; for several, --json contains the kernels" if name == "save_kernel" else ""
            raise ParameterError(f"--{name.replace('_', '-')}: applies only to a single photograph{more}")


def _restore_one(
    args: argparse.Namespace,
    source: Path,
    settings: RestoreSettings,
    load: Callable[[], Engine],
    written: set[str],
    ask: bool = False,
) -> Record | None:
    """Restore one file; None after a dry run. ``written`` lists the run's results, which are not replaced."""
    name = inputs.name_of(source)
    photograph = inputs.read_photograph(source, settings.max_pixels, args.page)
    height, width = settings.result_size(*photograph.pixels.shape[-2:])
    to_stream = args.output == STREAM
    if to_stream:
        output = Path("standard output").with_suffix(inputs.output_suffix(args, photograph))
        options.check_standard_output()
        imaging.check_format(output, photograph, (width, height))
    else:
        output = inputs.output_path(args, source, photograph, settings)
        new_folder = inputs.is_new_folder(args.output, output)
        check = imaging.check_format if args.dry_run or new_folder else imaging.check_output
        check(output, photograph, (width, height))
        check_not_kernel(output, args.kernel)
        if _is_one_of(output, [*args.photograph, args.mask]) or os.path.realpath(output) in written:
            raise OutputError(f"{output}: is another file of this run; restore {source} in a command of its own")
    encoder = imaging.encoder_options(output, args.quality, args.subsampling)
    inputs.print_notes(name, imaging.left_out(output, photograph))
    reserved = [source, args.kernel, args.mask, output]
    pictures = tuple(imaging.OUTPUT_FORMATS)
    for path, endings in (
        (args.save_kernel, KERNEL_ENDINGS),
        (args.kernel_map, (".png",)),
        (args.std, pictures),
        (args.compare, pictures),
    ):
        if path is not None:
            check_kernel_outputs([path], *reserved, endings=endings)
            reserved.append(path)
    _check_json(args.json, *reserved)
    kernel = None if args.kernel is None else read_kernel(args.kernel)
    mask = None if args.mask is None else read_mask(args.mask, photograph.pixels.shape[-2:], settings.max_pixels)
    engine = load()
    settings.check(engine)
    engine.check_fixed(mask=args.mask)
    size = photograph.pixels.shape[-2], photograph.pixels.shape[-1]
    if args.dry_run:
        print_line(f"{name} -> {output}: {inputs.describe_plan([size], settings, engine)[0]}", to_stream)
        return None
    if ask:
        inputs.announce([size], settings, load, args)
    if not to_stream and new_folder:
        make_folder(output.parent)
    title = options.printable(Path(name).name, sys.stderr)
    with inputs.progress_bar(title, args.quiet) as on_progress:
        result = restore_photograph(engine, photograph, settings, kernel, on_progress=on_progress, mask=mask)
    data = imaging.encode_image(output, result.pixels, photograph, result.alpha, encoder, args.dpi)
    if to_stream:
        write_standard_output(data)
    else:
        write_file(output, data)
        written.add(os.path.realpath(output))
    if args.save_kernel is not None:
        write_kernel(args.save_kernel, result.kernel)
    facts = result.facts(output)
    if args.std is not None:
        assert result.std is not None  # there are several samples
        std = result.std.mean(0, keepdims=True)
        imaging.write_image(args.std, std / std.max().clip(1e-6))
        facts["std_white"] = 255 * float(std.max())
    if args.compare is not None:
        _write_sheet(args.compare, result, Path(name).name)
    if args.kernel_map is not None:
        imaging.write_picture(args.kernel_map, imaging.kernel_map_picture(result.kernel_map.kernels.numpy()))
    if not args.quiet:
        found = describe_kernel(result.kernel, result.noise_level, result.expected_kernel_error)
        found += notable(result.sharpness, result.kind_of_noise)
        if result.decision is not None and result.decision.sentence:
            found += f"; {result.decision.sentence}"
        if not settings.native:
            found += f" (kernel in pixels of x{result.passes[0]})"
        if mask is not None:
            found += f"; {result.masked:.2%} of the pixels masked"
        summary = f"{found}; residual {result.residual_rms:.2f} grey levels; {result.seconds:.1f} s"
        if args.std is not None:
            summary += f"; white in {args.std} is {facts['std_white']:.2f} grey levels"
        if encoder or args.verbose:
            summary += f"; {len(data) / 1e6:.3g} MB"
        print_line(f"{output}: {width} x {height}; {summary}", to_stderr=to_stream or args.json == STREAM)
    return Record(name, str(output), "done", facts=facts)


def _write_sheet(path: Path, result: Result, title: str) -> None:
    """Write a sheet that compares input, bicubic interpolation and result; see `imaging.comparison_sheet`."""
    photograph, size = result.photograph, (result.pixels.shape[-2], result.pixels.shape[-1])
    pixels = imaging.visible_colours(photograph)
    bicubic = enlarge(pixels, math.prod(result.passes)).clip(0, 1)
    if size != bicubic.shape[-2:]:
        bicubic = imaging.reduce_image(bicubic, size)
    major, minor, angle = (float(value) for value in widths_and_angle(result.kernel))
    facts = imaging.SheetFacts(
        scale=result.settings.factor(*pixels.shape[-2:]),
        noise_level=result.noise_level,
        noise_kind=result.kind_of_noise,
        residual_rms=result.residual_rms,
        kernel_widths=(major, minor),
        kernel_angle=angle,
        mtf50=mtf50_in_words(result.sharpness.mtf50),
        seconds=result.seconds,
    )
    images = pixels, bicubic, result.pixels, result.kernel, result.noise_spectrum, result.residual / 255
    sheet = imaging.comparison_sheet(*images, facts, title=title)
    # The sheet has the colour profile of its pictures, but not a greyscale profile, which cannot describe RGB.
    profile = None if photograph.grey else photograph.icc_profile
    like = replace(photograph.without_metadata(), alpha=None, grey=False, bit_depth=8, icc_profile=profile, path=None)
    imaging.write_image(path, imaging.from_picture(sheet)[0], like)


def _restore_folder(
    args: argparse.Namespace, source: Path, settings: RestoreSettings, load: Callable[[], Engine]
) -> int:
    if args.output == STREAM:
        raise ParameterError(f"{source}: is a folder; its results cannot be written to standard output")
    _refuse_single_outputs(args)
    if args.output is None:
        folder = source if source.name not in ("", "..") else Path(os.path.abspath(source))
        output = folder.with_name(f"{folder.name}_{f'x{settings.scale:g}' if settings.is_scaled else 'restored'}")
    else:
        output = Path(args.output)
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"{output}: is a file; the output for a folder must also be a folder")
    _check_json(args.json, source, output, output / LEDGER, args.kernel)
    if args.kernel is not None:
        read_kernel(args.kernel)  # fail now, not in every process
    suffix = _folder_suffix(args)
    if args.dry_run:
        plan = make_plan(source, output, suffix, settings.kernel)
        sizes = inputs.stored_sizes([job.source for job in plan.jobs])
        print_line(f"{source} -> {output}: {inputs.describe_plan(sizes, settings, load())[0]}")
        return 0

    def announce(jobs: Sequence[Job]) -> None:
        if sys.stderr.isatty() or args.verbose:  # else nobody waits for it
            inputs.announce(inputs.stored_sizes([job.source for job in jobs]), settings, load, args)

    return _report(
        args, str(output), lambda it: restore_folder(source, output, settings, suffix, args.jobs, it), announce
    )


def _restore_on_cluster(args: argparse.Namespace, settings: RestoreSettings) -> int:
    """Restore a folder or a URI on a cluster of Ray."""
    need("--engine-cluster ray", "blinddiff[cluster]", "ray", "fsspec")
    from blinddiff.integrations.cluster import restore_store  # of an extra

    if len(args.photograph) > 1:
        raise ParameterError("--engine-cluster: needs one folder or URI of photographs")
    if args.output in (None, STREAM):
        raise ParameterError("--engine-cluster: needs -o with a folder or URI for the results")
    if args.jobs is not None or args.dry_run:
        raise ParameterError(f"--{'dry-run' if args.dry_run else 'jobs'}: not allowed with --engine-cluster")
    _refuse_single_outputs(args)
    _check_json(args.json, args.kernel)
    if args.kernel is not None:
        read_kernel(args.kernel)  # fail now, not in every worker
    suffix = _folder_suffix(args)
    source, workers, gpus = str(args.photograph[0]), args.num_workers, args.gpus_per_worker or 1.0

    def run(listener: Listener) -> FolderReport:
        with redirect_stdout(sys.stderr):  # Ray prints messages on standard output, which is for the records
            return restore_store(source, args.output, settings, suffix, workers, args.threads, listener, gpus)

    return _report(args, args.output, run)


def _folder_suffix(args: argparse.Namespace) -> str:
    """The extension of the results in a folder; the options of its format are checked."""
    suffix = SAME if args.format == SAME else f".{args.format or 'png'}"
    if suffix != SAME:
        imaging.encoder_options(Path(f"result{suffix}"), args.quality, args.subsampling)
    return suffix


def _report(
    args: argparse.Namespace,
    output: str,
    run: Callable[[Listener], FolderReport],
    announce: Callable[[Sequence[Job]], object] = lambda _: None,
) -> int:
    """Run a restoration of many photographs, and print its progress, its failures and a summary: the exit code."""
    to_stderr = args.json == STREAM

    def note(line: str) -> None:
        if not args.quiet:
            print_line(line, to_stderr)

    started = time.perf_counter()
    with closing(_Progress(args.json, args.quiet)) as progress:
        report = run(Listener(progress.begin, note, progress.record, announce))
    for _, reason in report.failures:
        print_line(f"blinddiff upscale: {' '.join(reason.split())}", to_stderr=True)
    summary = f"{report.done} restored"
    if report.skipped:
        summary += f", {report.skipped} already done"
    if report.failures:
        summary += f", {len(report.failures)} failed"
    note(f"{output}: {summary}; {time.perf_counter() - started:.1f} s")
    return 1 if report.failures else 0


class _Progress:
    """Shows a progress bar and writes the records: to standard output immediately, to a file at the end."""

    def __init__(self, json: str | None, hidden: bool = False) -> None:
        self._json = json
        self._lines: list[str] = []
        self._begun = False
        self._stream = sys.stdout  # may be redirected later
        self._bar: tqdm[NoReturn] = tqdm(unit="file", disable=hidden or None)  # None: only on a terminal

    def begin(self, phase: str, count: int) -> None:
        self._begun = True
        self._bar.set_description_str(phase, refresh=False)
        self._bar.reset(count)

    def record(self, record: Record) -> None:
        self._bar.update()
        if self._json == STREAM:
            write_standard_output(record.line().encode() + b"\n", self._stream)
        else:
            self._lines.append(record.line() + "\n")

    def close(self) -> None:
        self._bar.close()
        # Write the file even after an interruption or without records, so that it keeps no records of an earlier run.
        if self._json not in (None, STREAM) and self._begun:
            write_file(self._json, "".join(self._lines).encode())


def _check_json(path: str | None, *reserved: Path | None) -> None:
    """Check that the ``--json`` file can be written, is not an image, and is not another file of this run."""
    if path is None:
        return
    if path == STREAM:
        if sys.__stdout__ is None:
            raise OutputError("--json -: standard output is closed")
        return
    check_writable(path)
    is_image = imaging.has_image_name(Path(path))  # a result could get the same name
    if os.path.isfile(path):
        try:
            with open(path, "rb") as file:
                is_image |= imaging.image_format(file.read(imaging.SIGNATURE_BYTES)) is not None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if is_image or _is_one_of(path, reserved):
        raise OutputError(f"{path}: is another file of this run, or an image; choose another name for --json")


def _is_one_of(path: str | Path, files: Iterable[Path | None]) -> bool:
    """Whether a path is one of the files, after resolving links; None entries are ignored."""
    return os.path.realpath(path) in [os.path.realpath(file) for file in files if file is not None]


def check_kernel_outputs(paths: list[Path], *reserved: Path | None, endings: tuple[str, ...] = KERNEL_ENDINGS) -> None:
    """Check before the work that kernels can be written to paths, replacing no reserved file. Raises OutputError."""
    for path in paths:
        if path.suffix.lower() not in endings:
            raise OutputError(f"{path}: must end in {' or '.join(endings)}, not in {path.suffix!r}")
        if _is_one_of(path, reserved):
            raise OutputError(f"{path}: is another file of this run; choose another name for this output")
        check_writable(path)


def check_not_kernel(output: Path, kernel: Path | None) -> None:
    """Raise an error if the result would overwrite the given kernel."""
    if _is_one_of(output, [kernel]):
        raise OutputError(f"{output}: is the kernel file; choose another name for the result")


def describe_kernel(kernel: NDArray[Any], noise_level: float, expected_error: float | None = None) -> str:
    """Describe a kernel, (n, m) in HR pixels, and a noise level in grey levels.

    Adds a warning if ``expected_error`` (see `BlindDiffOutput`) is large. It is None if the kernel was given.
    """
    major, minor, angle = (float(value) for value in widths_and_angle(kernel))
    direction = "" if is_round(major, minor) else f" at {angle:.0f} degrees"
    text = f"kernel {major:.2f} x {minor:.2f} px{direction}, noise {noise_level:.1f} grey levels"
    if expected_error is not None and expected_error >= UNRELIABLE_KERNEL_ERROR:
        text += f"; the kernel cannot be determined from this image (expected error {expected_error:.1f} of 2)"
    return text


def describe_estimate(estimate: Any, scale: int, jpeg_step: float) -> str:
    """Describe the first estimate of `Engine.estimate`, made at a scale, with the sharpness that its kernel leaves."""
    kernel, noise_level = np.asarray(estimate.kernel[0]), float(estimate.noise_level[0])
    error = None if estimate.expected_kernel_error is None else float(estimate.expected_kernel_error[0])
    spectrum = None if estimate.noise_spectrum is None else estimate.noise_spectrum[0]
    kind, sharpness = noise_in_words(noise_level, spectrum, jpeg_step), sharpness_of(kernel, scale)
    return (
        f"{describe_kernel(kernel, noise_level, error)} (kernel in pixels of the x{scale} result); MTF50 "
        f"{mtf50_in_words(sharpness.mtf50)}, in cycles per pixel of the photograph{notable(sharpness, kind)}"
    )


def notable(sharpness: Sharpness, kind_of_noise: str) -> str:
    """What a user of the photograph should know of it: sharpening, and noise that is not white."""
    text = f"; sharpened: its edges overshoot by {sharpness.overshoot:.0%}" if sharpness.sharpened else ""
    return text if kind_of_noise in ("none", "white noise") else f"{text}; {kind_of_noise}"


def run_demo(args: argparse.Namespace) -> None:
    """Restore a photograph; write it, its kernel and a sheet that compares it with bicubic interpolation."""
    # Bad input is rejected before the progress bar is shown, so that the error is one line.
    photograph = inputs.read_photograph(args.photograph)
    engine = load_engine(args.engine, args.weights, args.device)
    make_folder(args.output)
    pixels = imaging.visible_colours(photograph)
    opaque = replace(photograph, pixels=pixels, alpha=None)
    for name in DEMO_PICTURES:
        imaging.check_output(args.output / name, opaque)
    check_kernel_outputs([args.output / DEMO_KERNEL], args.photograph)
    with tqdm(total=3, bar_format="{desc:<28} {bar} {n_fmt}/{total_fmt}", disable=None) as bar:
        bar.set_description_str("restoring")
        result = restore_photograph(engine, opaque, RestoreSettings(scale=DEMO_SCALE, mode=engine.modes[0]))
        bar.update()
        bar.set_description_str("drawing the sheet")
        _write_sheet(args.output / "sheet.png", result, args.photograph.name)
        bar.update()
        bar.set_description_str("writing the folder")
        bicubic = enlarge(pixels, DEMO_SCALE).clip(0, 1)
        inputs.print_notes(str(args.photograph), imaging.left_out("result.png", opaque))
        for name, image in (("input.png", pixels), ("bicubic.png", bicubic), ("result.png", result.pixels)):
            imaging.write_image(args.output / name, image, opaque)
        imaging.write_picture(args.output / "kernel.png", imaging.kernel_picture(result.kernel))
        write_kernel(args.output / DEMO_KERNEL, result.kernel)
        bar.update()
        bar.set_description_str("done")
    print_line(
        f"{args.output / 'sheet.png'}: input, bicubic and result side by side, with the kernel and the measurements"
    )


def run_kernel(args: argparse.Namespace) -> None:
    """Estimate a photograph's kernel and noise level. Print a description of both, and write the kernel."""
    photograph = inputs.read_photograph(args.photograph, page=args.page)
    check_kernel_outputs(args.output, args.photograph)
    pixels, engine = imaging.visible_colours(photograph), load_engine(args.engine, args.weights, args.device)
    estimate = engine.estimate(pixels, args.scale, photograph.jpeg_step)
    for path in args.output:
        write_kernel(path, np.asarray(estimate.kernel[0]))
    print_line(f"{args.photograph}: {describe_estimate(estimate, args.scale, photograph.jpeg_step)}")
