"""Time both engines, and profile the light one.

python scripts/benchmark_engines.py [--graphs FOLDER] [--threads 1 2] [--sides 64 512] [--scale 4]
    [--modes fidelity fast] [--repeats 5] [--out results/performance/engines.json]

Each engine restores a photograph of --sides pixels in a process of its own for each number of threads and side, as it
is, so that both do the same work: seconds (median of --repeats, after one call that warms up) and peak memory of the
process.

The profile runs the graph of the first mode at the first side on one thread. From the sizes of the arrays at each node
it counts the multiplications of convolutions and matrix products, so that each kind of node has a rate. The rate of the
core is that of NumPy's single-precision product of two 1024 x 1024 matrices on one thread. Run it on an idle machine.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blinddiff.files import DEFAULT_WEIGHTS

ENGINES = ("onnx", "torch")
PHOTOGRAPH = Path(__file__).resolve().parents[1] / "src/blinddiff/samples/flowers.jpg"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm")
CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")
SMALLEST_SHARE = 0.01  # of the time, of nodes that are listed


def photograph(side: int) -> Image.Image:
    """A square photograph."""
    with Image.open(PHOTOGRAPH) as picture:
        width, height = picture.size
        margin = (width - height) // 2
        return picture.crop((margin, 0, margin + height, height)).resize((side, side), Image.Resampling.BICUBIC)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call, after one that warms up."""
    seconds = []
    for index in range(repeats + 1):
        started = time.perf_counter()
        work()
        if index > 0:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def restoration(engine: str, weights: str | None, mode: str, side: int, scale: int, repeats: int) -> dict[str, float]:
    """Seconds and peak memory of one engine in this process."""
    from blinddiff.restoring.engines import load_engine

    loaded, picture = load_engine(engine, weights, "cpu"), np.asarray(photograph(side))
    seconds = median_seconds(lambda: loaded(picture, scale=scale, mode=mode, as_is=True), repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {"seconds": significant(seconds), "peak_mib": round(peak)}


def product_rate(side: int = 1024) -> float:
    """Multiplications a second of NumPy's product of two square matrices in single precision."""
    a, b = np.random.default_rng(0).random((2, side, side), np.float32)
    return side**3 / median_seconds(lambda: a @ b, 15)


def profile(graphs: str, mode: str, side: int, scale: int, repeats: int) -> dict[str, Any]:
    """Seconds, multiplications and rate of each kind of node in a restoration's graph, on one thread."""
    import onnxruntime

    from blinddiff.light.engine import to_planes
    from blinddiff.light.graphs import Graphs

    y = to_planes(photograph(side))
    estimate, _ = Graphs(graphs).estimate(y, scale)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    path = Path(graphs) / f"restore_{mode}_x{scale}.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for _ in range(repeats + 1):
        session.run(None, {"y": y, **estimate.inputs()})
    file = Path(session.end_profiling())
    events = json.loads(file.read_text())
    file.unlink()
    return summary(events, repeats)


def summary(events: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    """Means over the runs after the first: of all nodes, and of each kind."""
    seconds: dict[str, float] = defaultdict(float)
    products: dict[str, float] = defaultdict(float)
    warm: set[str] = set()
    for event in events:
        if event["cat"] != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        if event["name"] not in warm:  # the first run
            warm.add(event["name"])
            continue
        kind, count = multiplications(event["args"])
        seconds[kind] += event["dur"] / 1e6 / runs
        products[kind] += count / runs
    whole = sum(seconds.values())
    kinds = {
        kind: {
            "seconds": significant(spent),
            "share_of_time": significant(spent / whole),
            "gmacs": significant(products[kind] / 1e9),
            "gmacs_per_second": significant(products[kind] / spent / 1e9),
        }
        for kind, spent in sorted(seconds.items(), key=lambda item: -item[1])
        if spent >= SMALLEST_SHARE * whole
    }
    gmacs = sum(products.values()) / 1e9
    totals = {"seconds": whole, "gmacs": gmacs, "gmacs_per_second": gmacs / whole}
    return {**{name: significant(value) for name, value in totals.items()}, "kinds": kinds}


def significant(value: float) -> float:
    """A value with three significant digits."""
    return float(f"{value:.3g}")


def multiplications(node: dict[str, Any]) -> tuple[str, float]:
    """Kind and number of multiplications of a node, from its type and the shapes in a profile of ONNX Runtime."""
    shapes = [next(iter(each.values())) for each in node["input_type_shape"]]
    outputs = [next(iter(each.values())) for each in node["output_type_shape"]]
    name = node["op_name"]
    if name in PRODUCTS:
        return "matrix product", math.prod(outputs[0]) * shapes[0][-1]
    if name in CONVOLUTIONS:
        _, channels, *kernel = shapes[1]  # of the weight: (outputs, inputs of a group, height, width)
        size = "x".join(map(str, kernel))
        kind = "depthwise convolution" if channels == 1 and shapes[0][1] > 1 else "convolution"
        return f"{kind} {size}", math.prod(outputs[0]) * channels * math.prod(kernel)
    return name, 0.0


def in_a_process(threads: int, *task: object) -> Any:
    """The result of one of `TASKS` in a process of its own with a number of threads."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


TASKS: dict[str, Callable[..., Any]] = {"restore": restoration, "rate": product_rate, "profile": profile}


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", default=str(DEFAULT_WEIGHTS), help="default: those of the included weights")
    parser.add_argument("--weights", help="of the engine torch; default: the included ones")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--sides", nargs="+", type=int, default=[64, 512], help="of the photograph, in pixels")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--modes", nargs="+", default=["fidelity", "fast"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/performance/engines.json"))
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        name, *arguments = args.task
        print(json.dumps(TASKS[name](*arguments)))
        return
    from benchmark_record import load_average, write_record

    load = load_average()
    rows: list[dict[str, Any]] = []
    for side in args.sides:
        for mode in args.modes:
            for threads in args.threads:
                for engine in ENGINES:
                    weights = args.graphs if engine == "onnx" else args.weights
                    found = in_a_process(threads, "restore", engine, weights, mode, side, args.scale, args.repeats)
                    rows.append({"engine": engine, "mode": mode, "side": side, "threads": threads, **found})
                    print(rows[-1], flush=True)
    rate = in_a_process(1, "rate") / 1e9
    found = in_a_process(1, "profile", args.graphs, args.modes[0], args.sides[0], args.scale, args.repeats)
    found["share_of_product_rate"] = significant(found["gmacs_per_second"] / rate)
    record = {
        "command": "python scripts/benchmark_engines.py " + " ".join(sys.argv[1:]),
        "scale": args.scale,
        "repeats": args.repeats,
        "cores": os.cpu_count(),
        "load_before": load,
        "rows": rows,
        "product_gmacs_per_second": significant(rate),
        "profile": {"mode": args.modes[0], "side": args.sides[0], "threads": 1, **found},
    }
    write_record(args.out, record)


if __name__ == "__main__":
    main()
