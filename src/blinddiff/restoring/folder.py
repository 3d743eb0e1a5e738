"""A folder of photographs: everything that can be done is done, once."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from blinddiff.errors import OutputError
from blinddiff.files import remove_leftovers
from blinddiff.restoring.journal import Ledger
from blinddiff.restoring.photograph import Done, Record, RestoreSettings
from blinddiff.restoring.plan import Job, Plan, make_plan
from blinddiff.restoring.pool import Failed, run_jobs, without_interruption
from blinddiff.sampling.memory import free_memory


@dataclass
class FolderReport:
    """How a run over a folder ended.

    Attributes:
        done, skipped: how many files; skipped are those that had been done before.
        failures: names below the input folder, with the reasons.
    """

    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Listener:
    """Who wants to know meanwhile.

    Attributes:
        begin: called as each part of the work begins, with its name and how many files it has.
        note: called with lines to say before the work begins.
        record: called with the record of each file as it ends.
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
    """Restore every photograph of a folder and of those below, keeping their structure.

    Results that an earlier run made of the same photographs with the same settings stay (see `Ledger`). A file that
    cannot be done never stops the others.

    Args:
        source: the folder of photographs.
        output: the folder for results; made if it is not there.
        settings: the same for every file.
        suffix: the results' extension, see `OUTPUT_FORMATS`, or ``"same"``: each its own, where that is written.
        processes: how many files to do side by side; what pays on this machine where None.
        listener: hears of progress.

    Raises:
        ImageError: there are no photographs.
        OutputError: the output folder is the input folder, cannot be written to, or another run is writing there.
        WeightsError, KernelError, ParameterError: the settings cannot be used.
    """
    listener = Listener() if listener is None else listener
    plan = make_plan(source, output, suffix, settings.kernel)
    fingerprint = settings.fingerprint()
    _make_folder(output)
    report = FolderReport()
    with Ledger(output) as ledger:
        _tidy(output, plan)
        for note in plan.notes:
            listener.note(note)
        listener.begin("checking", len(plan.jobs) + len(plan.failures))
        for name, reason in plan.failures:
            _failed(report, listener, name, reason)
        todo = []
        for job in plan.jobs:
            facts = ledger.facts(job, fingerprint)
            if facts is None:
                todo.append(job)
            else:
                report.skipped += 1
                listener.record(Record(job.name, job.output, "skipped", facts=facts))
        # A bar of its own: files that are only checked promise a speed that the others do not keep.
        listener.begin("restoring", len(todo))
        count = min(len(todo), processes_that_pay(settings.device) if processes is None else processes)
        threads = max(1, torch.get_num_threads() // max(1, count))
        outcomes = run_jobs(todo, _with_share_of_memory(settings, count), count, threads)
        try:
            for job, outcome in outcomes:
                _enter(report, listener, ledger, fingerprint, job, outcome)
        finally:
            with without_interruption():  # who is impatient presses Ctrl-C twice
                outcomes.close()
                _tidy(output, plan)
    return report


def processes_that_pay(device: str | None) -> int:
    """How many files side by side use a machine well, by a rule of thumb."""
    if device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return 2  # one reads and writes while the other has the accelerator
    return max(1, min(4, torch.get_num_threads() // 2))


def _with_share_of_memory(settings: RestoreSettings, processes: int) -> RestoreSettings:
    """Settings for one of several processes."""
    if processes <= 1:
        return settings
    on_gpu = torch.cuda.is_available() and (settings.device or "cuda").startswith("cuda")
    memory = settings.max_memory or free_memory(torch.device("cuda" if on_gpu else "cpu"))
    return replace(settings, max_memory=max(1, memory // processes))


def _enter(
    report: FolderReport, listener: Listener, ledger: Ledger, fingerprint: str, job: Job, outcome: Done | Failed
) -> None:
    if isinstance(outcome, Failed):
        _failed(report, listener, job.name, outcome.reason)
        return
    try:
        ledger.add(job, fingerprint, outcome)
    except OutputError as error:
        _failed(report, listener, job.name, f"{job.source}: is restored, but would be again: {error}")
        return
    report.done += 1
    listener.record(Record(job.name, job.output, "done", facts=outcome.facts))


def _failed(report: FolderReport, listener: Listener, name: str, reason: str) -> None:
    report.failures.append((name, reason))
    listener.record(Record(name, None, "failed", error=reason))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}") from error


def _tidy(output: Path, plan: Plan) -> None:
    """Remove what killed runs left behind."""
    for folder in {job.target.parent for job in plan.jobs} | {output}:
        with contextlib.suppress(OSError):
            if os.path.isdir(folder):
                remove_leftovers(folder)
