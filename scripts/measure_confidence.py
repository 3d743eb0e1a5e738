"""Is the expected kernel error right on average? A reliability diagram over protocols, and the calibration error.

python scripts/measure_confidence.py --data DIR --sets Set14 BSD100 [--limit 14] [--out results/benchmarks/confidence]

Cases are binned by their expected error, equally many in each bin. The expected calibration error is the mean over the
bins of |mean expected error - mean error|, where errors are sum |k_hat - k| of the initial estimate, 0 to 2.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from blinddiff.degradation import Observation
from blinddiff.evaluation.kernel_metrics import kernel_l1
from blinddiff.evaluation.methods import weights_checksum
from blinddiff.evaluation.plots import COLOURS, GREY, STYLE
from blinddiff.evaluation.protocols import protocol
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.restoring.engines import load_pipeline

PROTOCOLS = (
    ("gaussian8", 4),
    ("gaussian8", 2),
    ("setting2_noise10", 4),
    ("motion", 4),
    ("photographs", 4),
    ("photographs", 2),
    ("unusual", 2),
    ("unusual", 4),
)
BINS = 10


def errors(weights: Path, data: Path, sets: list[str], limit: int) -> dict[str, list[tuple[float, float]]]:
    """Pairs of expected and true error by protocol."""
    network = load_pipeline(weights, "cpu").network
    found: dict[str, list[tuple[float, float]]] = {}
    for name, scale in PROTOCOLS:
        plan = protocol(name, scale)
        pairs = found.setdefault(f"{name}_x{scale}", [])
        for each in sets:
            for reference in plan.references(data, each, limit):
                case = plan.make(reference, 0)
                if case.kernel is None:
                    continue
                estimate = network.initial_estimate(Observation(case.y[None], scale))
                assert estimate.expected_kernel_error is not None
                pairs.append((float(estimate.expected_kernel_error[0]), kernel_l1(estimate.kernel[0], case.kernel)))
        print(f"{name} x{scale}: {len(pairs)} cases, means {np.mean(pairs, 0).round(3)}", flush=True)
    return found


def bins(pairs: np.ndarray) -> np.ndarray:
    """Mean expected and mean true error of each bin, (`BINS`, 2)."""
    ordered = pairs[pairs[:, 0].argsort()]
    return np.stack([part.mean(0) for part in np.array_split(ordered, BINS)])


def diagram(pairs: np.ndarray, path: Path) -> None:
    """Draw the reliability diagram."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4))
        axes = figure.subplots()
        axes.plot([0, 2], [0, 2], color=GREY, linewidth=1)
        axes.scatter(pairs[:, 0], pairs[:, 1], s=3, color=COLOURS[5], alpha=0.4, linewidths=0, rasterized=True)
        means = bins(pairs)
        axes.plot(means[:, 0], means[:, 1], marker="o", color=COLOURS[0])
        axes.set(xlabel="expected kernel error", ylabel="kernel error, sum |k_hat - k|", xlim=(0, 2), ylim=(0, 2))
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["Set14"])
    parser.add_argument("--limit", type=int, default=14)
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/confidence"))
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    found = errors(args.weights, args.data, args.sets, args.limit)
    pairs = np.array([pair for each in found.values() for pair in each])
    table = bins(pairs)
    record = {
        "command": f"python scripts/measure_confidence.py --sets {' '.join(args.sets)} --limit {args.limit}",
        "weights": weights_checksum(args.weights),
        "cases": len(pairs),
        "calibration_error": round(float(np.abs(table[:, 0] - table[:, 1]).mean()), 4),
        "correlation": round(float(np.corrcoef(pairs.T)[0, 1]), 3),
        "bins": table.round(4).tolist(),
        "protocols": {name: np.mean(each, 0).round(4).tolist() for name, each in found.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "record.json").write_text(json.dumps(record, indent=2) + "\n")
    diagram(pairs, args.out / "reliability.svg")
    print(f"{len(pairs)} cases: calibration error {record['calibration_error']}, correlation {record['correlation']}")


if __name__ == "__main__":
    main()
