"""Where a training step's time goes: python scripts/profile_training.py recipes/network.yaml [--steps 12]."""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from blinddiff.training.data import degrade
from blinddiff.training.recipe import Recipe, load_recipe
from blinddiff.training.stages import network_losses
from blinddiff.training.trainer import Trainer

PARTS = ("photographs", "degradation", "forward", "backward", "update")
WARM_UP = 3


def profile(recipe: Recipe, scale: int, steps: int) -> dict[str, float]:
    """Median seconds of each part of a step of stage network, on this machine, data not overlapped with the rest."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), resume=False)
        network, seconds = trainer.network, []
        for step in range(WARM_UP + steps):
            generator = torch.Generator().manual_seed(step)
            marks = [time.perf_counter()]
            photographs = torch.from_numpy(trainer._photographs(step))
            side = trainer._side(scale)
            photographs = photographs[..., :side, :side].to(trainer.accelerator.device)
            marks.append(time.perf_counter())
            pairs = degrade(photographs, scale, network.config.kernel_size, recipe.degradation, generator)
            marks.append(time.perf_counter())
            losses = network_losses(network, pairs, recipe, generator)
            float(losses["total"])  # waits for an accelerator
            marks.append(time.perf_counter())
            trainer.accelerator.backward(losses["total"])
            marks.append(time.perf_counter())
            trainer.optimiser.step()
            trainer.optimiser.zero_grad()
            trainer.average.update(network)
            marks.append(time.perf_counter())
            if step >= WARM_UP:
                seconds.append([after - before for before, after in itertools.pairwise(marks)])
    return dict(zip(PARTS, map(statistics.median, zip(*seconds, strict=True)), strict=True))


def main() -> None:
    """Print the parts in both precisions, as a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    recipe = dataclasses.replace(load_recipe(args.recipe), init=None, init_estimator=None)
    print("| precision |", " | ".join(f"{part} (ms)" for part in PARTS), "| crops per second |")
    print("|---" * (len(PARTS) + 2) + "|")
    for precision in ("float32", "bfloat16"):
        parts = profile(dataclasses.replace(recipe, precision=precision), args.scale, args.steps)
        total = sum(parts.values()) - parts["photographs"]  # cut by another thread meanwhile
        figures = " | ".join(f"{1000 * parts[part]:.0f}" for part in PARTS)
        print(f"| {precision} | {figures} | {recipe.data.batch / total:.1f} |")


if __name__ == "__main__":
    main()
