"""Writing the exact inputs of a protocol, so that other programs can be run on them."""

import multiprocessing
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from blinddiff.degradation.kernel_files import write_kernel
from blinddiff.errors import BlindDiffError, OutputError
from blinddiff.evaluation import perceptual_metrics as learned
from blinddiff.evaluation.cases import Case, CaseReference, Place, bytes_of, checksum
from blinddiff.evaluation.costs import measure_costs
from blinddiff.evaluation.data import data_root, files_checksum
from blinddiff.evaluation.image_metrics import Sample
from blinddiff.evaluation.methods import fingerprint_of, method
from blinddiff.evaluation.metrics import measure
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
from blinddiff.evaluation.report.choice import shown_methods
from blinddiff.evaluation.report.findings import Findings
from blinddiff.evaluation.report.gallery import Gallery
from blinddiff.evaluation.report.html import as_html
from blinddiff.evaluation.report.markdown import as_markdown
from blinddiff.evaluation.report.page import page
from blinddiff.evaluation.report.showcase import Showcase, make_showcase
from blinddiff.evaluation.report.view import View, view_of
from blinddiff.evaluation.settings import NO_MEMORY, Settings, excuse
from blinddiff.evaluation.statistics import SetSummary, summarise, summary_json
from blinddiff.imaging import write_picture

README = """# Inputs of protocol {name}, x{scale}, seed {seed}

{degradation}.

- `LR/SET/IMAGE_INDEX.png`: what a method is given.
- `HR/SET/IMAGE.png`: ground truth, cropped to a multiple of the scale.
- `kernel/SET/IMAGE_INDEX_kernel.npy`: true blur kernel, for true convolution, index centre = LR pixel centre.

Put results in one folder as `SET/IMAGE_INDEX.png` (and kernels as `SET/IMAGE_INDEX_kernel.npy`), then
`blinddiff evaluate --protocol {name} --scale {scale} --seed {seed} {cases} --methods external --external FOLDER`,
with `--data` as for this export.
"""


def export(settings: Settings, folder: Path) -> tuple[int, list[str]]:
    """Write LR and HR images as PNG, kernels as .npy and a README; the methods of `settings` do not count.

    Returns the number of cases, and a line for each that could not be made. Raises ParameterError for missing data,
    OutputError if the folder cannot be written.
    """
    plan = protocol(settings.protocol, settings.scale)
    root = data_root(settings.data)
    references = [case for name in settings.sets for case in plan.references(root, name, settings.limit)]
    failures = []
    try:
        for place in (folder / part / name for part in ("LR", "HR", "kernel") for name in settings.sets):
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    for reference in tqdm(references, unit="case", disable=not sys.stderr.isatty()):
        try:
            case = plan.make(reference, settings.seed)
        except BlindDiffError as error:
            failures.append(f"{reference.place}: {error}")
        else:
            _write(case, folder)
    cases = f"--sets {shlex.join(settings.sets)}" + ("" if settings.limit is None else f" --limit {settings.limit}")
    readme = README.format(
        name=plan.name, scale=plan.scale, seed=settings.seed, degradation=plan.degradation, cases=cases
    )
    write_text(folder / "README.md", readme)
    return len(references) - len(failures), failures


def _write(case: Case, folder: Path) -> None:
    set_name, stem = case.place.set, case.place.stem
    write_picture(folder / "LR" / set_name / f"{stem}.png", Image.fromarray(bytes_of(case.y)))
    if case.hr is not None:
        write_picture(folder / "HR" / set_name / f"{case.place.name}.png", Image.fromarray(bytes_of(case.hr)))
    if case.kernel_at_pixel_centre is not None:
        write_kernel(folder / "kernel" / set_name / f"{stem}_kernel.npy", case.kernel_at_pixel_centre)


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


@dataclass(frozen=True)
class Outcome:
    """What came of it: every result, and a summary for each set."""

    results: list[ImageResult]
    summaries: list[SetSummary]

    @property
    def failures(self) -> list[ImageResult]:
        """What could not be evaluated, in order."""
        return sorted((r for r in self.results if r.error is not None), key=lambda r: r.key)


