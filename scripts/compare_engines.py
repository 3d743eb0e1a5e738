"""Compare the engine of graphs with the pipeline over modes, scales and sizes.

python scripts/compare_engines.py [--graphs FOLDER] [--modes fast fidelity] [--scales 1 2 3 4]
    [--out results/performance/equality.json]

Each row has the largest differences: of the image (share of the range), the kernel's entries, the noise level (grey
levels) and the consistency. The pipeline then leaves out the noise of x_T, as the graphs do. `seeds` is the RMS
difference of two seeds of the pipeline with that noise, and `graph_and_seed` that of the graph and a seed, both in grey
levels. Graphs and weights have to be of the same network.
"""

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from blinddiff.export.onnx import sample_image
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.light.engine import Engine
from blinddiff.restoring.engines import load_pipeline
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.sampling.schedulers import NoiseSource

CASES = ((64, 64, 0), (37, 91, 10), (75, 50, 2), (9, 30, 2))
"""Height and width of the image, and standard deviation of the noise that is added, in grey levels."""


def without_noise(source: NoiseSource) -> torch.Tensor:
    """Stands in for the noise of x_T."""
    return torch.zeros(source._shape)


def noisy_image(height: int, width: int, noise: float) -> NDArray[np.float32]:
    """A part of a photograph with noise: (h, w, 3) in [0, 1]."""
    draw = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
    y = (sample_image(height, width) + noise / 255 * draw).clamp(0, 1)
    return y[0].permute(1, 2, 0).numpy()


def rms(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Root mean square of the difference of two images, in grey levels."""
    return 255 * float(np.sqrt(np.square(a - b).mean()))


def compare(
    engine: Engine, pipeline: BlindDiffPipeline, y: NDArray[np.float32], scale: int, mode: str
) -> dict[str, float]:
    """The differences of one restoration; see the module."""

    def restored(seed: int) -> NDArray[np.float32]:
        generator = torch.Generator().manual_seed(seed)
        images: NDArray[np.float32] = pipeline(y, scale, mode, generator=generator, output_type="np", as_is=True).images
        return images

    ours = engine(y, scale, mode, as_is=True)
    with mock.patch.object(NoiseSource, "__call__", without_noise):
        theirs: Any = pipeline(y, scale, mode, output_type="np", as_is=True)
    seeds = [restored(seed) for seed in (0, 1)]
    return {
        "image": float(np.abs(ours.images - theirs.images).max()),
        "kernel": float(np.abs(ours.kernels - theirs.kernels.numpy()).max()),
        "noise_level": abs(float(ours.noise_levels[0]) - float(theirs.noise_levels[0])),
        "consistency": abs(float(ours.consistency[0]) - float(theirs.consistency[0])),
        "seeds": rms(*seeds),
        "graph_and_seed": rms(ours.images, seeds[0]),
    }


def main() -> None:
    """Compare, print a table, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, default=DEFAULT_WEIGHTS, help="default: those of the included weights")
    parser.add_argument("--weights", help="of the pipeline; default: the included ones")
    parser.add_argument("--modes", nargs="+", help="default: all of the graphs")
    parser.add_argument("--scales", nargs="+", type=int, help="default: all of the graphs")
    parser.add_argument("--out", type=Path, default=Path("results/performance/equality.json"))
    args = parser.parse_args()
    engine, pipeline = Engine(args.graphs), load_pipeline(args.weights, "cpu")
    rows: list[dict[str, Any]] = []
    for mode in args.modes or engine.modes:
        for scale in args.scales or engine.scales:
            for height, width, noise in CASES:
                found = compare(engine, pipeline, noisy_image(height, width, noise), scale, mode)
                case = {"mode": mode, "scale": scale, "size": f"{height}x{width}", "noise": noise}
                rows.append({**case, **{name: float(f"{value:.2g}") for name, value in found.items()}})
                if len(rows) == 1:
                    print("|", " | ".join(rows[0]), "|\n" + "|---" * len(rows[0]) + "|")
                print("|", " | ".join(map(str, rows[-1].values())), "|", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
