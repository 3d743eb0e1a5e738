"""The comparison of two checkouts tells float noise from a change; whole runs are left to the script."""

import importlib.util
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import imagecodecs
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_checkouts.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_checkouts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def worst(findings: Iterable[Any]) -> str:
    return max((finding.verdict for finding in findings), key=int).name


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(50, 200, (64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("depth", [1, 257])
@pytest.mark.parametrize(
    ("count", "levels", "expected"),
    [(0, 1, "WITHIN_TOLERANCE"), (4, 1, "WITHIN_TOLERANCE"), (5, 1, "DIFFERENT"), (1, 2, "DIFFERENT")],
)
def test_an_image_may_differ_by_a_grey_level_on_few_pixels(
    script: ModuleType, image: np.ndarray, depth: int, count: int, levels: int, expected: str
) -> None:
    old = image if depth == 1 else image.astype(np.uint16) * depth
    new = old.copy()
    new.reshape(-1, 3)[:count, 1] += levels * depth  # 4 of 4096 pixels are under 0.1 %
    assert script.compare_pixels(old, new, "x.png").verdict.name == expected


def test_deep_pixels_count_once_they_round_to_another_grey_level(script: ModuleType, image: np.ndarray) -> None:
    old = image.astype(np.uint16) * 257
    assert script.compare_pixels(old, old + 1, "x.png").verdict.name == "WITHIN_TOLERANCE"
    assert script.compare_pixels(old, old + 200, "x.png").verdict.name == "DIFFERENT"
    assert script.compare_pixels(old, image, "x.png").verdict.name == "DIFFERENT"
    assert script.compare_pixels(old, old[1:], "x.png").verdict.name == "DIFFERENT"


def test_only_the_sheet_of_the_demo_may_show_another_time(
    script: ModuleType, image: np.ndarray, tmp_path: Path
) -> None:
    for share, expected in ((4, "WITHIN_TOLERANCE"), (5, "DIFFERENT")):
        new = image.copy()
        new.reshape(-1, 3)[:share] = 255
        for name in ("sheet.png", "other.png"):
            (tmp_path / "old").mkdir(exist_ok=True)
            (tmp_path / "old" / name).write_bytes(imagecodecs.png_encode(image))
            (tmp_path / name).write_bytes(imagecodecs.png_encode(new))
            verdict = worst(script.compare_files(tmp_path / "old" / name, tmp_path / name, name, []))
            assert verdict == (expected if name == "sheet.png" else "DIFFERENT")


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({"noise": 2.5, "kernel": [[0.5, 0.5]], "name": "a", "seconds": 2.0}, "IDENTICAL"),
        ({"noise": 2.5000001, "kernel": [[0.5, 0.5000001]], "name": "a"}, "WITHIN_TOLERANCE"),
        ({"noise": 2.5, "kernel": [[0.5, 0.50001]], "name": "a"}, "WITHIN_TOLERANCE"),
        ({"noise": 2.50001, "kernel": [[0.5, 0.5]], "name": "a"}, "DIFFERENT"),
        ({"noise": 2.51, "kernel": [[0.5, 0.5]], "name": "a"}, "DIFFERENT"),
        ({"noise": 2.5, "kernel": [[0.5, 0.501]], "name": "a"}, "DIFFERENT"),
        ({"noise": 2.5, "kernel": [[0.5], [0.5]], "name": "a"}, "DIFFERENT"),
        ({"noise": 2.5, "kernel": [[0.5, 0.5]], "name": "b"}, "DIFFERENT"),
        ({"noise": 2.5, "kernel": [[0.5, 0.5]]}, "DIFFERENT"),
        ({"noise": None, "kernel": [[0.5, 0.5]], "name": "a"}, "DIFFERENT"),
        ({"noise": float("nan"), "kernel": [[0.5, 0.5]], "name": "a"}, "DIFFERENT"),
    ],
)
def test_json_differs_by_value_and_key_but_not_by_time(script: ModuleType, new: Any, expected: str) -> None:
    old = {"noise": 2.5, "kernel": [[0.5, 0.5]], "name": "a", "seconds": 1.0}
    assert worst(script.compare_json(old, new, "x.json")) == expected


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("noise 1.4, at -13 degrees\n", "IDENTICAL"),
        ("noise 1.5, at -13 degrees\n", "WITHIN_TOLERANCE"),
        ("noise 1.6, at -13 degrees\n", "DIFFERENT"),
        ("noise 1.4, at 13 degrees\n", "DIFFERENT"),
        ("noise 1.4, at -13 radians\n", "DIFFERENT"),
        ("noise 1.4, at -13 degrees\nmore\n", "DIFFERENT"),
    ],
)
def test_text_may_differ_in_the_last_digit_of_decimals(script: ModuleType, new: str, expected: str) -> None:
    assert worst(script.compare_text("noise 1.4, at -13 degrees\n", new, "stdout.txt")) == expected


