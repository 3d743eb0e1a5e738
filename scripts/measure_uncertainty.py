"""Does the standard deviation over samples predict the error? Measured on Set14, blurred with sigma 2.4, x4.

python scripts/measure_uncertainty.py --data DIR [--limit 14] [--out results/benchmarks/uncertainty/record.json]

Spearman's rank correlation, within each image, between the standard deviation of several perceptual samples and the
absolute error of their mean: over pixels, and over means of 8x8 blocks.
"""

import argparse
import json
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from blinddiff import BlindDiffPipeline
from blinddiff.degradation import DegradationOperator
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.evaluation.data import crop_to_multiple, images_of, read_pixels
from blinddiff.evaluation.methods import weights_checksum

SCALE, SIGMA, SAMPLES, BLOCK = 4, 2.4, 4, 8


def correlations(pipe: BlindDiffPipeline, x: Tensor) -> tuple[float, float]:
    """Rank correlation of spread and error over pixels, and over blocks."""
    y = DegradationOperator(isotropic_gaussian(SIGMA, 21)[None], SCALE)(x)
    y = (y.clamp(0, 1) * 255).round() / 255
    generator = torch.Generator().manual_seed(0)
    out = pipe(y, SCALE, mode="perceptual", num_samples=SAMPLES, generator=generator, output_type="pt")
    assert out.std is not None
    spread = out.std.mean(1, keepdim=True)
    error = (out.images - x).abs().mean(1, keepdim=True)
    by_pixel = spearmanr(spread.flatten(), error.flatten()).statistic
    by_block = spearmanr(*(F.avg_pool2d(part, BLOCK).flatten() for part in (spread, error))).statistic
    return float(by_pixel), float(by_block)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=14)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/uncertainty/record.json"))
    args = parser.parse_args()
    pipe = BlindDiffPipeline.from_pretrained()
    images = {}
    for path in images_of(args.data, "Set14")[: args.limit]:
        images[path.stem] = correlations(pipe, crop_to_multiple(read_pixels(path), SCALE)[None])
        print(path.stem, *(f"{value:.3f}" for value in images[path.stem]), flush=True)
    record = {
        "command": f"python scripts/measure_uncertainty.py --data {args.data} --limit {args.limit}",
        "weights": weights_checksum(None),
        "set": "Set14",
        "samples": SAMPLES,
        "images": {name: {"pixels": round(p, 3), "blocks": round(b, 3)} for name, (p, b) in images.items()},
        "mean": {
            kind: round(sum(values[i] for values in images.values()) / len(images), 3)
            for i, kind in enumerate(("pixels", "blocks"))
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["mean"]))


if __name__ == "__main__":
    main()
