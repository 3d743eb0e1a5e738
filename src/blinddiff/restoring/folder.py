"""Restores every photograph below a folder and records finished ones, so that an interrupted run resumes."""

import hashlib
import os
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from blinddiff.degradation.kernel_files import read_kernel
from blinddiff.errors import BlindDiffError, ImageError, OutputError
from blinddiff.files import lock_folder, make_folder, remove_leftovers, write_file
from blinddiff.imaging import (
    FORMATS,
    OUTPUT_FORMATS,
    SIGNATURE_BYTES,
    Photograph,
    check_output,
    encode_image,
    has_image_name,
    has_raw_name,
    image_format,
    read_bytes,
    read_image,
)
from blinddiff.restoring.journal import Done, Job, Ledger
from blinddiff.restoring.photograph import Record, RestoreSettings, load_pipeline, restore_photograph
from blinddiff.restoring.pool import Died, delayed_interrupt, run_tasks
from blinddiff.sampling.memory import free_memory

SAME = "same"
"""Instead of an extension: the format of each photograph, if it can be written."""
_WRITTEN = {kind.name: kind.suffixes[0] for kind in FORMATS if kind.suffixes[0] in OUTPUT_FORMATS}
_SUFFIXES = {suffix for kind in FORMATS for suffix in kind.suffixes}


@dataclass
class FolderReport:
    """How a run over a folder ended.

    Attributes:
        done, skipped: numbers of files; skipped are those that an earlier run has done.
        failures: names below the input folder, with the reasons.
    """

    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Listener:
    """Functions that report the progress of a run.

    Attributes:
        begin: called as each part of the work begins, with its name and its number of files.
        note: called with lines to print before the work begins.
        record: called with the record of each file when it ends.
    """

    begin: Callable[[str, int], object] = lambda *_: None
    note: Callable[[str], object] = lambda _: None
    record: Callable[[Record], object] = lambda _: None


