"""Restores every photograph below a folder and records finished ones, so that an interrupted run resumes."""

import os
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from blinddiff import imaging
from blinddiff.degradation.kernel_files import read_kernel
from blinddiff.errors import BlindDiffError, ImageError, OutputError
from blinddiff.files import hash_of, lock_folder, make_folder, remove_leftovers, write_file
from blinddiff.restoring.engines import engine_for, has_accelerator, load_engine
from blinddiff.restoring.journal import Done, Job, Ledger
from blinddiff.restoring.photograph import Record, RestoreSettings, restore_photograph
from blinddiff.restoring.pool import Died, delayed_interrupt, number_of_threads, run_tasks

SAME = "same"
"""Value of ``suffix``: each result has the format of its photograph, or PNG if that format cannot be written."""
_SUFFIX_OF_FORMAT = {
    kind.name: kind.suffixes[0] for kind in imaging.FORMATS if kind.suffixes[0] in imaging.OUTPUT_FORMATS
}
_SUFFIXES = {suffix for kind in imaging.FORMATS for suffix in kind.suffixes}


@dataclass
class FolderReport:
    """Counts of files restored by this run (done) and earlier runs (skipped); failures as (relative path, reason)."""

    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Listener:
    """Callbacks. `begin` gets a phase and its number of files, `note` a line to print, `record` each finished file.

    `plan` gets the photographs that remain, before the first is restored; an exception raised by it ends the run.
    """

    begin: Callable[[str, int], object] = lambda *_: None
    note: Callable[[str], object] = lambda _: None
    record: Callable[[Record], object] = lambda _: None
    plan: Callable[[Sequence[Job]], object] = lambda _: None


