"""Compare this package with other super-resolution models on the same images, in one run on the CPU.

python scripts/compare_rivals.py --data DIR [--pca FILE] [--limit N] [--threads 2] [--out results/benchmarks/rivals]
                                 [--benchmarks PROTOCOL:SCALE:SET ...] [--methods NAME ...]

`make rivals` runs this in an environment of its own. The other models ship inside Python packages and are run by the
package `ncnn`, see rival_worker.py; nothing is downloaded. Methods that cannot run are left out; the record says why.
PROTOCOL is one of `blinddiff evaluate`.

Every image is restored by one method after the other, starting with another method at each image, so that other load on
the machine affects all. This package and each other model have their own process, all with the same number of threads.
Writes record.json, report.md and quality_time.svg. An interrupted run resumes.
"""

import argparse
import importlib.util
import os
import pickle
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rival_worker import MODELS, Reply
from scipy.io import loadmat
from torch import Tensor
from tqdm import tqdm

from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.evaluation.data import Case, Restoration, checksum, data_root
from blinddiff.evaluation.image_metrics import Sample
from blinddiff.evaluation.methods import METHODS, Options, fingerprint_of
from blinddiff.evaluation.plots import Plot, scatter
from blinddiff.evaluation.protocol import Protocol
from blinddiff.evaluation.protocols import protocol
from blinddiff.evaluation.records import RECORD, ImageResult, ResultLog, cost_case, now, processor, versions, write_json
from blinddiff.evaluation.report import Block, Heading, Items, Paragraph, Table, as_markdown, differences, heading
from blinddiff.evaluation.run import measure
from blinddiff.evaluation.statistics import METRICS, Estimate, SetSummary, estimate, summarise
from blinddiff.files import files_hash, make_folder, write_file

WORKER = Path(__file__).with_name("rival_worker.py")
OWN = ("bicubic", "closed-form", "fast", "fidelity", "perceptual", "oracle")
GIVEN_KERNEL = {"oracle", "closed-form-oracle", "srmd", "srmdnf"}
"""Methods that are given the true kernel; `srmd` also the true noise level. All others are blind."""
PCA, PCA_KEY, PCA_SIDE = "BLINDDIFF_SRMD_PCA", "P", 15
COST_RUNS = 4  # the first one loads the model and is not timed
SHOWN = ("psnr_y", "ssim_y", "niqe", "lr_rms")
PLOT = "quality_time.svg"


class Share(NamedTuple):
    """The part of a benchmark that is run: its first images, and of their cases every n-th."""

    images: int | None = None
    every: int = 1


class Benchmark(NamedTuple):
    """A protocol at one scale on one test set."""

    protocol: str
    scale: int
    set: str

    @property
    def key(self) -> str:
        """Its name in the record, as in ``gaussian8_x4_Set14``."""
        return f"{self.protocol}_x{self.scale}_{self.set}"


BENCHMARKS = {
    # Every fifth: each image has one or two of the eight kernels, and each kernel two or three images.
    Benchmark("gaussian8", 4, "Set14"): Share(every=5),
    Benchmark("photographs", 4, "Set14"): Share(images=6, every=7),  # each chain about once
    Benchmark("realsr", 4, "RealSR100"): Share(images=20),
    Benchmark("levin", 2, "BSD100"): Share(images=6, every=9),
}
"""The benchmarks that are run by default, and how much of them. Others are run as a whole."""


# ----- Methods -----


