"""Files of an evaluation: the log of results, from which a killed run resumes, the costs, and JSON records."""

import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import BlindDiffError, OutputError, is_lack_of_memory
from blinddiff.evaluation.data import Case, CaseId, to_8bit
from blinddiff.evaluation.methods import Options, method
from blinddiff.files import lock_folder, write_file
from blinddiff.restoring.journal import Journal
from blinddiff.restoring.pool import Died, run_tasks

FORMAT = 3
RECORD = "record.json"
PACKAGES = ("blinddiff", "torch", "numpy", "scipy", "pillow", "diffusers")
OPTIONAL_PACKAGES = ("lpips", "DISTS_pytorch")


@dataclass(frozen=True)
class ImageResult:
    """The result of one method on one case: the metrics that apply by name, or one line about the error.

    y_checksum: SHA-256 of the LR image's pixels.
    """

    method: str
    set: str
    name: str
    index: int
    metrics: dict[str, float] = field(default_factory=dict)
    y_checksum: str = ""
    error: str | None = None

    @property
    def key(self) -> tuple[str, str, str, int]:
        """(method, set, image, parameter index)."""
        return self.method, *self.case_id

    @property
    def case_id(self) -> CaseId:
        """The case."""
        return CaseId(self.set, self.name, self.index)


NO_MEMORY = "memory has run out"


def describe_failure(error: Exception) -> str | None:
    """One line for bad input and for lack of memory; None for any other exception, which is a bug."""
    if isinstance(error, BlindDiffError):
        return str(error)
    return NO_MEMORY if is_lack_of_memory(error) else None


