"""Running methods on a protocol's cases: in this process or in several, resumable, one result at a time."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.evaluation.cases import CaseReference, checksum
from blinddiff.evaluation.costs import measure_costs
from blinddiff.evaluation.data import data_root, files_checksum
from blinddiff.evaluation.methods import fingerprint_of, method
from blinddiff.evaluation.methods.method import Options
from blinddiff.evaluation.metrics import learned, measure
from blinddiff.evaluation.metrics.metric import Sample
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.records import (
    FORMAT,
    RECORD,
    ImageResult,
    ResultLog,
    finite,
    now,
    versions,
    write_json,
    write_text,
)
from blinddiff.evaluation.report import Findings, as_html, as_markdown, page
from blinddiff.evaluation.report.showcase import Showcase, make_showcase
from blinddiff.evaluation.summary import SetSummary, summarise


@dataclass(frozen=True)
class Settings:
    """One evaluation.

    Attributes:
        protocol, scale: see `blinddiff.evaluation.protocols`.
        sets: test sets, folders of `data`.
        methods: see `blinddiff.evaluation.methods`; the first is what the others are compared with first.
        data: folder of test sets, None for the environment's.
        out: folder for the log, the record and the report.
        seed: of the degradations and of the methods.
        limit: evaluate the first images of each set only.
        workers: processes; 1 for this one alone.
        costs: measure memory, multiplications and parameters of each method, in a process for each.
        pictures: show chosen cases in `report.html`.
        command: how the user called it, for the record.
    """

    protocol: str
    scale: int
    sets: tuple[str, ...]
    methods: tuple[str, ...]
    data: Path | None
    out: Path
    options: Options = field(default_factory=Options)
    seed: int = 0
    limit: int | None = None
    workers: int = 1
    costs: bool = True
    pictures: bool = True
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of it: a summary for each set, and what could not be evaluated."""

    summaries: list[SetSummary]
    failures: list[ImageResult]


class Runner:
    """Makes cases and runs methods on them; each worker process has one."""

    def __init__(self, settings: Settings) -> None:
        self.protocol = protocol(settings.protocol, settings.scale)
        self.seed = settings.seed
        options = replace(settings.options)  # a copy: `settings` has to stay free of loaded weights to go to workers
        self.methods = {name: method(name, options) for name in settings.methods}

    def run(self, reference: CaseReference, names: Sequence[str]) -> Iterator[ImageResult]:
        """The named methods on one case. Bad input becomes a result with an error; a bug still raises."""
        place = (reference.set, reference.name, reference.index)
        try:
            case = self.protocol.make(reference, self.seed)
            y_checksum = checksum(case.y)
        except BlindDiffError as error:
            yield from (ImageResult(name, *place, error=str(error)) for name in names)
            return
        for name in names:
            try:
                restoration = self.methods[name].restore(case.y, case.scale, case)
                metrics = finite(measure(Sample(case, restoration)))
            except BlindDiffError as error:
                yield ImageResult(name, *place, y_checksum=y_checksum, error=str(error))
            else:
                yield ImageResult(name, *place, metrics=metrics, y_checksum=y_checksum)


