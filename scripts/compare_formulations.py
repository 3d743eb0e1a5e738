"""Compare the paper's formulation with this package's, trained for the same time, with one change at a time between.

python scripts/compare_formulations.py --photographs DIR --data DIR [--hours 2] [--threads 2] [--only NAME ...]

Measures the processor time of a training step of each recipe in recipes/paper but the paper's own two, so that each is
trained for as many steps as fit in the hours. Trains them into runs/paper/NAME, evaluates all that are trained on the
paper's settings, and writes records and reports to results/paper. Run it again after an interruption: it continues.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from blinddiff.evaluation.methods import Options
from blinddiff.evaluation.records import RECORD, versions, write_json
from blinddiff.evaluation.report import Block, Heading, Paragraph, Table, as_markdown, heading, with_interval
from blinddiff.evaluation.run import Settings, evaluate
from blinddiff.evaluation.statistics import METRICS, SetSummary
from blinddiff.files import write_file
from blinddiff.training.recipe import Recipe, load_recipe
from blinddiff.training.trainer import Trainer, train

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "paper"
BASELINE = "small"
"""The recipe of the paper's formulation; its weights also have the settings of `PAPER_METHODS`."""
PAPER_METHODS = {
    "paper": "the paper's formulation",
    "paper-gradient": "guidance by the squared norm",
    "paper-proximal": "closed-form proximal step instead of guidance",
    "paper-kernel-once": "kernel of the first step kept (no alternation)",
}
TRAINED = {
    "spectral": "kernel from the spectral statistics of y",
    "closed_form": "closed-form image as a further input",
    "x0": "image predicted instead of noise",
    "no_modulation": "no kernel in the modulation",
    "no_kernel_loss": "no kernel constraint",
    "compact": "this package's formulation, mode fidelity",
}
"""Recipes beside the baseline, and what each changes."""
OWN_STEPS = ("compact",)  # evaluated with the steps of its mode
SETTINGS = ("setting1", "setting2")
SETS = ("Set14",)
COLUMNS = ("psnr_y", "niqe", "kernel_l1")
WARM_UP = 1


def seconds_per_step(recipe: Recipe, steps: int) -> float:
    """Processor time of a training step over the number of threads, whatever else the machine does."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(recipe, Path(folder), resume=False, device="cpu")
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                started = time.process_time()
            trainer._train_step(torch.from_numpy(trainer.photographs(step)))
            trainer.step += 1
        return (time.process_time() - started) / steps / torch.get_num_threads()


def training_plan(
    recipes: Mapping[str, Recipe], hours: float, measured_steps: int, path: Path
) -> dict[str, dict[str, float]]:
    """Steps of each recipe, and the seconds of one; kept in a file, so that interrupted trainings keep their length.

    Raises SystemExit if the file is for other hours or threads.
    """
    conditions = {"hours": hours, "threads": torch.get_num_threads()}
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {**conditions, "recipes": {}}
    if {key: kept[key] for key in conditions} != conditions:
        raise SystemExit(f"{path}: is of a run with {kept['hours']} hours and {kept['threads']} threads")
    for name, recipe in recipes.items():
        if name not in kept["recipes"]:
            seconds = seconds_per_step(recipe, measured_steps)
            kept["recipes"][name] = {"seconds_per_step": seconds, "steps": max(1, int(3600 * hours / seconds))}
            write_json(path, kept)
    return {name: kept["recipes"][name] for name in recipes}


def tables(name: str, summary: SetSummary, changes: Mapping[str, str]) -> list[Block]:
    """What each change does to the baseline on one test set: paired differences with intervals, and mean times."""
    baseline, *others = changes
    shown = [METRICS[metric] for metric in COLUMNS]
    means = summary.means[baseline]
    first = [f"{m.mean:.{metric.digits}f}" if (m := means.get(metric.name)) is not None else "" for metric in shown]
    rows = [[changes[baseline], *first, f"{means['seconds'].mean:.1f}"]]
    for method in others:
        cells = []
        for metric in shown:
            pairs = summary.differences[metric.name]
            found = next((d for d in pairs if (d.method, d.baseline) == (method, baseline)), None)
            cell = ""
            if found is not None:
                e = found.estimate
                interval = with_interval(e.mean, e.low, e.high, metric.digits)
                cell = f"{interval} {found.verdict(metric.higher_is_better)}".strip()
            cells.append(cell)
        rows.append([f"{changes[method]} (`{method}`)", *cells, f"{summary.means[method]['seconds'].mean:.1f}"])
    header = ["", *map(heading, shown), heading(METRICS["seconds"])]
    return [Heading(2, f"{name}, {summary.set}"), Table(header, rows)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Plan, train, evaluate, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", nargs="+", required=True, metavar="DIR", help="folders to train on")
    parser.add_argument("--data", type=Path, required=True, help="folder of test sets")
    parser.add_argument("--hours", type=float, default=2.0, help="of each training (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of a training (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=TRAINED, default=list(TRAINED), help="trainings beside the paper's"
    )
    parser.add_argument("--measured-steps", type=int, default=8, help="whose time is measured (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="of the published sampler (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=6, help="only the first images of each set (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that evaluate (default: %(default)s)")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, default=Path("results/paper"))
    args = parser.parse_args(arguments)
    command = shlex.join(["python", *sys.argv])
    torch.set_num_threads(args.threads)

    recipes = {name: load_recipe(RECIPES / f"{name}.yaml", args.photographs)[0] for name in (BASELINE, *args.only)}
    args.runs.mkdir(parents=True, exist_ok=True)
    plan = training_plan(recipes, args.hours, args.measured_steps, args.runs / "plan.json")
    weights = {}
    for name, recipe in recipes.items():
        folder = args.runs / name
        recipe = recipe.model_copy(update={"steps": int(plan[name]["steps"])})
        weights[name] = train(recipe, folder, resume=(folder / "checkpoint").is_dir(), device="cpu")

    changes = {
        name if name in OWN_STEPS else f"{name}@{args.steps}": change
        for name, change in {**PAPER_METHODS, **{name: TRAINED[name] for name in args.only}}.items()
    }
    checkpoints = {name: folder for name, folder in weights.items() if name != BASELINE}
    note = (
        f"Made by `{command}`. The first row has means, the others differences from it, case by case, with 95 % "
        "bootstrap intervals over images; *better* and *worse* need an interval without 0 and 6 images."
    )
    blocks: list[Block] = [Heading(1, "The paper's formulation, one change at a time"), Paragraph(note)]
    blocks.append(
        Table(
            ["training", "steps", "seconds of a step"],
            [[f"`{name}`", f"{part['steps']:.0f}", f"{part['seconds_per_step']:.2f}"] for name, part in plan.items()],
        )
    )
    for setting in SETTINGS:
        settings = Settings(
            protocol=setting,
            scale=4,
            sets=SETS,
            methods=tuple(changes),
            data=args.data,
            out=args.out / setting,
            options=Options(weights[BASELINE], "cpu", checkpoints=checkpoints),
            limit=args.limit,
            workers=args.workers,
            costs=False,
            pictures=False,
            command=command,
        )
        for summary in evaluate(settings).summaries:
            blocks += tables(setting, summary, changes)
    record = {"command": command, "versions": versions(), "hours": args.hours, "threads": args.threads, "plan": plan}
    write_json(args.out / RECORD, record)
    write_file(args.out / "report.md", as_markdown(blocks).encode())
    print(as_markdown(blocks))


if __name__ == "__main__":
    main()
