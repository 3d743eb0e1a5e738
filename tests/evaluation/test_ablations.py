"""Ablations: every comparison can be made, and is made in the right direction."""

from pathlib import Path

import pytest

from blinddiff.evaluation.methods import Options, method
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.run import Settings, evaluate
from blinddiff.evaluation.statistics import ABLATIONS, TRAINED, all_ablation_methods, summarise, trained_ablations
from blinddiff.training.recipe import load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "ablations"


def test_every_method_is_one(weights: Path) -> None:
    options = Options(weights, "cpu", checkpoints=dict.fromkeys(TRAINED, weights))
    for ablation in ABLATIONS:
        assert method(ablation.method, options).name == ablation.method
        assert method(ablation.against, options).name == ablation.against


def test_what_is_asked_for_is_there() -> None:
    compared = {(a.method, a.against) for a in ABLATIONS}
    assert {f"perceptual@{steps}" for steps in (1, 2, 5, 10, 20, 50)} <= {name for pair in compared for name in pair}
    for pair in (
        ("small-no-modulation", "small-full"),
        ("small-no-kernel-loss", "small-full"),
        ("kernel-once", "fidelity"),
        ("no-image-step", "fidelity"),
        ("gradient", "fidelity"),
    ):
        assert pair in compared


@pytest.mark.parametrize(
    ("recipe", "path", "value"),
    [("no_modulation", ("model", "kernel_modulation"), False), ("no_kernel_loss", ("loss", "kernel"), 0.0)],
)
def test_trained_ablations_differ_in_one_thing_alone(recipe: str, path: tuple[str, str], value: object) -> None:
    if not RECIPES.is_dir():
        pytest.skip("the recipes are not beside this copy of the package")
    full = load_recipe(RECIPES / "full.yaml")[0].model_dump()
    changed = load_recipe(RECIPES / f"{recipe}.yaml")[0].model_dump()
    assert full[path[0]].get(path[1], True) not in (value, None)
    full[path[0]][path[1]] = value
    assert changed == full


def test_every_trained_one_has_a_recipe() -> None:
    if not RECIPES.is_dir():
        pytest.skip("the recipes are not beside this copy of the package")
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(TRAINED.values())


def test_weights_are_found_as_training_leaves_them(tmp_path: Path) -> None:
    for place in ("full/weights", "no_modulation"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.json").touch()
    found = trained_ablations(tmp_path)
    assert found == {"small-full": tmp_path / "full/weights", "small-no-modulation": tmp_path / "no_modulation"}
    possible = all_ablation_methods(list(found))
    assert "small-no-modulation" in possible
    assert "small-no-kernel-loss" not in possible
    assert not set(all_ablation_methods([])) & set(TRAINED)


def test_a_comparison_is_made_whatever_the_order_of_methods() -> None:
    results = [
        ImageResult(name, "Set5", f"image{i}", 0, {"psnr_y": 30.0 + i + gain})
        for i in range(8)
        for name, gain in (("fidelity", 0.5), ("no-image-step", 0.0))
    ]
    for order in (["fidelity", "no-image-step"], ["no-image-step", "fidelity"]):
        (summary,) = summarise(results, ["Set5"], order)
        found = {(d.method, d.baseline): d for d in summary.differences["psnr_y"]}
        assert found["no-image-step", "fidelity"].estimate.mean == pytest.approx(-0.5)


def test_the_report_has_them(data: Path, weights: Path, tmp_path: Path) -> None:
    settings = Settings(
        "gaussian8",
        4,
        ("Set5",),
        ("fidelity@1", "fidelity@2"),
        data,
        tmp_path / "out",
        Options(weights, "cpu"),
        limit=1,
        costs=False,
        pictures=False,
    )
    evaluate(settings)
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Set5: Ablations" in report
    assert "2 steps instead of 1 (`fidelity@2`)" in report
