"""What a method costs, on one fixed input, in a process of its own: memory, multiplications, parameters, seconds."""

import json
import multiprocessing
import os
import platform
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.evaluation.cases import Case, Place, to_8bit
from blinddiff.evaluation.methods import Options, method
from blinddiff.evaluation.records import versions, write_json
from blinddiff.evaluation.settings import excuse

SIDE = 256  # of the result in pixels, or a little less where the scale does not divide it
STATUS = Path("/proc/self/status")
COSTS = "costs.json"


@dataclass(frozen=True)
class Cost:
    """Of one restoration of `cost_case`.

    Attributes:
        seconds: wall-clock time of the third run.
        calls: of the network.
        gmacs: 10^9 multiply-accumulates of all matrix products, convolutions and attention, as torch's FlopCounterMode
            counts them, halved. Fourier transforms and pixel-wise work are not in it.
        parameters: trained numbers.
        peak_mib: largest resident memory of the process so far, Python and libraries included; None where the system
            does not tell.
        loaded_mib: resident memory with libraries and weights loaded, before the restoration; None as above.
    """

    seconds: float
    calls: int
    gmacs: float
    parameters: int | None
    peak_mib: float | None
    loaded_mib: float | None


def cost_case(scale: int) -> Case:
    """Smooth noise, blurred by a known Gaussian as far as an oracle is told: costs do not depend on the content."""
    side = SIDE // scale
    y = torch.rand((3, side, side), generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
    kernel = isotropic_gaussian(max(0.4 * scale, 0.8), 21)
    return Case(Place("", "cost", 0), scale, None, to_8bit(y), kernel, 0.0, 0)


def measure_costs(weights: Mapping[str, str | None], options: Options, scale: int, folder: Path) -> dict[str, Any]:
    """The costs of all methods but `external`, as a record; those already in the folder are not measured
    again. What memory does not suffice for is under `not_measured`, with the reason.

    Args:
        weights: name of a method -> fingerprint of its weights, as `fingerprint_of` gives it.

    Raises OutputError if the folder cannot be written.
    """
    path = folder / COSTS
    side = SIDE // scale * scale
    record: dict[str, Any] = {
        "result": f"{side}x{side}",
        "device": options.device,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "blinddiff": versions()["blinddiff"],
        "weights": dict(weights),
        "methods": {},
        "not_measured": {},
    }
    known = read_costs(path)
    if all(known.get(key) == record[key] for key in ("result", "device", "threads", "processor", "blinddiff")):
        record["methods"] = {
            name: cost
            for name, cost in known["methods"].items()
            if name in weights and known["weights"][name] == weights[name]
        }
    for name in weights:
        if name == "external" or name in record["methods"]:
            continue
        # A fresh process for each: memory once taken is not given back, and the peak is that of the process.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            try:
                cost = pool.submit(measure_cost, name, replace(options), scale, record["threads"]).result()
            except Exception as error:
                why = excuse(error)
                if why is None:
                    raise
                record["not_measured"][name] = why
                continue
        record["methods"][name] = asdict(cost)
        write_json(path, record)
    return record


def read_costs(path: Path) -> dict[str, Any]:
    """What `measure_costs` wrote, or nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def measure_cost(name: str, options: Options, scale: int, threads: int) -> Cost:
    """One method's cost in this process, whose peak memory is meant to be this method's alone."""
    torch.set_num_threads(threads)
    chosen = method(name, options)
    case = cost_case(scale)
    loaded = resident_memory()
    first = chosen.restore(case.y, scale, case)
    peak = peak_memory()
    with FlopCounterMode(display=False) as counter:
        chosen.restore(case.y, scale, case)
    return Cost(
        seconds=round(chosen.restore(case.y, scale, case).seconds, 4),
        calls=first.calls,
        gmacs=round(counter.get_total_flops() / 2e9, 4),
        parameters=chosen.parameters,
        peak_mib=None if peak is None else round(peak / 2**20, 1),
        loaded_mib=None if loaded is None else round(loaded / 2**20, 1),
    )


def peak_memory() -> int | None:
    """Largest resident memory that this process has had, in bytes.

    Linux: VmHWM of /proc/self/status. (getrusage would there report the parent's peak, which a child inherits.)
    Elsewhere: getrusage, where there is one.
    """
    if STATUS.exists():
        return _status("VmHWM")
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int | None:
    """Resident memory of this process now, in bytes; None without /proc."""
    return _status("VmRSS") if STATUS.exists() else None


def _status(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _processor() -> str:
    """What the seconds depend on most, as far as it can be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} threads"
