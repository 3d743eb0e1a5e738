"""Do MTF50 and noise spectrum, estimated from ordinary photographs, agree with a test chart's?

python scripts/measure_mtf.py --data DIR [--limit 12] [--out results/sharpness/record.json]

Each photograph of BSD100 is degraded at x2 by several blurs, some of them sharpened, and by several kinds of noise. A
slanted edge and a flat field are degraded in the same way. From the edge, MTF50 is measured by the method of ISO 12233;
from the flat field, the noise spectrum is the mean of the power spectra of its blocks.
"""

import argparse
import json
import math
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from blinddiff import BlindDiffPipeline
from blinddiff.degradation import DegradationOperator
from blinddiff.degradation.draws import LrImages, Noise
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.degradation.noise import CorrelatedNoise, GaussianNoise, Grain, Halftone
from blinddiff.degradation.processing import Sharpened
from blinddiff.degradation.sharpness import noise_in_words, sharpness_of
from blinddiff.evaluation.data import crop_to_multiple, images_of, read_pixels, to_8bit
from blinddiff.evaluation.methods import weights_checksum
from blinddiff.models.statistics import full_spectrum, noise_spectrum

SCALE, SIDE, SLOPE = 2, 256, 0.1
FINE = 4  # samples of the edge per pixel
REACH = 24  # pixels on either side of the edge
Steps = tuple[tuple[Noise, float], ...]


class Condition(NamedTuple):
    """A blur of a width in HR pixels, and what happens after it, with a level."""

    label: str
    width: float
    steps: Steps = ()


_UNSHARP = Sharpened(min_width=1.0, max_width=1.0)
_GRAIN = Grain(min_width=0.7, max_width=0.7, min_shared=1.0, toned=0.0)
_SCREEN = Halftone(min_period=3.0, max_period=3.0, max_angle=0.0, inks=0.0, toned=0.0)
CONDITIONS = (
    *(Condition(f"blur {width:g}", width) for width in (0.8, 1.2, 1.6, 2.0)),
    *(Condition(f"blur 1.2, unsharp mask {a:g}", 1.2, ((_UNSHARP, a),)) for a in (0.5, 1.0)),
    Condition("white noise 5", 1.2, ((GaussianNoise(), 5.0),)),
    Condition("correlated noise 8", 1.2, ((CorrelatedNoise(min_width=0.7, max_width=0.7), 8.0),)),
    Condition("grain 8", 1.2, ((_GRAIN, 8.0),)),
    Condition("printed screen 8", 1.2, ((_SCREEN, 8.0),)),
)


def degraded(x: Tensor, condition: Condition, seed: int) -> Tensor:
    """y of an HR image (3, H, W), rounded to 8 bits: (1, 3, H / 2, W / 2)."""
    kernel = isotropic_gaussian(condition.width, 31)[None]
    clean = DegradationOperator(kernel, SCALE).forward(x[None])
    images = LrImages(clean, clean, kernel, torch.zeros(1))
    generator = torch.Generator().manual_seed(seed)
    for noise, level in condition.steps:
        images = noise.degrade(images, torch.tensor([level]), SCALE, generator)
    return to_8bit(images.y)


def slanted_edge(side: int, slope: float = SLOPE) -> Tensor:
    """A vertical edge from 0.2 to 0.8, slanted by `slope` pixels a row: (3, side, side)."""
    rows, columns = torch.arange(side)[:, None].float(), torch.arange(side).float()
    covered = (columns - (side - 1) / 2 - slope * (rows - (side - 1) / 2)).clamp(-0.5, 0.5) + 0.5
    return (0.2 + 0.6 * covered).expand(3, -1, -1)


def slanted_edge_mtf50(edge: np.ndarray, slope: float = SLOPE) -> float:
    """MTF50 across a slanted edge (h, w), in cycles per pixel, by ISO 12233: its rows sample one edge finely."""
    middle = ((edge.shape[0] - 1) / 2, (edge.shape[1] - 1) / 2)
    i, j = np.mgrid[8 : edge.shape[0] - 8, 0 : edge.shape[1]]
    offset = (j - middle[1] - slope * (i - middle[0])) / math.hypot(1, slope)
    index = np.round(FINE * offset).astype(int) + FINE * REACH
    inside = (index >= 0) & (index <= 2 * FINE * REACH)
    response = np.bincount(index[inside], edge[i[inside], j[inside]]) / np.bincount(index[inside])
    spread = np.diff(response)
    transfer = np.abs(np.fft.rfft(spread * np.hanning(len(spread)), 8192))
    # Differences of neighbouring samples lower high frequencies, which ISO 12233 corrects.
    frequency = np.arange(len(transfer)) * FINE / 8192
    transfer = transfer / np.sinc(frequency / FINE)
    return float(frequency[np.argmax(transfer < transfer[0] / 2)])


def compare(pipe: BlindDiffPipeline, x: Tensor, condition: Condition, seed: int) -> dict[str, float | str]:
    """Estimates from one photograph, divided by what edge and flat field show."""
    estimate = pipe.estimate(degraded(x, condition, seed), SCALE)
    found = sharpness_of(estimate.kernel[0], SCALE)
    # Noise would only blur the measurement of the edge.
    filters = tuple(step for step in condition.steps if isinstance(step[0], Sharpened))
    edge = degraded(slanted_edge(SIDE), condition._replace(steps=filters), seed)[0, 0].double().numpy()
    across = found.mtf50[0]
    result: dict[str, float | str] = {
        "mtf50": math.nan if across is None else across / slanted_edge_mtf50(edge),
        "overshoot": found.overshoot,
    }
    if len(filters) < len(condition.steps):
        flat = 255 * (degraded(torch.full((3, SIDE, SIDE), 0.5), condition, seed) - 0.5)
        level, spectrum = float(flat.std()), full_spectrum(noise_spectrum(flat))[0]
        estimated = estimate.noise_power()[0] * torch.ones_like(spectrum)
        result["noise_level"] = float(estimate.noise_level[0]) / level
        result["log_spectrum_error"] = float((estimated / spectrum).log().abs().mean())
        given = None if estimate.noise_spectrum is None else estimate.noise_spectrum[0]
        result["noise"] = noise_in_words(float(estimate.noise_level[0]), given)
    return result


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("results/sharpness/record.json"))
    args = parser.parse_args()
    pipe = BlindDiffPipeline.from_pretrained()
    photographs = [crop_to_multiple(read_pixels(path), SCALE) for path in images_of(args.data, "BSD100")[: args.limit]]
    rows = {}
    for condition in CONDITIONS:
        results = [compare(pipe, x, condition, seed) for seed, x in enumerate(photographs)]
        row: dict[str, float | str | list[float]] = {}
        for key in results[0]:
            values = [result[key] for result in results]
            if key == "noise":
                words = [str(value) for value in values]
                row[key] = max(set(words), key=words.count)
            else:
                numbers = sorted(float(value) for value in values)
                row[key] = round(median(numbers), 3)
                row[f"{key}_range"] = [round(numbers[0], 3), round(numbers[-1], 3)]
        rows[condition.label] = row
        print(condition.label, json.dumps(row), flush=True)
    record = {
        "command": f"python scripts/measure_mtf.py --limit {args.limit}",
        "weights": weights_checksum(None),
        "set": "BSD100",
        "scale": SCALE,
        "conditions": rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
