"""Running methods on a protocol's cases, one result at a time and resumable, and writing down what came of it."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tqdm import tqdm

from blinddiff.evaluation.cases import Case, CaseReference, Place
from blinddiff.evaluation.costs import measure_costs
from blinddiff.evaluation.data import data_root, files_checksum
from blinddiff.evaluation.methods import fingerprint_of
from blinddiff.evaluation.metrics import learned
from blinddiff.evaluation.records import FORMAT, RECORD, ImageResult, ResultLog, now, versions, write_json, write_text
from blinddiff.evaluation.report import Findings, as_html, as_markdown, page
from blinddiff.evaluation.report.gallery import Gallery
from blinddiff.evaluation.report.showcase import Showcase, make_showcase
from blinddiff.evaluation.running import Runner, run_all
from blinddiff.evaluation.settings import Settings
from blinddiff.evaluation.summary import SetSummary, summarise, summary_json


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