def srmd_condition(name: str, case: Case, pca: Tensor) -> Tensor:
    """What SRMD is given of the degradation: 15 coefficients of the kernel, and for `srmd` the noise level.

    pca: (15, 225), applied to the columns of the centre 15x15 of the kernel, normalised to sum 1.
    """
    kernel = case.kernel_centred_on_lr_pixel
    assert kernel is not None
    half = PCA_SIDE // 2
    padded = torch.nn.functional.pad(kernel.to(pca), (half, half, half, half))
    row, column = (side // 2 for side in kernel.shape)
    centre = padded[row : row + PCA_SIDE, column : column + PCA_SIDE]
    code = pca @ (centre / centre.sum()).T.flatten()
    return code if name == "srmdnf" else torch.cat([code, code.new_tensor([(case.noise_level or 0.0) / 255])])


def read_pca(path: Path | None) -> Tensor | None:
    """KAIR's PCA matrix (15, 225) of SRMD's kernels, or None without a file. Raises ParameterError."""
    if path is None:
        return None
    try:
        matrix = torch.from_numpy(np.asarray(loadmat(path)[PCA_KEY], np.float64))
    except Exception as error:  # damaged files make scipy raise errors of many types
        raise ParameterError(f"{path}: is not a .mat file with the matrix '{PCA_KEY}' ({error})") from error
    if tuple(matrix.shape) != (15, PCA_SIDE**2):
        raise ParameterError(f"{path}: the matrix is {tuple(matrix.shape)}, not (15, {PCA_SIDE**2})")
    return matrix


def reason_not_to_run(name: str, pca: Tensor | None) -> str | None:
    """Why a method cannot run here; None if it can. Raises ParameterError for an unknown method."""
    if name not in MODELS:
        if name.partition("@")[0] not in METHODS or name == "external":
            known = ", ".join([*(each for each in METHODS if each != "external"), *MODELS])
            raise ParameterError(f"method '{name}': one of {known} is accepted")
        return None
    for package in ("ncnn", MODELS[name].package):
        if importlib.util.find_spec(package) is None:
            return f"package {package.replace('_', '-')} is not installed"
    if name in GIVEN_KERNEL and pca is None:
        return f"needs srmd_pca_matlab.mat of KAIR (github.com/cszn/KAIR, folder kernels): give --pca or set {PCA}"
    return None


class Worker:
    """A process of rival_worker.py, started at the first call, and again if it has ended."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, name: str, scale: int, *arguments: Any) -> Reply:
        """Run a method. Raises BlindDiffError if the process ends instead."""
        if self._process is None:
            # threads that wait actively would take time from the other methods' processes
            settings = {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE", "TQDM_DISABLE": "1"}
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), str(self.threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **settings},
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((name, scale, arguments), process.stdin)
            process.stdin.flush()
            return Reply(*pickle.load(process.stdout))
        except (EOFError, OSError) as error:
            code = process.wait()  # before `close`, which would kill it
            self.close()
            raise BlindDiffError(f"its process ended with exit code {code}") from error

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Restorer:
    """Runs methods in worker processes: one for all methods of this package, one for each other model."""

    threads: int
    pca: Tensor | None
    workers: dict[str, Worker] = field(default_factory=dict)

    def restore(self, name: str, case: Case, fresh: bool = False) -> tuple[Restoration, Reply]:
        """Restore a case without showing its true image to the method. Raises BlindDiffError.

        fresh: use a new process for this one call.
        """
        key = name if name in MODELS else ""
        worker = Worker(self.threads) if fresh else self.workers.setdefault(key, Worker(self.threads))
        try:
            if name not in MODELS:
                reply = worker(name, case.scale, replace(case, hr=None))
                return replace(reply.result, seconds=reply.seconds), reply
            condition = torch.empty(0)
            if name in GIVEN_KERNEL:
                assert self.pca is not None
                condition = srmd_condition(name, case, self.pca)
            reply = worker(name, case.scale, case.y.numpy(), condition.float().numpy())
            return Restoration(torch.from_numpy(reply.result), None, None, reply.seconds, 0), reply
        finally:
            if fresh:
                worker.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()


def rotated(names: Sequence[str], index: int) -> list[str]:
    """The names, beginning with another one at each index."""
    start = index % len(names) if names else 0
    return [*names[start:], *names[:start]]


# ----- The run -----


@dataclass
class Outcome:
    """The results of one benchmark.

    Attributes:
        left_out: methods that the benchmark does not allow, with the reason.
        cpu_seconds: method -> mean processor time per image.
        data: number of images and cases, checksum of their files.
    """

    benchmark: Benchmark
    protocol: Protocol
    results: list[ImageResult]
    summary: SetSummary
    left_out: dict[str, str]
    cpu_seconds: dict[str, Estimate]
    data: dict[str, Any]


CPU_SECONDS = "cpu_seconds"  # in the log; not one of `METRICS`


def fingerprint(name: str, scale: int, pca: Path | None) -> str | None:
    """A checksum of a method's weights; for another model also the version of the program that runs it."""
    if name not in MODELS:
        return fingerprint_of(name, Options())
    model = MODELS[name]
    more = [pca] if name in GIVEN_KERNEL and pca is not None else []
    return f"{files_hash([*model.files(model.native_scale(scale)), *more])}, ncnn {metadata.version('ncnn')}"


def left_out(name: str, case: Case) -> str | None:
    """Why a method that can run here cannot run on a benchmark, judged by its first case."""
    if name in MODELS and case.scale not in (2, 3, 4):
        return f"it has no scale {case.scale}"
    if name in GIVEN_KERNEL and case.kernel is None:
        return "it needs the true kernel, which is not known"
    return None


def run_benchmark(
    benchmark: Benchmark, names: Sequence[str], root: Path, restorer: Restorer, args: argparse.Namespace
) -> Outcome:
    """Run the cases that are not in the benchmark's log yet. Raises BlindDiffError, also for missing data."""
    plan = protocol(benchmark.protocol, benchmark.scale)
    share = BENCHMARKS.get(benchmark, Share())
    limits = [limit for limit in (share.images, args.limit) if limit is not None]
    references = plan.references(root, benchmark.set, min(limits, default=None))[:: share.every]
    first = plan.make(references[0], args.seed)
    reasons = {name: reason for name in names if (reason := left_out(name, first)) is not None}
    able = [name for name in names if name not in reasons]
    identity = {"protocol": plan.describe(), "seed": args.seed, "threads": args.threads, "versions": versions()}
    weights = {name: fingerprint(name, benchmark.scale, args.pca) for name in able}
    images = {f"{case.id.set}/{case.id.name}": files_hash(plan.files(case)) for case in references}
    with ResultLog(args.out / benchmark.key, identity, weights, images) as log:
        for index, reference in enumerate(tqdm(references, benchmark.key, unit="case", mininterval=1)):
            missing = [name for name in rotated(able, index) if (name, *reference.id) not in log.results]
            if missing:
                case = plan.make(reference, args.seed)
                log.append(run_case(name, case, restorer) for name in missing)
        log.finish()
        wanted = {reference.id for reference in references}
        results = [r for r in log.results.values() if r.case_id in wanted and r.method in able]
    own = [replace(r, set=benchmark.key, metrics=dict(r.metrics)) for r in results]
    times: dict[str, dict[tuple[str, int], float]] = {name: {} for name in able}
    for result in own:
        if result.error is None:
            times[result.method][result.name, result.index] = result.metrics.pop(CPU_SECONDS)
    [summary] = summarise(own, [benchmark.key], able)
    data = {
        "images": len(images),
        "cases": len(references),
        "sha256": files_hash(path for case in references for path in plan.files(case)),
    }
    cpu = {name: estimate(values) for name, values in times.items() if values}
    return Outcome(benchmark, plan, own, summary, reasons, cpu, data)


def run_case(name: str, case: Case, restorer: Restorer) -> ImageResult:
    """Restore and measure. A method whose process ends has a result with an error."""
    try:
        restoration, reply = restorer.restore(name, case)
        metrics = {**measure(Sample(case, restoration)), CPU_SECONDS: reply.cpu_seconds}
    except BlindDiffError as error:
        return ImageResult(name, *case.id, y_checksum=checksum(case.y), error=str(error))
    return ImageResult(name, *case.id, metrics, checksum(case.y))


def measure_costs(names: Sequence[str], restorer: Restorer) -> tuple[dict[str, Any], dict[str, str]]:
    """Memory and time of one result of 256x256 at x4, in the form of the records of `blinddiff evaluate`.

    The peak is that of a new process that restores this image once; times are medians over interleaved runs. Returns
    the costs, and the methods that fail, with the reason.
    """
    case = cost_case(4)
    peaks: dict[str, int | None] = {}
    failures: dict[str, str] = {}
    for name in names:
        try:
            _, reply = restorer.restore(name, case, fresh=True)
        except BlindDiffError as error:
            failures[name] = str(error)
        else:
            peaks[name] = reply.peak_bytes
    replies: dict[str, list[Reply]] = {name: [] for name in peaks}
    for index in range(COST_RUNS):
        for name in rotated(list(peaks), index):
            replies[name].append(restorer.restore(name, case)[1])

    def median(name: str, attribute: str) -> float:
        return round(statistics.median(getattr(reply, attribute) for reply in replies[name][1:]), 4)

    costs = {
        "result": f"{4 * case.y.shape[-1]}x{4 * case.y.shape[-2]}",
        "threads": restorer.threads,
        "processor": processor(),
        "methods": {
            name: {
                "seconds": median(name, "seconds"),
                CPU_SECONDS: median(name, CPU_SECONDS),
                "peak_mib": None if peak is None else round(peak / 2**20, 1),
            }
            for name, peak in peaks.items()
        },
    }
    return costs, failures


# ----- Report -----


def results_table(outcome: Outcome) -> Table:
    """Means of one benchmark, one row per method."""
    metrics = [METRICS[name] for name in SHOWN]
    rows = []
    for name, found in outcome.summary.means.items():
        cells = [f"{found[m.name].mean:.{m.digits}f}" if m.name in found else "" for m in metrics]
        times = [outcome.cpu_seconds.get(name), found.get("seconds")]
        rows.append([name, given(name), *cells, *("" if time is None else f"{time.mean:.2f}" for time in times)])
    return Table(["", "kernel", *map(heading, metrics), "CPU time (s)", "time (s)"], rows)


def given(name: str) -> str:
    """What a method knows of the kernel."""
    return "true" if name in GIVEN_KERNEL else "blind"


def cost_table(costs: Mapping[str, Any]) -> Table:
    """Time and memory of every method."""
    rows = []
    for name, cost in costs["methods"].items():
        peak = "" if cost["peak_mib"] is None else f"{cost['peak_mib']:.0f}"
        rows.append([name, f"{cost[CPU_SECONDS]:.2f}", f"{cost['seconds']:.2f}", peak])
    return Table(["", "CPU time (s)", "time (s)", "peak memory (MiB)"], rows)


def report(outcomes: Sequence[Outcome], record: Mapping[str, Any]) -> Iterator[Block]:
    """The content of report.md."""
    costs = record["costs"]
    yield Heading(1, "This package and other super-resolution models")
    yield Paragraph(
        f"Made by `{record['command']}`. Same images, {costs['threads']} thread(s) of {costs['processor']}, methods "
        "interleaved. Results are measured as 8-bit images, Y is BT.601 studio swing, as many pixels as the scale are "
        "cropped from each side. *kernel*: whether a method is blind or given the true kernel."
    )
    for outcome in outcomes:
        yield Heading(2, f"{outcome.benchmark.set}: {outcome.protocol.name}, x{outcome.benchmark.scale}")
        text = outcome.protocol.degradation
        yield Paragraph(
            f"{text[0].upper()}{text[1:]}. Source: {outcome.protocol.source}. {outcome.data['images']} images, "
            f"{outcome.data['cases']} cases."
        )
        yield results_table(outcome)
        compared = differences(outcome.summary)
        if compared is not None:
            yield Heading(3, f"{outcome.benchmark.set}: paired differences, {outcome.protocol.name}")
            yield compared
        if outcome.left_out:
            yield Items([f"{name} was left out: {reason}" for name, reason in outcome.left_out.items()])
    yield Heading(2, f"Cost of a result of {costs['result']} at x4")
    yield Paragraph(
        "Peak memory is the largest resident memory of a new process with one method, including Python and libraries."
    )
    yield cost_table(costs)
    if record["not_run"]:
        yield Heading(2, "Not run")
        yield Items([f"{name}: {reason}" for name, reason in record["not_run"].items()])
    failures = [f"{f['method']}, {f['set']}/{f['name']}/{f['index']}: {f['error']}" for f in record["failures"]]
    if failures:
        yield Heading(2, "Failures")
        yield Items(failures)
    yield Heading(2, "Provenance")
    yield Items([f"{name} {version}" for name, version in record["versions"].items()])


def quality_time(outcome: Outcome) -> Plot | None:
    """PSNR-Y against processor time; None for fewer than two methods."""
    means = outcome.summary.means
    points = {
        f"{name} (true kernel)" if name in GIVEN_KERNEL else name: (cpu, means[name]["psnr_y"])
        for name, cpu in outcome.cpu_seconds.items()
        if cpu.low > 0 and "psnr_y" in means[name]
    }
    if len(points) < 2:
        return None
    title = f"{outcome.benchmark.set}, {outcome.protocol.name} x{outcome.benchmark.scale}: PSNR-Y against CPU time"
    return Plot(title, scatter(points, ("CPU time per image (s, logarithmic)", "PSNR-Y (dB)"), log_x=True), title)


# ----- Command line -----


def benchmark_of(text: str) -> Benchmark:
    """An argparse type: ``PROTOCOL:SCALE:SET``."""
    name, scale, set_name = text.split(":")
    return Benchmark(name, int(scale), set_name)


def model_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of ncnn and of the packages of the models among the names."""
    packages = ["ncnn", *(MODELS[name].distribution for name in names if name in MODELS)]
    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def arguments_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pca = os.environ.get(PCA)
    parser.add_argument("--data", type=Path, help="folder of test sets (default: $BLINDDIFF_DATA)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/rivals"))
    parser.add_argument("--benchmarks", nargs="+", type=benchmark_of, metavar="PROTOCOL:SCALE:SET")
    parser.add_argument("--methods", nargs="+", metavar="NAME", default=[*OWN, *MODELS])
    text = f"srmd_pca_matlab.mat of KAIR, for SRMD (default: ${PCA})"
    parser.add_argument("--pca", type=Path, default=None if pca is None else Path(pca), help=text)
    parser.add_argument("--limit", type=int, help="only the first images of each set")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run the comparison, write its files and return the record. Raises BlindDiffError."""
    started, clock = now(), time.perf_counter()
    root, pca = data_root(args.data), read_pca(args.pca)
    wanted = list(dict.fromkeys(args.methods))
    not_run = {name: reason for name in wanted if (reason := reason_not_to_run(name, pca)) is not None}
    benchmarks = args.benchmarks or list(BENCHMARKS)
    for benchmark in benchmarks:  # a missing set is reported before an hour of work
        protocol(benchmark.protocol, benchmark.scale).images(root, benchmark.set)
    make_folder(args.out)
    restorer = Restorer(args.threads, pca)
    with ExitStack() as stack:
        stack.callback(restorer.close)
        costs, failures = measure_costs([name for name in wanted if name not in not_run], restorer)
        not_run |= failures
        for name, reason in not_run.items():
            print(f"not run: {name}: {reason}", file=sys.stderr)
        names = list(costs["methods"])
        if not names:
            raise ParameterError("none of the methods can be run")
        outcomes = [run_benchmark(benchmark, names, root, restorer, args) for benchmark in benchmarks]
    record = {
        "command": args.command,
        "started": started,
        "finished": now(),
        "seconds": round(time.perf_counter() - clock, 1),
        "versions": versions() | model_versions(names),
        "processors": os.cpu_count(),
        "limit": args.limit,
        "seed": args.seed,
        "methods": names,
        "given_the_true_kernel": [name for name in names if name in GIVEN_KERNEL],
        "not_run": not_run,
        "weights": {name: fingerprint(name, 4, args.pca) for name in names},
        "benchmarks": {
            outcome.benchmark.key: {**outcome.protocol.describe(), **outcome.data, "left_out": outcome.left_out}
            for outcome in outcomes
        },
        "sets": [
            {
                **asdict(outcome.summary),
                CPU_SECONDS: {name: asdict(value) for name, value in outcome.cpu_seconds.items()},
            }
            for outcome in outcomes
        ],
        "costs": costs,
        "failures": [asdict(r) for outcome in outcomes for r in outcome.results if r.error is not None],
    }
    write_json(args.out / RECORD, record)
    write_file(args.out / "report.md", as_markdown(report(outcomes, record)).encode())
    plot = quality_time(outcomes[0])
    if plot is not None:
        write_file(args.out / PLOT, plot.svg.encode())
    for outcome in outcomes:
        print(f"{outcome.benchmark.key}\n\n{results_table(outcome).markdown()}\n")
    print(cost_table(costs).markdown())
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if every result could be measured, 1 if a method failed on an image, 2 for an error."""
    args = arguments_of(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    args.command = shlex.join(["python", "scripts/compare_rivals.py", *words])
    try:
        record = compare(args)
    except BlindDiffError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\nreport: {args.out / 'report.md'}")
    return 1 if record["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