def test_a_long_line_is_quoted_from_where_it_differs(script: ModuleType) -> None:
    (finding,) = script.compare_text("word " * 40 + "old", "word " * 40 + "new", "stdout.txt")
    assert finding.what == "stdout.txt: 'ord word word word word old' became 'ord word word word word new'"


def test_times_are_taken_out_of_standard_output(script: ModuleType) -> None:
    said = "o.png: noise 1.4 grey levels; 2.5 s\n| fast | 30.12 | 0.19 |\n"
    assert script.TIMES.sub("#", said) == "o.png: noise 1.4 grey levels; #\n| fast | 30.12 |#\n"


def test_folders_are_compared_file_by_file(script: ModuleType, image: np.ndarray, tmp_path: Path) -> None:
    for side in ("old", "new"):
        folder = tmp_path / side
        (folder / "weights").mkdir(parents=True)
        (folder / "image.png").write_bytes(imagecodecs.png_encode(image))
        (folder / "facts.jsonl").write_text(json.dumps({"noise": 1.0}) + "\n")
        (folder / f"events.out.tfevents.{side}").write_text(side)
        (folder / "report.md").write_text(side)
        name = "doubt" if side == "old" else "confidence"
        save_file({f"{name}.weight": np.ones(3, np.float32)}, folder / "weights" / "model.safetensors")
    old, new = tmp_path / "old", tmp_path / "new"
    renames = ["doubt.=confidence."]
    assert worst(script.compare_folders(old, new, renames)) == "IDENTICAL"
    assert worst(script.compare_folders(old, new, [])) == "DIFFERENT"
    save_file({"confidence.weight": np.full(3, 1.001, np.float32)}, new / "weights" / "model.safetensors")
    (new / "image.png").write_bytes(imagecodecs.png_encode(image + np.uint8(1)))
    (new / "facts.jsonl").write_text(json.dumps({"noise": 1.1}) + "\n")
    (new / "report.md").unlink()
    (new / "more.txt").touch()
    named = [f.what for f in script.compare_folders(old, new, renames) if f.verdict == script.Verdict.DIFFERENT]
    assert named == [
        "report.md: no longer written",
        "more.txt: not written before",
        "facts.jsonl[0]: noise: max diff 0.1",
        "image.png: max diff 1 grey levels, 100.000% of the pixels",
        "weights/model.safetensors: confidence.weight: max diff 0.001",
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("estimator.doubt.0.weight", "estimator.confidence.0.weight"), ("unet.doubt.weight", "unet.doubt.weight")],
)
def test_only_beginnings_are_renamed(script: ModuleType, name: str, expected: str) -> None:
    assert script.renamed(name, ["estimator.doubt=estimator.confidence"]) == expected


def test_inputs_are_the_same_at_every_call_but_for_renamed_recipe_keys(script: ModuleType, tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "src" / "blinddiff" / "samples"
    script.write_inputs(tmp_path / "a", samples, [], None)
    script.write_inputs(tmp_path / "b", samples, ["data.patch=data.crop", "warmup=warmup_steps"], None)
    assert worst(script.compare_folders(tmp_path / "a" / "folder", tmp_path / "b" / "folder", [])) == "IDENTICAL"
    old, new = (yaml.safe_load((tmp_path / side / "joint.yaml").read_text()) for side in "ab")
    old["data"]["crop"] = old["data"].pop("patch")
    old["warmup_steps"] = old.pop("warmup")
    assert new == old
