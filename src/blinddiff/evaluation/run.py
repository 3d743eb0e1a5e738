"""`blinddiff evaluate`: runs restoration methods on test images, and writes the record and the report.

A protocol degrades the images; each image and degradation is a case. An interrupted run resumes.
"""

import math
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from PIL import Image
from tqdm import tqdm

from blinddiff.degradation.kernel_files import write_kernel
from blinddiff.errors import BlindDiffError, ParameterError, WeightsError
from blinddiff.evaluation.data import CaseId, CaseReference, checksum, data_root, to_bytes
from blinddiff.evaluation.image_metrics import (
    ALEXNET,
    DISTS_WEIGHTS,
    LPIPS_WEIGHTS,
    VGG16,
    Sample,
    available_learned_metrics,
)
from blinddiff.evaluation.methods import Options, fingerprint_of, method
from blinddiff.evaluation.plots import KeptViews, ReportPictures, View, make_report_pictures, view_of
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.records import (
    FORMAT,
    NO_MEMORY,
    RECORD,
    ImageResult,
    ResultLog,
    describe_failure,
    measure_costs,
    now,
    versions,
    write_json,
)
from blinddiff.evaluation.report import (
    Block,
    Heading,
    Paragraph,
    Report,
    Table,
    as_html,
    as_markdown,
    images_csv,
    latex_tables,
    seed_overview,
)
from blinddiff.evaluation.statistics import METRICS, SetSummary, methods_shown, spread_over_seeds, summarise
from blinddiff.files import files_hash, make_folder, write_file
from blinddiff.imaging import write_picture
from blinddiff.restoring.pool import Died, run_tasks


@dataclass(frozen=True)
class Settings:
    """Settings of one evaluation.

    Attributes:
        protocol, scale: see `blinddiff.evaluation.protocols`.
        sets: names of test sets, which are subfolders of `data`.
        methods: names of methods; the first is the baseline for the example cases in the report.
        data: folder of test sets; $BLINDDIFF_DATA if None.
        out: folder for the log, the record and the report.
        options: weights and device, see `Options`.
        seed: random seed of degradations and methods.
        limit: evaluate only the first images of each set.
        workers: number of processes.
        costs: measure memory, multiplications and parameters of each method.
        pictures: show chosen cases in `report.html`.
        tables: also write all results as CSV and the report's tables as LaTeX.
        learned_weights: folder of the weights of LPIPS and DISTS, see `image_metrics.lpips`.
        command: the command line, for the record.

    Raises ParameterError for fewer than one worker or one image.
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
    tables: bool = False
    learned_weights: Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ParameterError(f"workers: must be at least 1, not {self.workers}")
        if self.limit is not None and self.limit < 1:
            raise ParameterError(f"limit: must be at least 1 image, not {self.limit}")


README = """# Inputs of protocol {name}, x{scale}, seed {seed}

{degradation}.

- `LR/SET/IMAGE_INDEX.png`: input of a method.
- `HR/SET/IMAGE.png`: ground truth, cropped to a multiple of the scale.
- `kernel/SET/IMAGE_INDEX_kernel.npy`: true blur kernel, for convolution (not correlation). The centre of the array is
  aligned with the centre of the LR pixel.