def evaluate(settings: Settings) -> Outcome:
    """Run what is not in the log yet, then write `record.json`, `report.md` and `report.html` beside it.

    Raises ParameterError for unknown names or missing data, WeightsError for weights that cannot be loaded, OutputError
    if `out` cannot be written or holds another run.
    """
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
    cases = [reference for group in references.values() for reference in group]
    files = {f"{case.place.set}/{case.place.name}": plan.files(case) for case in cases}
    data = {image: files_checksum(paths) for image, paths in files.items()}
    with ResultLog(settings.out, fingerprint, weights, data) as log:
        gallery = _run_missing(settings, runner, cases, log)
        results = [r for r in _results_of(cases, log) if r.method in settings.methods]
        summaries = summarise(results, settings.sets, settings.methods)
        outcome = Outcome(results, summaries)
        costs = measure_costs(weights, settings.options, settings.scale, settings.out) if settings.costs else {}
        showcase = _showcase(runner, results, cases, gallery) if settings.pictures else Showcase()
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
                name: {
                    "images": len({case.place.name for case in group}),
                    "sha256": files_checksum(path for case in group for path in plan.files(case)),
                }
                for name, group in references.items()
            },
            "external": _external(settings),
            "sets": [summary_json(summary) for summary in summaries],
            "costs": costs,
            "failures": [asdict(failure) for failure in outcome.failures],
        }
        write_json(settings.out / RECORD, record)
        evaluated = {
            name: len({r.name for r in results if r.set == name and r.error is None}) for name in settings.sets
        }
        blocks = page(Findings(plan, settings.methods, summaries, results, evaluated, costs, showcase, record))
        write_text(settings.out / "report.md", as_markdown(blocks))
        write_text(settings.out / "report.html", as_html(blocks))
    return outcome


def _run_missing(settings: Settings, runner: Runner, cases: Sequence[CaseReference], log: ResultLog) -> Gallery:
    """Run all that the log lacks, into it; what may be shown of these and of its own results."""
    tasks = [(case, names) for case in cases if (names := _missing(case, settings.methods, log))]
    total = len(cases) * len(settings.methods)
    gallery = Gallery(settings.methods, {case.place for case in cases})
    for known in _results_of(cases, log):
        gallery.add(known)
    with tqdm(
        total=total,
        initial=total - sum(len(names) for _, names in tasks),
        unit="result",
        mininterval=0.2 if sys.stderr.isatty() else 30,
    ) as progress:
        for found in run_all(settings, runner, tasks):
            log.append(one.result for one in found)
            for one in found:
                gallery.add(one.result, one.view)
            progress.update(len(found))
    log.finish()
    return gallery


def _external(settings: Settings) -> dict[str, str] | None:
    """The folder of another program's results, and the checksum of all that is in it for these sets."""
    folder = settings.options.external
    if folder is None:
        return None
    places = [folder / name for name in settings.sets]
    files = [path for place in places if place.is_dir() for path in place.iterdir() if path.is_file()]
    return {"folder": str(folder), "sha256": files_checksum(files)}


def _showcase(
    runner: Runner, results: Sequence[ImageResult], cases: Sequence[CaseReference], gallery: Gallery
) -> Showcase:
    references = {case.place: case for case in cases}

    def make_case(place: Place) -> Case:
        return runner.protocol.make(references[place], runner.seed)

    return make_showcase(results, runner.methods, make_case, gallery)


def _results_of(cases: Sequence[CaseReference], log: ResultLog) -> list[ImageResult]:
    """The log's results on these cases, in its order: it may hold more, of a run without --limit."""
    wanted = {case.place for case in cases}
    return [result for result in log.results.values() if result.place in wanted]


def _missing(case: CaseReference, methods: Sequence[str], log: ResultLog) -> list[str]:
    return [name for name in methods if (name, *case.place) not in log.results]