class ResultLog(ExitStack):
    """The results of a run in its folder: read on start and appended to during the run, so that a killed run resumes.

    The first line holds fingerprints of the settings, of each method and of each image. The log of a different run is
    refused; methods and images may be added later; results of changed images are dropped. No other run can write to the
    folder until the log is closed, at the latest at the end of its `with` block.

    Args:
        folder: contains `images.jsonl`; made if there is none.
        fingerprint: the settings that all results depend on.
        methods: name -> fingerprint; None drops the method's earlier results.
        images: ``Set14/comic`` -> checksum.

    Raises OutputError if the folder cannot be written, contains a different run, or is in use by another run.
    """

    def __init__(
        self, folder: Path, fingerprint: dict[str, Any], methods: Mapping[str, str | None], images: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.path = folder / "images.jsonl"
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.methods = dict(methods)
        self.images = dict(images)
        self.results: dict[tuple[str, str, str, int], ImageResult] = {}
        self.enter_context(lock_folder(folder))
        try:
            self._journal = Journal(self.path)
            self._read()
            self.finish()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        lines = [text for _, text in self._journal]
        if not lines and self.path.stat().st_size == 0:
            return
        try:
            head = json.loads(lines[0])
            first, methods = dict(head["fingerprint"]), dict(head["methods"])
            images = dict(head.get("images", {}))  # absent in older logs
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise OutputError(f"{self.path}: is not a log of blinddiff evaluate; choose another --out") from error
        changed = sorted(k for k in {*first, *self.fingerprint} if first.get(k) != self.fingerprint.get(k))
        changed += [
            f"weights of {name}" for name in sorted(methods) if self.methods.get(name, methods[name]) != methods[name]
        ]
        if changed:
            raise OutputError(
                f"{self.path}: contains a different run (differs in: {', '.join(changed)}); choose another --out"
            )
        self.methods = {**methods, **self.methods}
        stale = {name for name in images if images[name] != self.images.get(name, images[name])}
        self.images = {**images, **self.images}
        for line in lines[1:]:
            try:
                result = ImageResult(**json.loads(line))
            except (ValueError, TypeError):
                continue  # damaged
            # Failures and results that may have changed are evaluated again.
            valid = self.methods.get(result.method) is not None and f"{result.set}/{result.name}" not in stale
            if result.error is None and valid:
                self.results[result.key] = result

    def append(self, results: Iterable[ImageResult]) -> None:
        """Add results; they are on disk when this returns. Raises OutputError."""
        new = {result.key: result for result in results}
        self._journal.append(*map(_line, new.values()))
        self.results.update(new)

    def finish(self) -> None:
        """Sort the lines, so that the file does not depend on the order of evaluation. Raises OutputError."""
        head = {"fingerprint": self.fingerprint, "methods": self.methods, "images": self.images}
        results = [self.results[key] for key in sorted(self.results)]
        self._journal.rewrite([json.dumps(head, sort_keys=True), *map(_line, results)])


def _line(result: ImageResult) -> str:
    return json.dumps(asdict(result), sort_keys=True, allow_nan=False)


def versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that results may depend on."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    found |= dict.fromkeys(PACKAGES, "not installed as a package")
    for package in (*PACKAGES, *OPTIONAL_PACKAGES):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with sorted keys. Raises OutputError."""
    write_file(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


COST_SIDE = 256  # side of the result in pixels, rounded down to a multiple of the scale
STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """Time, memory and operations of one restoration of `cost_case`.

    Attributes:
        seconds: wall-clock time of the third run.
        calls: number of calls of the network.
        gmacs: 10^9 multiply-accumulates of matrix products, convolutions and attention: half of what torch's
            FlopCounterMode counts. Fourier transforms and pixel-wise operations are not included.
        parameters: number of trained parameters.
        peak_mib: largest resident memory of the process, including Python and libraries; None if unknown.
        loaded_mib: resident memory after loading libraries and weights, before the restoration.
    """

    seconds: float
    calls: int
    gmacs: float
    parameters: int | None
    peak_mib: float | None
    loaded_mib: float


def cost_case(scale: int) -> Case:
    """A case with smooth noise as the input and a Gaussian as the true kernel. Costs do not depend on the content."""
    side = COST_SIDE // scale
    y = torch.rand((3, side, side), generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    kernel = isotropic_gaussian(max(0.4 * scale, 0.8), 21)
    return Case(CaseId("", "cost", 0), scale, None, to_8bit(y), kernel, 0.0, 0)


def measure_costs(weights: Mapping[str, str | None], options: Options, scale: int, folder: Path) -> dict[str, Any]:
    """Measure the methods of this package that are not in the folder's costs.json; return all costs as a record.

    `weights` maps each method to the result of `fingerprint_of`. Methods that run out of memory are listed under
    `not_measured`, with the reason. Raises OutputError if the folder cannot be written.
    """
    path = folder / "costs.json"
    side = COST_SIDE // scale * scale
    conditions = {
        "result": f"{side}x{side}",
        "device": options.device,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "blinddiff": versions()["blinddiff"],
    }
    record: dict[str, Any] = {**conditions, "weights": dict(weights), "methods": {}, "not_measured": {}}
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    if conditions.items() <= known.items():
        record["methods"] = {n: cost for n, cost in known["methods"].items() if weights.get(n) == known["weights"][n]}
    worker = partial(_cost_worker, replace(options), scale)
    for name in [name for name in weights if name not in options.external and name not in record["methods"]]:
        try:
            # A new process for each method, because the peak is measured per process.
            [(_, cost)] = run_tasks([name], worker, processes=1, threads=torch.get_num_threads())
            if isinstance(cost, Died):
                raise MemoryError
        except Exception as error:
            if (failure := describe_failure(error)) is None:
                raise
            record["not_measured"][name] = failure
        else:
            record["methods"][name] = asdict(cost)
            write_json(path, record)
    return record


class _NoModules(ModuleTracker):
    """Counts for the whole network only: the hooks on modules refuse gradients with respect to x_t, a leaf."""

    def __enter__(self) -> "_NoModules":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _cost_worker(options: Options, scale: int) -> Callable[[str], Cost]:
    return partial(measure_cost, options=options, scale=scale)


def measure_cost(name: str, options: Options, scale: int) -> Cost:
    """Measure one method in this process, which must be new: its peak memory is then that of the method."""
    chosen = method(name, options)
    case = cost_case(scale)
    loaded = psutil.Process().memory_info().rss
    first = chosen.restore(case.y, scale, case)
    peak = peak_memory()
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()
    with counter:
        chosen.restore(case.y, scale, case)
    return Cost(
        seconds=round(chosen.restore(case.y, scale, case).seconds, 4),
        calls=first.calls,
        gmacs=round(counter.get_total_flops() / 2e9, 4),
        parameters=chosen.parameters,
        peak_mib=None if peak is None else round(peak / 2**20, 1),
        loaded_mib=round(loaded / 2**20, 1),
    )


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes.

    On Linux VmHWM of /proc/self/status, because getrusage would include the parent's peak. None on Windows.
    """
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """Model of the processor and number of its threads."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} threads"