INDEX is the number of the degradation. Put the results in one folder as `SET/IMAGE_INDEX.png` (and kernels as
`SET/IMAGE_INDEX_kernel.npy`): the same names as in `LR`. Then run
`blinddiff evaluate --protocol {name} --scale {scale} --seed {seed} {cases} --methods external --external FOLDER`,
with the same `--data` as this export.
"""


def export(settings: Settings, folder: Path) -> tuple[int, list[str]]:
    """Write the inputs of a protocol for other programs: LR and HR images, kernels, a README.

    Returns the number of exported cases, and a line for each case that failed. Raises ParameterError for missing data,
    OutputError if the folder cannot be written.
    """
    chosen = protocol(settings.protocol, settings.scale)
    root = data_root(settings.data)
    references = [case for name in settings.sets for case in chosen.references(root, name, settings.limit)]
    failures = []
    for part, name in product(("LR", "HR", "kernel"), settings.sets):
        make_folder(folder / part / name)
    for reference in tqdm(references, unit="case", disable=not sys.stderr.isatty()):
        try:
            case = chosen.make(reference, settings.seed)
        except BlindDiffError as error:
            failures.append(f"{reference.id}: {error}")
            continue
        write_picture(folder / "LR" / case.id.set / f"{case.id.stem}.png", Image.fromarray(to_bytes(case.y)))
        if case.hr is not None:
            write_picture(folder / "HR" / case.id.set / f"{case.id.name}.png", Image.fromarray(to_bytes(case.hr)))
        kernel = case.kernel_centred_on_lr_pixel  # the one that estimates are compared with
        if kernel is not None:
            write_kernel(folder / "kernel" / case.id.set / f"{case.id.stem}_kernel.npy", kernel)
    cases = f"--sets {shlex.join(settings.sets)}" + ("" if settings.limit is None else f" --limit {settings.limit}")
    write_file(folder / "README.md", README.format(**chosen.describe(), seed=settings.seed, cases=cases).encode())
    return len(references) - len(failures), failures


Evaluated: TypeAlias = tuple[ImageResult, View | None]  # of one method on one case; a view if the report may show it
Task: TypeAlias = tuple[CaseReference, list[str]]  # a case, and the names of the methods to run on it


class Runner:
    """Makes cases and runs methods on them. Each worker process has one."""

    def __init__(self, settings: Settings) -> None:
        self.protocol = protocol(settings.protocol, settings.scale)
        self.seed = settings.seed
        self.learned_weights = settings.learned_weights
        self.shown = methods_shown(settings.methods) if settings.pictures else ()
        # `Options` caches the loaded pipeline. Cache it in a copy: `settings` is sent to the worker processes.
        options = replace(settings.options)
        self.methods = {name: method(name, options) for name in settings.methods}

    def __call__(self, task: Task) -> list[Evaluated]:
        """The results of a task, in a worker process."""
        return list(self.run(*task))

    def run(self, reference: CaseReference, names: Sequence[str]) -> Iterator[Evaluated]:
        """Run the named methods on one case. Bad input or too little memory gives a result with an error."""
        try:
            case = self.protocol.make(reference, self.seed)
            y_checksum = checksum(case.y)
        except BlindDiffError as error:
            yield from ((ImageResult(name, *reference.id, error=str(error)), None) for name in names)
            return
        for name in names:
            try:
                restoration = self.methods[name].restore(case.y, case.scale, case)
                metrics = measure(Sample(case, restoration, self.learned_weights))
            except Exception as error:
                if (failure := describe_failure(error)) is None:
                    raise
                failure = f"{case.id}: {failure}" if failure == NO_MEMORY else failure
                yield ImageResult(name, *case.id, y_checksum=y_checksum, error=failure), None
            else:
                view = view_of(case, restoration.image, restoration.kernel) if name in self.shown else None
                yield ImageResult(name, *case.id, metrics, y_checksum), view


MAX_PSNR = 120.0  # dB, in records; equal images have an infinite PSNR


def measure(sample: Sample) -> dict[str, float]:
    """All metrics that apply to a sample and are finite, by name. Values in dB are at most `MAX_PSNR`."""
    values = {}
    for name, metric in METRICS.items():
        value = metric.measure(sample)
        if value is not None and metric.unit == "dB":
            value = min(value, MAX_PSNR)
        if value is not None and math.isfinite(value):
            values[name] = value
    return values


def run_all(settings: Settings, runner: Runner, tasks: Sequence[Task]) -> Iterator[list[Evaluated]]:
    """Yield lists of results as they become available.

    With one process, each list has one result; with several worker processes, it has all results of a case.
    Raises BlindDiffError if a worker process is killed.
    """
    if settings.workers == 1 or len(tasks) < 2:
        yield from ([result] for task in tasks for result in runner.run(*task))
        return
    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // settings.workers))
    for _, found in run_tasks(tasks, partial(Runner, settings), settings.workers, threads):
        if isinstance(found, Died):
            raise BlindDiffError(f"a worker process {found.how}; to resume, run the same command with fewer --workers")
        yield found


class Outcome(NamedTuple):
    """All results, a summary of each set, and the results with an error, in order."""

    results: list[ImageResult]
    summaries: list[SetSummary]
    failures: list[ImageResult]


def evaluate(settings: Settings) -> Outcome:
    """Run the cases that are not in the log yet, then write record.json, report.md and report.html to the same folder.

    Raises ParameterError for unknown names or missing data, WeightsError for weights that cannot be loaded, OutputError
    if `out` cannot be written or contains a different run.
    """
    started, clock = now(), time.perf_counter()
    learned = available_learned_metrics(settings.learned_weights)
    if settings.learned_weights is not None and not learned:
        needed = " and ".join((ALEXNET, LPIPS_WEIGHTS)), " and ".join((VGG16, DISTS_WEIGHTS))
        raise WeightsError(f"{settings.learned_weights}: contains neither {needed[0]} nor {needed[1]}")
    runner = Runner(settings)
    chosen = runner.protocol
    root = data_root(settings.data)
    references = {name: chosen.references(root, name, settings.limit) for name in settings.sets}
    fingerprint = {
        "format": FORMAT,
        "protocol": chosen.describe(),
        "seed": settings.seed,
        "metrics": list(METRICS),
        "learned metrics": learned,
        "blinddiff": versions()["blinddiff"],
    }
    weights_checksums = {name: fingerprint_of(name, settings.options) for name in settings.methods}
    cases = {case.id: case for group in references.values() for case in group}
    by_image = {f"{case.id.set}/{case.id.name}": case for case in cases.values()}
    data_checksums = {image: files_hash(chosen.files(case)) for image, case in by_image.items()}
    with ResultLog(settings.out, fingerprint, weights_checksums, data_checksums) as log:
        kept_views = _run_missing(settings, runner, cases, log)
        results = [r for r in log.results.values() if r.case_id in cases and r.method in settings.methods]
        summaries = summarise(results, settings.sets, settings.methods)
        failures = sorted((r for r in results if r.error is not None), key=lambda r: r.key)
        costs = {}
        if settings.costs:
            costs = measure_costs(weights_checksums, settings.options, settings.scale, settings.out)
        pictures = ReportPictures()
        if settings.pictures:
            pictures = make_report_pictures(
                results, runner.methods, lambda id_: chosen.make(cases[id_], settings.seed), kept_views
            )
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
            "weights": weights_checksums,
            "data": {
                name: {
                    "images": len({case.id.name for case in group}),
                    "sha256": files_hash(path for case in group for path in chosen.files(case)),
                }
                for name, group in references.items()
            },
            "external": _external(settings),
            "sets": [asdict(summary) for summary in summaries],
            "costs": costs,
            "failures": [asdict(failure) for failure in failures],
        }
        write_json(settings.out / RECORD, record)
        blocks = list(Report(chosen, summaries, results, pictures, record).blocks())
        write_file(settings.out / "report.md", as_markdown(blocks).encode())
        write_file(settings.out / "report.html", as_html(blocks).encode())
        if settings.tables:
            make_folder(settings.out / "tables")
            write_file(settings.out / "tables" / "images.csv", images_csv(results, chosen.labels).encode())
            for name, text in latex_tables(blocks, settings.command):
                write_file(settings.out / "tables" / name, text.encode())
    return Outcome(results, summaries, failures)


def evaluate_seeds(settings: Settings, seeds: Sequence[int]) -> tuple[list[Outcome], list[Table]]:
    """Evaluate with several seeds, each in ``OUT/seed_N``; record and report of `settings.out` hold their spread.

    A seed sets the random kernels and noise of the protocol and the random numbers of the methods. Returns the outcomes
    and a table for each set. Raises the errors of `evaluate`.
    """
    outcomes = [evaluate(replace(settings, seed=seed, out=settings.out / f"seed_{seed}")) for seed in seeds]
    by_set = list(zip(*(outcome.summaries for outcome in outcomes), strict=True))
    spreads = {summaries[0].set: spread_over_seeds(summaries) for summaries in by_set}
    tables = [seed_overview(name, spread, seeds) for name, spread in spreads.items()]
    record = {
        "command": settings.command,
        "versions": versions(),
        "seeds": list(seeds),
        "methods": list(settings.methods),
        "sets": {
            name: {method: {metric: asdict(s) for metric, s in found.items()} for method, found in spread.items()}
            for name, spread in spreads.items()
        },
    }
    write_json(settings.out / RECORD, record)
    note = "Means over seeds, with the standard deviation of the seeds' means. Each seed's folder holds its report."
    blocks: list[Block] = [
        Heading(1, f"{settings.protocol}, x{settings.scale}, {len(seeds)} seeds"),
        Paragraph(note),
        *tables,
    ]
    write_file(settings.out / "report.md", as_markdown(blocks).encode())
    return outcomes, tables


def _run_missing(
    settings: Settings, runner: Runner, cases: Mapping[CaseId, CaseReference], log: ResultLog
) -> KeptViews:
    """Run the missing cases and return the views that the report may need."""
    missing = {case_id: [n for n in settings.methods if (n, *case_id) not in log.results] for case_id in cases}
    tasks = [(cases[case_id], names) for case_id, names in missing.items() if names]
    total = len(cases) * len(settings.methods)
    kept_views = KeptViews(settings.methods, cases)
    for known in log.results.values():
        if known.case_id in cases:
            kept_views.add(known)
    done = total - sum(len(names) for _, names in tasks)
    with tqdm(total=total, initial=done, unit="result", mininterval=0.2, disable=None) as progress:
        for found in run_all(settings, runner, tasks):
            log.append(result for result, _ in found)
            for result, view in found:
                kept_views.add(result, view)
            progress.update(len(found))
    log.finish()
    return kept_views


def _external(settings: Settings) -> dict[str, dict[str, str]]:
    """For each folder of results that is used: its path, and a checksum of its files for these sets."""
    folders = {name: folder for name, folder in settings.options.external.items() if name in settings.methods}
    return {
        name: {"folder": str(folder), "sha256": files_hash(_files(folder / part for part in settings.sets))}
        for name, folder in folders.items()
    }


def _files(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.glob("*") if path.is_file()]