def restore_folder(
    source: Path,
    output: Path,
    settings: RestoreSettings,
    suffix: str = ".png",
    processes: int | None = None,
    listener: Listener | None = None,
) -> FolderReport:
    """Restore every photograph of a folder and its subfolders, keeping their structure.

    Results that an earlier run made of the same photographs with the same settings are kept, see `Ledger`. A file that
    fails never stops the others.

    Args:
        source: the folder of photographs.
        output: the folder for results; made if it is not there.
        settings: the same for every file.
        suffix: extension of the results, one of `OUTPUT_FORMATS`, or `SAME`.
        processes: how many files to restore in parallel; `default_processes` where None.
        listener: receives the progress.

    Raises:
        ImageError: there are no photographs.
        OutputError: the output folder is the input folder, cannot be written to, or another run is writing there.
        WeightsError, KernelError, ParameterError: the settings cannot be used.
    """
    listener = Listener() if listener is None else listener
    plan = make_plan(source, output, suffix, settings.kernel)
    fingerprint = settings.fingerprint()
    make_folder(output)
    report = FolderReport()

    def enter(job: Job, outcome: Done | Failed) -> None:
        if isinstance(outcome, Done):
            try:
                ledger.add(job, fingerprint, outcome)
            except OutputError as error:
                outcome = Failed(f"{job.source}: is restored, but the next run will restore it again: {error}")
        if isinstance(outcome, Failed):
            fail(job.name, outcome.reason)
        else:
            report.done += 1
            listener.record(Record(job.name, job.output, "done", facts=outcome.facts))

    def fail(name: str, reason: str) -> None:
        report.failures.append((name, reason))
        listener.record(Record(name, None, "failed", error=reason))

    with lock_folder(output):
        ledger = Ledger(output)
        _remove_leftovers(output, plan)
        for note in plan.notes:
            listener.note(note)
        listener.begin("checking", len(plan.jobs) + len(plan.failures))
        for name, reason in plan.failures:
            fail(name, reason)
        remaining = []
        for job in plan.jobs:
            facts = ledger.facts(job, fingerprint)
            if facts is None:
                remaining.append(job)
            else:
                report.skipped += 1
                listener.record(Record(job.name, job.output, "skipped", facts=facts))
        # A progress bar of its own: the speed of checking says nothing about that of restoring.
        listener.begin("restoring", len(remaining))
        count = min(len(remaining), default_processes(settings.device) if processes is None else processes)
        threads = max(1, torch.get_num_threads() // max(1, count))
        outcomes = run_tasks(remaining, partial(FileRestorer, _share_memory(settings, count)), count, threads)
        try:
            for job, outcome in outcomes:
                if isinstance(outcome, Died):
                    outcome = Failed(f"{job.source}: its process {outcome.how}")
                enter(job, outcome)
        finally:
            with delayed_interrupt():  # of a second Ctrl-C
                outcomes.close()
                _remove_leftovers(output, plan)
    return report


def default_processes(device: str | None) -> int:
    """How many files to restore in parallel: a rule of thumb."""
    if device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return 2  # one reads and writes while the other uses the accelerator
    return max(1, min(4, torch.get_num_threads() // 2))


def _share_memory(settings: RestoreSettings, processes: int) -> RestoreSettings:
    """Settings for each of several processes, which divide the memory."""
    if processes <= 1:
        return settings
    on_gpu = torch.cuda.is_available() and (settings.device or "cuda").startswith("cuda")
    memory = settings.max_memory or free_memory(torch.device("cuda" if on_gpu else "cpu"))
    return replace(settings, max_memory=max(1, memory // processes))


def _remove_leftovers(output: Path, plan: "Plan") -> None:
    """Remove the temporary files of runs that were killed."""
    for folder in {job.target.parent for job in plan.jobs} | {output}:
        if os.path.isdir(folder):
            remove_leftovers(folder)


@dataclass(frozen=True)
class Failed:
    """Why a file could not be restored."""

    reason: str


class FileRestorer:
    """Restores files one after the other with one pipeline; the worker of `run_tasks`.

    Raises:
        WeightsError, KernelError, ParameterError: weights or kernel cannot be used, or do not support the scale.
    """

    def __init__(self, settings: RestoreSettings) -> None:
        self._settings = settings
        self._pipeline = load_pipeline(settings.weights, settings.device)
        self._pipeline.check_scale(settings.scale)
        self._kernel = None if settings.kernel is None else read_kernel(settings.kernel)

    def __call__(self, job: Job) -> Done | Failed:
        """Read, restore and write one file."""
        try:
            # Read once, so that hash and pixels are of the same bytes.
            data = read_bytes(job.source, self._settings.max_pixels)
            photograph = read_image(data, self._settings.max_pixels, name=str(job.source))
            try:
                written, facts = self._restore(job, replace(photograph, path=job.source))
            except BlindDiffError as error:  # names another file, or none
                return Failed(f"{job.source}: {error}")
            return Done(hashlib.sha256(data).hexdigest(), hashlib.sha256(written).hexdigest(), facts)
        except BlindDiffError as error:
            return Failed(str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one file must not cost the others
            return Failed(f"{job.source}: {type(error).__name__}: {error}")

    def _restore(self, job: Job, photograph: Photograph) -> tuple[bytes, dict[str, Any]]:
        """Restore and write; the contents of the written file, and the facts."""
        make_folder(job.target.parent)
        height, width = (self._settings.scale * side for side in photograph.pixels.shape[-2:])
        check_output(job.target, photograph, (width, height))
        result = restore_photograph(self._pipeline, photograph, self._settings, self._kernel)
        data = encode_image(job.target, result.pixels, photograph, result.alpha)
        write_file(job.target, data)
        return data, result.facts(job.target)


@dataclass
class Plan:
    """What to do with a folder.

    Attributes:
        jobs: in the order of their names.
        failures: names below the input folder that cannot be restored, with the reasons.
        notes: lines to print beforehand: names that clashed, and files left out.
    """

    jobs: list[Job] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_plan(source: Path, output: Path, suffix: str, kernel: Path | None = None) -> Plan:
    """Find the photographs below a folder and name their results.

    Photographs are files with the extension or the first bytes of a format that can be read. Hidden files and folders,
    cameras' raw files and the output folder are left out. Links to files are followed; links to folders too, once per
    folder and after everything else, so that loops end.

    Args:
        source: the folder to look through.
        output: the folder for results, which need not exist.
        suffix: extension of the results, or `SAME`.
        kernel: file of the kernel, which no result may overwrite.

    Raises:
        ImageError: there is no photograph.
        OutputError: the output folder is the input folder.
    """
    if _identity(output) == _identity(source) is not None:
        raise OutputError(f"{output}: is the input folder; choose another for the results")
    plan = Plan()
    found = _find_photographs(source, output, plan)
    suffixes = {name: suffix_of_format(_format(source / name)) if suffix == SAME else suffix for name in found}
    results = result_names(found, suffixes.__getitem__, plan.notes.append)
    inputs = {_identity(source / name): "a photograph" for name in found}
    if kernel is not None:
        inputs[_identity(kernel)] = "the kernel"
    inputs.pop(None, None)  # of files that do not exist
    for name in found:
        target = output / results[name]
        overwritten = inputs.get(_identity(target))
        if overwritten is not None:
            plan.failures.append((name, f"{source / name}: its result {target} would overwrite {overwritten}"))
        else:
            plan.jobs.append(Job(name, results[name], source / name, target))
    if not found and not plan.failures:
        raise ImageError(f"{source}: is a folder without photographs")
    return plan


def _find_photographs(source: Path, output: Path, plan: Plan) -> list[str]:
    """Names below ``source``, sorted; folders that cannot be listed and the number of other files go to the plan."""
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
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif has_image_name(path := Path(entry.path)) or (not has_raw_name(path) and _format(path) is not None):
                found.append(name)
            else:
                others += 1
    if others:
        plan.notes.append(f"{others} other {'file is' if others == 1 else 'files are'} left alone")
    return sorted(found)


def result_names(
    names: Sequence[str], suffix_of: Callable[[str], str], note: Callable[[str], object]
) -> dict[str, str]:
    """The name of each photograph's result: the photograph's, with another extension.

    Where several would get the same (a.jpg and a.png), each keeps its own extension too: a.jpg.png and a.png.png. Names
    that differ only in case or in Unicode normalisation count as the same, as they do on many file systems.

    Args:
        names: of the photographs.
        suffix_of: gives the extension of a photograph's result.
        note: called with a line about each clash.
    """
    results = {name: _without_extension(name) + suffix_of(name) for name in names}
    groups = defaultdict(list)
    for name in sorted(names):
        groups[_key(results[name])].append(name)
    folders = {_key(str(parent)) for name in names for parent in PurePosixPath(name).parents}
    taken = folders | set(groups)
    for key, group in groups.items():
        if len(group) == 1 and key not in folders:
            continue
        clashing = results[group[0]]
        for name in group:
            number, results[name] = 1, name + suffix_of(name)
            while _key(results[name]) in taken:
                number += 1
                results[name] = f"{name}-{number}{suffix_of(name)}"
            taken.add(_key(results[name]))
        chosen = ", ".join(results[name] for name in group)
        note(f"{', '.join(group)}: the name {clashing} is ambiguous; written as {chosen}")
    return results


def suffix_of_format(name: str | None) -> str:
    """The extension that `SAME` stands for: of a file format by name, ``.png`` for formats that cannot be written."""
    return _WRITTEN.get(name or "", ".png")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_extension(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in _SUFFIXES else name


def _format(path: Path) -> str | None:
    """Name of a regular file's format; None if it is none, or cannot be opened."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            kind = image_format(file.read(SIGNATURE_BYTES))
    except OSError:
        return None
    return None if kind is None else kind.name


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, the same for all names of a file or folder; None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
