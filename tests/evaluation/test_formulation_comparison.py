"""The script that trains and compares formulations, on networks of some thousand weights."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import yaml
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts/compare_formulations.py"
TINY = {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "num_refinement_blocks": 0, "scales": [4], "kernel_size": 21}
COMMON: dict[str, Any] = {
    "data": {"context": 64, "patch": 64, "batch": 2},
    "degradation": {"scales": {4: 1.0}, "kernels": {"setting1": 1.0}, "noise": {"none": 1.0}},
}


@pytest.fixture
def script(tmp_path: Path) -> dict[str, Any]:
    """The names of the script, with small recipes."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    stages = {"small": ("paper", {}), "x0": ("paper", {"predicts": "x0"}), "compact": ("joint", {"patch_size": 4})}
    for name, (stage, model) in stages.items():
        content = {"stage": stage, "model": {**TINY, **model}, **COMMON}
        (recipes / f"{name}.yaml").write_text(yaml.safe_dump(content))
    names = runpy.run_path(str(SCRIPT))
    names["main"].__globals__.update(RECIPES=recipes, SETS=("Set5",))
    return names


def test_it_trains_evaluates_and_writes_its_tables(script: dict[str, Any], data: Path, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    cat: np.ndarray = skimage.data.cat()
    Image.fromarray(cat).save(photographs / "cat.png")
    plan, out = tmp_path / "runs" / "plan.json", tmp_path / "out"
    arguments = ["--photographs", photographs, "--data", data, "--runs", plan.parent, "--out", out, "--limit", 1]
    arguments += ["--only", "x0", "compact", "--hours", 1e-9, "--measured-steps", 1, "--steps", 2, "--threads", 1]
    script["main"](list(map(str, arguments)))

    planned = json.loads(plan.read_text())["recipes"]
    assert {name: part["steps"] for name, part in planned.items()} == {"small": 1, "x0": 1, "compact": 1}
    assert all(part["seconds_per_step"] > 0 for part in planned.values())
    lines = (out / "report.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## setting1, Set5", "## setting2, Set5"]
    rows = [line for line in lines if line.startswith("| ") and "@2`" in line]
    assert len(rows) == 2 * 4, "three settings of the paper's network and x0, for both degradations"
    for setting in ("setting1", "setting2"):
        record = json.loads((out / setting / "record.json").read_text())
        assert not record["failures"]
        assert record["weights"]["paper@2"] == record["weights"]["paper-gradient@2"] != record["weights"]["x0@2"]
        means = record["sets"][0]["means"]
        assert means["compact"]["calls"]["mean"] == 2
        assert means["paper@2"]["calls"]["mean"] == 2

    before = plan.read_text()
    script["main"](list(map(str, arguments)))  # nothing is left to do
    assert plan.read_text() == before
    arguments[arguments.index("--hours") + 1] = 2e-9
    with pytest.raises(SystemExit, match="is of a run with"):
        script["main"](list(map(str, arguments)))


def test_as_many_steps_as_fit_in_the_hours(script: dict[str, Any], tmp_path: Path) -> None:
    seconds = {"slow": 4.0, "fast": 0.5}
    script["training_plan"].__globals__["seconds_per_step"] = lambda recipe, _: seconds[recipe]
    plan = script["training_plan"]({name: name for name in seconds}, 2.0, 1, tmp_path / "plan.json")
    assert {name: part["steps"] for name, part in plan.items()} == {"slow": 1800, "fast": 14400}
