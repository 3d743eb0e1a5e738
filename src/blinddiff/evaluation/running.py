"""Methods on cases: in this process or in several."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

import torch

from blinddiff.errors import BlindDiffError
from blinddiff.evaluation.cases import CaseReference, checksum
from blinddiff.evaluation.excuses import NO_MEMORY, excuse
from blinddiff.evaluation.methods import method
from blinddiff.evaluation.metrics import measure
from blinddiff.evaluation.metrics.metric import Sample
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.records import ImageResult, finite
from blinddiff.evaluation.report.choice import shown_methods
from blinddiff.evaluation.report.view import View, view_of
from blinddiff.evaluation.settings import Settings


@dataclass(frozen=True)
class Evaluated:
    """One method on one case: what is written down of it, and what a page may show (None: nothing)."""

    result: ImageResult
    view: View | None = None


class Runner:
    """Makes cases and runs methods on them; each worker process has one."""

    def __init__(self, settings: Settings) -> None:
        self.protocol = protocol(settings.protocol, settings.scale)
        self.seed = settings.seed
        self.shown = shown_methods(settings.methods) if settings.pictures else ()
        options = replace(settings.options)  # a copy: `settings` has to stay free of loaded weights to go to workers
        self.methods = {name: method(name, options) for name in settings.methods}

    def run(self, reference: CaseReference, names: Sequence[str]) -> Iterator[Evaluated]:
        """The named methods on one case. Bad input and want of memory become results with an error; a bug raises."""
        try:
            case = self.protocol.make(reference, self.seed)
            y_checksum = checksum(case.y)
        except BlindDiffError as error:
            yield from (Evaluated(ImageResult(name, *reference.place, error=str(error))) for name in names)
            return
        for name in names:
            try:
                restoration = self.methods[name].restore(case.y, case.scale, case)
                metrics = finite(measure(Sample(case, restoration)))
            except Exception as error:
                why = excuse(error)
                if why is None:
                    raise
                why = f"{case.place}: {why}" if why == NO_MEMORY else why
                yield Evaluated(ImageResult(name, *reference.place, y_checksum=y_checksum, error=why))
            else:
                view = view_of(case, restoration) if name in self.shown else None
                yield Evaluated(ImageResult(name, *reference.place, metrics=metrics, y_checksum=y_checksum), view)


def run_all(
    settings: Settings, runner: Runner, tasks: Sequence[tuple[CaseReference, list[str]]]
) -> Iterator[list[Evaluated]]:
    """Results of all tasks as they come: one at a time in this process, or case by case from several.

    Raises BlindDiffError if one of several processes is ended from outside.
    """
    if settings.workers == 1 or len(tasks) < 2:
        for case, names in tasks:
            for result in runner.run(case, names):
                yield [result]
        return
    # Processes are spawned, not forked: a forked torch hangs where its threads had already started.
    with ProcessPoolExecutor(
        settings.workers, multiprocessing.get_context("spawn"), _start_worker, (settings,)
    ) as pool:
        pending: set[Future[list[Evaluated]]] = {pool.submit(_run_in_worker, *task) for task in tasks}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        except BrokenProcessPool as error:
            raise BlindDiffError(
                "a worker process was ended, perhaps for want of memory; the same command with fewer --workers goes on "
                "where this run was"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_runner: Runner | None = None


def _start_worker(settings: Settings) -> None:
    global _runner
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // settings.workers)))
    _runner = Runner(settings)


def _end_with_parent() -> None:
    """A killed run cannot tell its workers, which would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(case: CaseReference, names: list[str]) -> list[Evaluated]:
    assert _runner is not None
    return list(_runner.run(case, names))
