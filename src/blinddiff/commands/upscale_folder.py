"""`blinddiff upscale folder/ -o results/`."""

import argparse
import os
import time
from typing import NoReturn

from tqdm import tqdm

from blinddiff.atomic import write_file
from blinddiff.commands.streams import STREAM, check_json, say, write_standard_output
from blinddiff.degradation.kernels import read_kernel
from blinddiff.errors import OutputError, ParameterError
from blinddiff.upscaling import LEDGER, SAME, Listener, Record, UpscaleSettings, upscale_folder


def run_folder(args: argparse.Namespace, settings: UpscaleSettings) -> int:
    """Restore a folder; 0 if every photograph could be, else 1."""
    _check(args)
    suffix = SAME if args.format == SAME else f".{args.format or 'png'}"
    aside = args.json == STREAM
    started = time.perf_counter()
    with _Progress(args, aside) as progress:
        listener = Listener(begin=progress.begin, note=lambda line: say(line, aside), record=progress.record)
        report = upscale_folder(args.photograph, args.output, settings, suffix, args.jobs, listener)
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