def restore_folder(
    source: Path,
    output: Path,
    settings: RestoreSettings,
    suffix: str = ".png",
    processes: int | None = None,
    listener: Listener | None = None,
) -> FolderReport:
    """Restore every photograph of a folder and its subfolders, keeping their structure.

    Results of an earlier run with the same photographs and settings are kept, see `Ledger`. An error in one file does
    not stop the others.

    Args:
        output: folder of results; created if missing.
        suffix: extension of the results, one of `OUTPUT_FORMATS`, or `SAME`.
        processes: number of files restored in parallel; None for `default_processes`.
        listener: receives the progress.

    Raises ImageError if there are no photographs; OutputError if the output folder is the input folder, not writable or
    in use by another run; WeightsError, KernelError or ParameterError if the settings cannot be used.
    """
    listener = Listener() if listener is None else listener
    plan = make_plan(source, output, suffix, settings.kernel)
    fingerprint = settings.fingerprint()
    # Only some weights can run "paper", and graphs lack options: check before the folder is made.
    if settings.mode == "paper" or _engine(settings) == "onnx":
        settings.check(load_engine(settings.engine, settings.weights, "cpu"))
    make_folder(output)
    report = FolderReport()

    def record_failure(name: str, reason: str) -> None:
        report.failures.append((name, reason))
        listener.record(Record(name, None, "failed", error=reason))

    with lock_folder(output):
        ledger = Ledger(output)
        _remove_leftovers(output, plan)
        for note in plan.notes:
            listener.note(note)
        listener.begin("checking", len(plan.jobs) + len(plan.failures))
        for name, reason in plan.failures:
            record_failure(name, reason)
        remaining = []
        for job in plan.jobs:
            facts = ledger.facts(job, fingerprint)
            if facts is None:
                remaining.append(job)
            else:
                report.skipped += 1
                listener.record(Record(job.name, job.output, "skipped", facts=facts))
        listener.plan(remaining)
        # Begin a new progress bar: checking is much faster than restoring and would distort the estimated time.
        listener.begin("restoring", len(remaining))
        process_count = min(len(remaining), default_processes(settings) if processes is None else processes)
        threads = max(1, number_of_threads() // max(1, process_count))
        make_restorer = partial(FileRestorer, _divide_memory(settings, process_count))
        outcomes = run_tasks(remaining, make_restorer, process_count, threads)
        try:
            for job, outcome in outcomes:
                if isinstance(outcome, Died):
                    outcome = Failed(f"{job.source}: the process restoring it {outcome.how}")
                elif isinstance(outcome, Done):
                    try:
                        ledger.add(job, fingerprint, outcome)
                    except OutputError as error:
                        outcome = Failed(f"{job.source}: is restored, but the next run will restore it again: {error}")
                if isinstance(outcome, Failed):
                    record_failure(job.name, outcome.reason)
                else:
                    report.done += 1
                    for note in outcome.facts["notes"]:
                        listener.note(f"{job.source}: {note}")
                    listener.record(Record(job.name, job.output, "done", facts=outcome.facts))
        finally:
            with delayed_interrupt():  # a second Ctrl-C must not interrupt the clean-up
                outcomes.close()
                _remove_leftovers(output, plan)
    return report


def _engine(settings: RestoreSettings) -> str:
    return engine_for(settings.engine, settings.weights, settings.device)


def default_processes(settings: RestoreSettings) -> int:
    """The number of files to restore in parallel."""
    if _engine(settings) == "torch" and has_accelerator(settings.device):
        return 2  # one process reads and writes files while the other uses the accelerator
    return max(1, min(4, number_of_threads() // 2))


def _divide_memory(settings: RestoreSettings, processes: int) -> RestoreSettings:
    """Return the settings for each of ``processes`` worker processes, with its share of max_memory."""
    if processes <= 1 or _engine(settings) != "torch":
        return settings
    from blinddiff.sampling.memory import memory_for

    memory = settings.max_memory or memory_for(settings.device)
    return replace(settings, max_memory=max(1, memory // processes))


def _remove_leftovers(output: Path, plan: "Plan") -> None:
    """Remove the temporary files of killed runs."""
    for folder in {job.target.parent for job in plan.jobs} | {output}:
        remove_leftovers(folder)


@dataclass(frozen=True)
class Failed:
    """The reason why a file could not be restored."""

    reason: str


class FileRestorer:
    """Restores one file after another with the same pipeline; the worker of `run_tasks`.

    Raises WeightsError, KernelError or ParameterError if weights or kernel cannot be used, or do not support the scale.
    """

    def __init__(self, settings: RestoreSettings) -> None:
        self._settings = settings
        self._engine = load_engine(settings.engine, settings.weights, settings.device)
        if settings.native:
            self._engine.check_scale(int(settings.scale))
        self._kernel = None if settings.kernel is None else read_kernel(settings.kernel)

    def __call__(self, job: Job) -> Done | Failed:
        """Read, restore and write one file."""
        try:
            data = imaging.read_bytes(job.source, self._settings.max_pixels)  # read once, for the hash and the pixels
            photograph = imaging.read_image(data, self._settings.max_pixels, name=str(job.source))
            try:
                return self._restore(job, replace(photograph, path=job.source), hash_of(data))
            except BlindDiffError as error:  # unlike errors of reading, this one does not name the file
                return Failed(f"{job.source}: {error}")
        except BlindDiffError as error:
            return Failed(str(error))
        except Exception as error:  # noqa: BLE001 - an unexpected error in one file must not stop the others
            return Failed(f"{job.source}: {type(error).__name__}: {error}")

    def _restore(self, job: Job, photograph: imaging.Photograph, input_sha256: str) -> Done:
        make_folder(job.target.parent)
        height, width = self._settings.result_size(*photograph.pixels.shape[-2:])
        imaging.check_output(job.target, photograph, (width, height))
        # Not strict: results may have different formats.
        options = imaging.encoder_options(job.target, self._settings.quality, self._settings.subsampling, strict=False)
        result = restore_photograph(self._engine, photograph, self._settings, self._kernel)
        data = imaging.encode_image(job.target, result.pixels, photograph, result.alpha, options, self._settings.dpi)
        write_file(job.target, data)
        return Done(input_sha256, hash_of(data), result.facts(job.target))


@dataclass
class Plan:
    """The jobs of a run, sorted by name; the failures, as in `FolderReport`; and notes to print before the work."""

    jobs: list[Job] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_plan(source: Path, output: Path, suffix: str, kernel: Path | None = None) -> Plan:
    """Find the photographs below a folder and name their results.

    Photographs are files with the extension or the first bytes of a format that can be read. Hidden files and folders,
    camera raw files and the output folder are excluded. Symbolic links are followed. Linked folders are visited last,
    and every folder only once, so that link loops end.

    The output folder need not exist. ``suffix`` is as in `restore_folder`; ``kernel`` is a file that no result may
    overwrite. Raises ImageError if there is no photograph, OutputError if the output folder is the input folder.
    """
    if (identity := _identity(source)) is not None and _identity(output) == identity:
        raise OutputError(f"{output}: is the input folder; choose another for the results")
    plan = Plan()
    found = _find_photographs(source, output, plan)
    suffixes = {name: suffix_of_format(_format(source / name)) if suffix == SAME else suffix for name in found}
    results = result_names(found, suffixes.__getitem__, plan.notes.append)
    inputs = {_identity(source / name): "a photograph" for name in found}
    if kernel is not None:
        inputs[_identity(kernel)] = "the kernel"
    inputs.pop(None, None)  # the key None stands for files that do not exist
    for name in found:
        target = output / results[name]
        if overwritten := inputs.get(_identity(target)):
            plan.failures.append((name, f"{source / name}: its result {target} would overwrite {overwritten}"))
        else:
            plan.jobs.append(Job(name, results[name], source / name, target))
    if not found and not plan.failures:
        raise ImageError(f"{source}: is a folder without photographs")
    return plan


def _find_photographs(source: Path, output: Path, plan: Plan) -> list[str]:
    """Return the photographs below ``source``, sorted. Record unreadable folders and other files in ``plan``."""
    visited = {_identity(output)} - {None}
    folders, links = [""], deque[str]()
    found, others = [], 0
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        identity = _identity(source / folder)
        if identity in visited:
            continue
        visited.add(identity)
        try:
            with os.scandir(source / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            plan.failures.append((folder or ".", f"{source / folder}: cannot be listed: {error.strerror}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = str(PurePosixPath(folder, entry.name))
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else folders).append(name)
            elif imaging.has_image_name(path := Path(entry.path)) or (
                not imaging.has_raw_name(path) and _format(path) is not None
            ):
                found.append(name)
            else:
                others += 1
    if others:
        plan.notes.append(f"{others} other {'file is' if others == 1 else 'files are'} skipped")
    return sorted(found)


def result_names(
    names: Sequence[str], suffix_of: Callable[[str], str], note: Callable[[str], object]
) -> dict[str, str]:
    """Name the result of each photograph: the photograph's name with the extension of the result.

    If several photographs would get the same name (a.jpg and a.png), the new extension is appended instead: a.jpg.png
    and a.png.png. Names that differ only in case or in Unicode normalisation count as the same, because many file
    systems do not distinguish them. ``suffix_of`` returns the extension of a photograph's result; ``note`` is called
    with a line about each clash.
    """
    results = {}
    for name in names:
        suffix = PurePosixPath(name).suffix
        results[name] = (name.removesuffix(suffix) if suffix.lower() in _SUFFIXES else name) + suffix_of(name)
    groups = defaultdict(list)
    for name in sorted(names):
        groups[_comparable(results[name])].append(name)
    folders = {_comparable(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    reserved = folders | set(groups)
    for key, group in groups.items():
        if len(group) == 1 and key not in folders:
            continue
        clashing = results[group[0]]
        for name in group:
            number, results[name] = 1, name + suffix_of(name)
            while _comparable(results[name]) in reserved:
                number += 1
                results[name] = f"{name}-{number}{suffix_of(name)}"
            reserved.add(_comparable(results[name]))
        chosen = ", ".join(results[name] for name in group)
        note(f"{', '.join(group)}: the name {clashing} is ambiguous; written as {chosen}")
    return results


def suffix_of_format(name: str | None) -> str:
    """Return the extension of a result in the format with this name; ``.png`` if that format cannot be written."""
    return _SUFFIX_OF_FORMAT.get(name or "", ".png")


def _comparable(name: str) -> str:
    """The name without the differences that many file systems ignore: case and Unicode normalisation."""
    return unicodedata.normalize("NFC", name).casefold()


def _format(path: Path) -> str | None:
    """Return the name of a file's image format; None if it is no regular file, no image, or cannot be opened."""
    if not os.path.isfile(path):  # opening a pipe would wait for a writer
        return None
    try:
        with open(path, "rb") as file:
            kind = imaging.image_format(file.read(imaging.SIGNATURE_BYTES))
    except OSError:
        return None
    return None if kind is None else kind.name


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, which identify a file or folder under any name; None if it does not exist."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
