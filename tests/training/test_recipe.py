"""Recipes: what is accepted, and what every mistake is answered with."""

from pathlib import Path
from typing import Any

import pytest

from blinddiff.errors import BlindDiffError, RecipeError
from blinddiff.training.recipe import Recipe, load_recipe, parse_recipe

REPOSITORY = Path(__file__).parents[2]
LEAST: dict[str, Any] = {"data": {"folders": ["photographs"]}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The smallest recipe with the key at a dotted path set."""
    content: dict[str, Any] = {"data": dict(LEAST["data"])}
    *parents, last = path.split(".")
    inner = content
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return content


def test_the_smallest_recipe_and_its_defaults() -> None:
    recipe = parse_recipe(LEAST, "r.yaml")
    assert recipe == Recipe(recipe.data)
    assert recipe.data.folders == ["photographs"]
    assert recipe.stage == "joint"
    assert set(recipe.degradation.scales) == {1, 2, 3, 4}


def test_every_kind_of_value_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "data: {folders: [a, b], held_out: [x.png], context: 96, patch: 48, batch: 3}\n"
        "stage: network\ninit: null\ninit_estimator: runs/e\nmodel: {dim: 16, heads: [1, 2, 4]}\n"
        "degradation:\n  scales: {2: 1, 3: 0}\n  kernels: {disk: 1.5}\n  noise: {none: 0.5, jpeg: 0.5}\n"
        "loss: {kernel: 0.5, true_kernel_share: 1}\nsteps: 7\nlearning_rate: 0.002\n"
    )
    recipe = load_recipe(path)
    assert recipe.data.folders == ["a", "b"]
    assert (recipe.data.context, recipe.data.patch, recipe.data.batch) == (96, 48, 3)
    assert (recipe.init, recipe.init_estimator, recipe.stage) == (None, "runs/e", "network")
    assert recipe.model == {"dim": 16, "heads": [1, 2, 4]}
    assert recipe.degradation.scales == {2: 1.0, 3: 0.0}
    assert recipe.degradation.kernels == {"disk": 1.5}
    assert recipe.loss.kernel == 0.5
    assert recipe.loss.true_kernel_share == 1.0
    assert (recipe.steps, recipe.learning_rate) == (7, 0.002)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown keys, with the nearest known one
        ("step", 10, r"unknown key 'step'; did you mean 'steps'\?"),
        ("data.batchsize", 8, r"data: unknown key 'batchsize'; did you mean 'batch'\?"),
        ("loss.kernal", 1.0, r"loss: unknown key 'kernal'; did you mean 'kernel'\?"),
        ("degradation.qqq", 1, r"degradation: unknown key 'qqq'$"),
        # wrong types
        ("steps", "many", "steps: should be int, not 'many'"),
        ("steps", 10.5, r"steps: should be int, not 10\.5"),
        ("steps", True, "steps: should be int, not True"),
        ("learning_rate", "1e-3", r"learning_rate: should be float, not '1e-3' \(write 1e-3 as a decimal number"),
        ("learning_rate", [1], r"learning_rate: should be float, not \[1\]"),
        ("data.folders", "photographs", "data: folders: should be a list, not 'photographs'"),
        ("data.folders", [3], "data: folders: should be str, not 3"),
        ("data", ["a"], "data: should be a mapping of keys, not list"),
        ("degradation.kernels", ["disk"], r"degradation: kernels: should be a mapping, not \['disk'\]"),
        ("degradation.scales", {"two": 1.0}, "degradation: scales: should be int, not 'two'"),
        ("degradation.noise", {"none": "all"}, "degradation: noise: none: should be float, not 'all'"),
        ("init", 5, "init: should be str, not 5"),
        ("model", 5, "model: should be a mapping, not 5"),
        # impossible values
        ("stage", "everything", "stage: 'everything' is not one of 'estimator', 'confidence', 'network'"),
        ("steps", 0, "steps: 0 is not above 0"),
        ("steps", -3, "steps: -3 is not above 0"),
        ("learning_rate", 0, "learning_rate: 0.0 is not above 0"),
        ("learning_rate", float("nan"), "learning_rate: nan"),
        ("learning_rate", float("inf"), "learning_rate: inf"),
        ("weight_decay", -0.1, r"weight_decay: -0\.1"),
        ("warmup", -1, "warmup: -1"),
        ("seed", -1, "seed: -1"),
        ("clip", 0.0, "clip: 0.0 is not above 0"),
        ("sheet_steps", 0, "sheet_steps: 0 is not above 0"),
        ("checkpoint_minutes", -1.0, "checkpoint_minutes: -1.0"),
        ("data.batch", 0, "data: batch: 0 is not above 0"),
        ("data.batch", 1, "data: batch: stage joint needs 2 or more"),
        ("data.patch", 0, "data: patch: 0 is not above 0"),
        ("data.patch", 8, "data: patch"),
        ("data.patch", 512, "patch 512 is larger than context 256"),
        ("data.folders", [], "data: folders"),
        ("ema", 1.5, "ema: 1.5 is not between 0 and 1"),
        ("final_rate", -0.5, "final_rate: -0.5 is not between 0 and 1"),
        ("loss.restoration", -1.0, "loss: restoration: -1.0 is not 0 or more"),
        ("degradation.decimated", 1.5, "degradation: decimated: 1.5 is not between 0 and 1"),
        ("data.reduced", 1.5, "data: reduced: 1.5 is not between 0 and 1$"),
        ("data.reduced", -0.5, "data: reduced: -0.5 is not between 0 and 1$"),
        ("data.reduced", float("nan"), "data: reduced: nan is not between 0 and 1$"),
        ("loss.own_kernel_share", 1.5, "loss: own_kernel_share: 1.5 is not between 0 and 1$"),
        ("loss.own_kernel_share", -0.5, "loss: own_kernel_share: -0.5 is not between 0 and 1$"),
        ("loss.own_kernel_share", 0.8, r"loss: true_kernel_share and own_kernel_share are 1\.1 together, above 1$"),
        ("loss.true_kernel_share", 2.0, "loss: true_kernel_share: 2.0 is not between 0 and 1"),
        ("loss.pure_noise_share", -1.0, "loss: pure_noise_share: -1.0 is not between 0 and 1"),
        ("loss.kernel", -1.0, "loss: kernel: -1.0"),
        ("loss.noise", float("nan"), "loss: noise: nan"),
        # shares
        ("degradation.scales", {5: 1.0}, "degradation: scales: 5 is not one of 1, 2, 3, 4"),
        ("degradation.kernels", {"gauss": 1.0}, "degradation: kernels: 'gauss' is not one of identity, isotropic, "),
        ("degradation.noise", {"salt": 1.0}, "degradation: noise: 'salt' is not one of none, gaussian"),
        ("degradation.noise", {"gaussian": -0.1}, r"noise: gaussian: a share of -0\.1 is not 0 or more"),
        ("degradation.kernels", {"disk": float("inf")}, "kernels: disk: a share of inf"),
        ("degradation.scales", {}, "degradation: scales: no share is above 0"),
        ("degradation.kernels", {"disk": 0.0, "motion": 0}, "degradation: kernels: no share is above 0"),
    ],
)
def test_mistakes_are_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        parse_recipe(changed(path, value), "r.yaml")
    assert str(error.value).startswith("r.yaml: ")
    assert "\n" not in str(error.value)


def test_missing_keys() -> None:
    with pytest.raises(RecipeError, match="key 'data' is missing"):
        parse_recipe({}, "r.yaml")
    with pytest.raises(RecipeError, match="data: key 'folders' is missing"):
        parse_recipe({"data": {"batch": 2}}, "r.yaml")


@pytest.mark.parametrize("content", [None, "a sentence", ["data"], 7])
def test_content_that_is_no_mapping(content: Any) -> None:
    with pytest.raises(RecipeError, match="should be a mapping of keys"):
        parse_recipe(content, "r.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"data: [unclosed", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"\xff\xfe\x00bad", "cannot be read as a recipe|not YAML"),
        (b"data: \x00", "not YAML"),
        (b"", "should be a mapping of keys"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(RecipeError, match="cannot be read as a recipe"):
            load_recipe(path)


def write(folder: Path, **recipes: str) -> None:
    for name, content in recipes.items():
        (folder / f"{name}.yaml").write_text(content)


def test_a_recipe_like_another_is_that_but_for_what_it_says(tmp_path: Path) -> None:
    write(
        tmp_path,
        first="data: {folders: [a], batch: 3}\nsteps: 5\nseed: 1\n"
        "degradation: {kernels: {disk: 1, motion: 2}, decimated: 0.1}\n",
        second="like: first.yaml\ndata: {batch: 4}\ndegradation: {kernels: {motion: 1}}\nseed: 2\n",
        third="like: second.yaml\nloss: {kernel: 0.5}\n",
    )
    third = load_recipe(tmp_path / "third.yaml")
    assert (third.data.folders, third.data.batch) == (["a"], 4)
    assert (third.degradation.kernels, third.degradation.decimated) == ({"motion": 1.0}, 0.1)
    assert (third.steps, third.seed, third.loss.kernel) == (5, 2, 0.5)


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"r": "like: none.yaml\n"}, "none.yaml: cannot be read as a recipe"),
        ({"r": "like: 3\n"}, "r.yaml: like: should be the name of a recipe, not 3"),
        ({"r": "like: r.yaml\n"}, "r.yaml: is like itself"),
        ({"r": "like: s.yaml\n", "s": "like: r.yaml\n"}, "r.yaml: is like itself, by way of .*r.yaml, .*s.yaml"),
        ({"r": "like: folder/../r.yaml\n"}, "r.yaml: is like itself"),
        ({"r": "like: s.yaml\n", "s": "[1]"}, "s.yaml: should be a mapping of keys, not list"),
        ({"r": "like: s.yaml\n", "s": "data: {folders: [a]}\nstep: 5\n"}, r"r.yaml, like .*s.yaml: unknown key 'step'"),
    ],
)
def test_mistakes_in_being_like_another(tmp_path: Path, recipes: dict[str, str], message: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path, **recipes)
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(tmp_path / "r.yaml")
    assert "\n" not in str(error.value)


def test_a_recipe_error_is_a_blinddiff_error() -> None:
    with pytest.raises(BlindDiffError):
        parse_recipe({"data": 1}, "r.yaml")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").rglob("*.yaml")), ids=lambda p: p.name)
def test_recipes_of_the_repository_are_good_and_hold_out_the_samples(path: Path) -> None:
    recipe = load_recipe(path)
    samples = (REPOSITORY / "src" / "blinddiff" / "samples" / "held_out.txt").read_text().split()
    samples = [line for line in samples if line.endswith((".webp", ".png", ".jpg"))]
    assert samples
    for sample in samples:
        assert any(sample.endswith(ending) for ending in recipe.data.held_out), f"{sample} would be trained on"
