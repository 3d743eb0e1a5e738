"""Calibrate the limits of acceptable results: python scripts/calibrate_limits.py --data DIR --set NAME [--write]

The photographs of the folder DIR/NAME, which should be in no test set, are degraded by protocols of the laboratory and
restored as they are, without limits. The limits are a margin above a high quantile of what the results measure that are
better than bicubic interpolation: a result beyond them is hardly ever a good one. `--weights` names the folder of
weights; `--write` changes its file.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blinddiff.degradation import bicubic_upsample
from blinddiff.evaluation.protocols import protocol
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.models.picture_kind import LIMITS
from blinddiff.restoring.engines import load_pipeline
from blinddiff.sampling.decision import measured

QUANTILE, MARGIN = 0.99, 1.5
SMALLEST = torch.tensor([3.0, 1.0, 0.02])
"""Limits are not below these, whatever the photographs say."""
KEY = "picture.limits"


class Share(NamedTuple):
    """A share of a protocol: every so many of its cases."""

    name: str
    scale: int
    every: int


SHARES = (
    Share("gaussian8", 4, 5),
    Share("gaussian8", 2, 8),
    Share("setting2_noise10", 4, 2),
    Share("photographs", 4, 5),
    Share("photographs", 2, 9),
    Share("photographs", 1, 9),
    Share("motion", 4, 5),
    Share("deblur", 1, 5),
)
IMAGES = 14
SIDE = 64
"""LR side of the part that is restored, to save time."""


def results(weights: Path, data: Path, name_of_set: str) -> tuple[Tensor, Tensor]:
    """What results measure, (n, 3), and their gains over bicubic interpolation in dB, (n,)."""
    pipeline = load_pipeline(weights, "cpu")
    rows, gains = [], []
    for name, scale, every in SHARES:
        plan = protocol(name, scale)
        for reference in plan.references(data, name_of_set, IMAGES)[::every]:
            case = plan.make(reference, 0)
            assert case.hr is not None
            y, x = case.y[None, :, :SIDE, :SIDE], case.hr[None, :, : SIDE * scale, : SIDE * scale]
            generator = torch.Generator().manual_seed(case.seed)
            out = pipeline(y, scale=scale, mode="fast", as_is=True, generator=generator, output_type="pt")
            rows.append(torch.tensor(measured(out.images, y, float(out.consistency[0]))))
            errors = [(each.clamp(0, 1) - x).square().mean() for each in (bicubic_upsample(y, scale), out.images)]
            gains.append(10 * (errors[0] / errors[1]).log10())
    return torch.stack(rows), torch.stack(gains)


def main() -> None:
    """Measure, print the limits and what they would have refused, and write them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets of photographs")
    parser.add_argument("--set", required=True, help="name of the set")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows, gains = results(args.weights, args.data, args.set)
    limits = (MARGIN * rows[gains > 0].quantile(QUANTILE, 0)).maximum(SMALLEST)
    refused = (rows > limits).any(1)
    print(", ".join(f"{name} {value:.3g}" for name, value in zip(LIMITS, limits.tolist(), strict=True)))
    print(
        f"{len(rows)} results; {int((gains < 0).sum())} below bicubic interpolation; refused {int(refused.sum())}, of"
    )
    print(f"these {int((refused & (gains < 0)).sum())} below bicubic interpolation")
    if args.write:
        (path,) = args.weights.rglob("diffusion_pytorch_model.safetensors")
        state = load_file(path)
        dtype = next(iter(state.values())).dtype
        save_file({**state, KEY: limits.to(dtype)}, path, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
