"""Time the parts of a training step: python scripts/profile_training.py recipes/default.yaml --stage 4 --data FOLDER"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from blinddiff.training.recipe import Recipe, load_recipe
from blinddiff.training.trainer import Trainer

PARTS = ("photographs", "degradation", "forward", "backward", "update")
WARM_UP = 3


def profile(recipe: Recipe, steps: int) -> dict[str, float]:
    """Median seconds of each part of a step, on this machine, with data loading not overlapped with the rest."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), resume=False)
        network, seconds = trainer.network, []
        for step in range(WARM_UP + steps):
            generator = torch.Generator().manual_seed(step)
            marks = [time.perf_counter()]
            photographs = torch.from_numpy(trainer.photographs(step))
            marks.append(time.perf_counter())
            pairs = trainer.pairs(photographs, generator)
            marks.append(time.perf_counter())
            losses = trainer.stage.losses(network, pairs, generator)
            float(losses["total"])  # waits for an accelerator
            marks.append(time.perf_counter())
            trainer.accelerator.backward(losses["total"])
            marks.append(time.perf_counter())
            trainer.optimiser.step()
            trainer.optimiser.zero_grad()
            trainer.average.update_parameters(network)
            marks.append(time.perf_counter())
            if step >= WARM_UP:
                seconds.append([after - before for before, after in itertools.pairwise(marks)])
    return dict(zip(PARTS, map(statistics.median, zip(*seconds, strict=True)), strict=True))


def main() -> None:
    """Print the parts in both precisions, as a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", nargs="+", metavar="FOLDER", help="folders of photographs")
    parser.add_argument("--stage", type=int, default=1, help="which of the recipe's stages")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    recipe = load_recipe(args.recipe, args.data)[args.stage - 1]
    one_scale = recipe.degradation.model_copy(update={"scales": {args.scale: 1.0}})
    recipe = recipe.model_copy(update={"init": None, "init_estimator": None, "degradation": one_scale})
    print("| precision |", " | ".join(f"{part} (ms)" for part in PARTS), "| crops per second |")
    print("|---" * (len(PARTS) + 2) + "|")
    for precision in ("float32", "bfloat16"):
        parts = profile(recipe.model_copy(update={"precision": precision}), args.steps)
        total = sum(parts.values()) - parts["photographs"]  # cut by another thread meanwhile
        figures = " | ".join(f"{1000 * parts[part]:.0f}" for part in PARTS)
        print(f"| {precision} | {figures} | {recipe.data.batch / total:.1f} |")


if __name__ == "__main__":
    main()