def evaluate(settings: Settings) -> Outcome:
    """Run what is not in the log yet, then write `record.json`, `report.md` and `report.html` beside it.

    Raises ParameterError for unknown names or missing data, WeightsError for weights that cannot be loaded, OutputError
    if `out` cannot be written or holds another run.
    """
    if settings.workers < 1:
        raise ParameterError(f"workers {settings.workers}: at least 1 is accepted")
    if settings.limit is not None and settings.limit < 1:
        raise ParameterError(f"limit {settings.limit}: at least 1 image is accepted")
    started, clock = now(), time.perf_counter()
    runner = Runner(settings)
    plan = runner.protocol
    root = data_root(settings.data)
    references = {name: plan.references(root, name, settings.limit) for name in settings.sets}
    fingerprint = {
        "format": FORMAT,
        "protocol": plan.describe(),
        "seed": settings.seed,
        "learned metrics": learned.available(),
        "blinddiff": versions()["blinddiff"],
    }
    weights = {name: fingerprint_of(name, settings.options) for name in settings.methods}
    log = ResultLog(settings.out, fingerprint, weights)
    cases = [reference for group in references.values() for reference in group]
    tasks = [(case, names) for case in cases if (names := _missing(case, settings.methods, log))]
    done = len(cases) * len(settings.methods) - sum(len(names) for _, names in tasks)
    with tqdm(
        total=len(cases) * len(settings.methods),
        initial=done,
        unit="result",
        mininterval=0.2 if sys.stderr.isatty() else 30,
    ) as progress:
        for results in _results(settings, runner, tasks):
            log.append(results)
            progress.update(len(results))
    log.finish()

    wanted = {(case.set, case.name, case.index) for case in cases}
    results = [r for r in log.results.values() if r.key[1:] in wanted and r.method in settings.methods]
    summaries = summarise(results, settings.sets, settings.methods)
    failures = sorted((r for r in results if r.error is not None), key=lambda r: r.key)
    images = {name: len({case.name for case in group}) for name, group in references.items()}
    costs = measure_costs(settings.methods, settings.options, settings.scale, settings.out) if settings.costs else {}
    showcase = _showcase(runner, results, cases) if settings.pictures else Showcase()
    record = {
        "fingerprint": fingerprint,
        "command": settings.command,
        "started": started,
        "finished": now(),
        "seconds": round(time.perf_counter() - clock, 1),
        "versions": versions(),
        "processors": os.cpu_count(),
        "workers": settings.workers,
        "device": settings.options.device,
        "limit": settings.limit,
        "methods": list(settings.methods),
        "weights": weights,
        "data": {
            name: {"images": images[name], "sha256": files_checksum(sorted({case.source for case in group}))}
            for name, group in references.items()
        },
        "sets": [_as_json(summary) for summary in summaries],
        "costs": costs,
        "failures": [asdict(failure) for failure in failures],
    }
    write_json(settings.out / RECORD, record)
    evaluated = {name: len({r.name for r in results if r.set == name and r.error is None}) for name in settings.sets}
    blocks = page(Findings(plan, settings.methods, summaries, results, evaluated, costs, showcase, record))
    write_text(settings.out / "report.md", as_markdown(blocks))
    write_text(settings.out / "report.html", as_html(blocks))
    return Outcome(summaries, failures)


def _showcase(runner: Runner, results: Sequence[ImageResult], cases: Sequence[CaseReference]) -> Showcase:
    by_key = {(case.set, case.name, case.index): case for case in cases}
    return make_showcase(results, runner.methods, lambda key: runner.protocol.make(by_key[key], runner.seed))


def _missing(case: CaseReference, methods: Sequence[str], log: ResultLog) -> list[str]:
    return [name for name in methods if (name, case.set, case.name, case.index) not in log.results]


def _results(
    settings: Settings, runner: Runner, tasks: Sequence[tuple[CaseReference, list[str]]]
) -> Iterator[list[ImageResult]]:
    """Results of all tasks as they come: one at a time in this process, or case by case from several."""
    if settings.workers == 1 or len(tasks) < 2:
        for case, names in tasks:
            for result in runner.run(case, names):
                yield [result]
        return
    # Processes are spawned, not forked: a forked torch hangs where its threads had already started.
    with ProcessPoolExecutor(
        settings.workers, multiprocessing.get_context("spawn"), _start_worker, (settings,)
    ) as pool:
        pending: set[Future[list[ImageResult]]] = {pool.submit(_run_in_worker, *task) for task in tasks}
        try:
            while pending:
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_runner: Runner | None = None


def _start_worker(settings: Settings) -> None:
    global _runner
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // settings.workers))
    _runner = Runner(settings)


def _end_with_parent() -> None:
    """A killed run cannot tell its workers, which would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(case: CaseReference, names: list[str]) -> list[ImageResult]:
    assert _runner is not None
    return list(_runner.run(case, names))


def _as_json(summary: SetSummary) -> dict[str, Any]:
    return {
        "set": summary.set,
        "means": {m: {name: asdict(e) for name, e in means.items()} for m, means in summary.means.items()},
        "psnr_y_by_parameter": summary.by_parameter,
        "differences": {name: [asdict(d) for d in pairs] for name, pairs in summary.differences.items()},
    }
