"""Recipes: what is accepted, and what every mistake is answered with."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from blinddiff.degradation.kernels import FAMILIES, SETTINGS
from blinddiff.errors import BlindDiffError, RecipeError
from blinddiff.models.mcformer import MCFormer
from blinddiff.training.recipe import Recipe, load_recipe, parse_recipe, recipe_schema

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
    (recipe,) = parse_recipe(LEAST, "r.yaml")
    assert recipe == Recipe(data=recipe.data)
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
    (recipe,) = load_recipe(path)
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
        ("steps", "many", "steps: should be a valid integer, not 'many'"),
        ("steps", 10.5, r"steps: should be a valid integer, not 10\.5"),
        ("steps", True, "steps: should be a valid integer, not True"),
        (
            "learning_rate",
            "1e-3",
            r"learning_rate: should be a valid number, not '1e-3' \(write 1e-3 as a decimal number",
        ),
        ("learning_rate", [1], r"learning_rate: should be a valid number, not \[1\]"),
        ("data.folders", "photographs", "data: folders: should be a valid list, not 'photographs'"),
        ("data.folders", [3], "data: folders: 0: should be a valid string, not 3"),
        ("data", ["a"], r"data: should be a mapping, not \['a'\]"),
        ("degradation.kernels", ["disk"], r"degradation: kernels: should be a mapping, not \['disk'\]"),
        ("degradation.scales", {"two": 1.0}, "degradation: scales: two: should be a valid integer, not 'two'"),
        ("degradation.noise", {"none": "all"}, "degradation: noise: none: should be a valid number, not 'all'"),
        ("init", 5, "init: should be a valid string, not 5"),
        ("model", 5, "model: should be a mapping, not 5"),
        # impossible values
        (
            "stage",
            "everything",
            "stage: should be 'estimator', 'noise_gate', 'confidence', .*'joint' or 'paper', not 'everything'",
        ),
        ("steps", 0, "steps: should be greater than 0, not 0"),
        ("steps", -3, "steps: should be greater than 0, not -3"),
        ("learning_rate", 0, "learning_rate: should be greater than 0, not 0"),
        ("learning_rate", float("nan"), "learning_rate: should be a finite number, not nan"),
        ("learning_rate", float("inf"), "learning_rate: should be a finite number, not inf"),
        ("weight_decay", -0.1, r"weight_decay: should be greater than or equal to 0, not -0\.1"),
        ("warmup", -1, "warmup: should be greater than or equal to 0, not -1"),
        ("seed", -1, "seed: should be greater than or equal to 0, not -1"),
        ("clip", 0.0, "clip: should be greater than 0, not 0.0"),
        ("sheet_steps", 0, "sheet_steps: should be greater than 0, not 0"),
        ("checkpoint_minutes", -1.0, "checkpoint_minutes: should be greater than or equal to 0, not -1.0"),
        ("data.batch", 0, "data: batch: should be greater than 0, not 0"),
        ("data.patch", 0, "data: patch: should be greater than or equal to 16, not 0"),
        ("data.patch", 8, "data: patch: should be greater than or equal to 16, not 8"),
        ("data.patch", 512, "patch 512 is larger than context 256"),
        ("data.folders", [], "data: folders: List should have at least 1 item"),
        ("ema", 1.5, "ema: should be less than or equal to 1, not 1.5"),
        ("final_rate", -0.5, "final_rate: should be greater than or equal to 0, not -0.5"),
        ("loss.restoration", -1.0, "loss: restoration: should be greater than or equal to 0, not -1.0"),
        ("degradation.decimated", 1.5, "degradation: decimated: should be less than or equal to 1, not 1.5"),
        ("data.reduced", 1.5, "data: reduced: should be less than or equal to 1, not 1.5$"),
        ("data.reduced", -0.5, "data: reduced: should be greater than or equal to 0, not -0.5$"),
        ("data.reduced", float("nan"), "data: reduced: should be a finite number, not nan$"),
        ("loss.own_kernel_share", 1.5, "loss: own_kernel_share: should be less than or equal to 1, not 1.5$"),
        ("loss.own_kernel_share", -0.5, "loss: own_kernel_share: should be greater than or equal to 0, not -0.5$"),
        ("loss.own_kernel_share", 0.8, r"loss: the sum of true_kernel_share and own_kernel_share is 1\.1, above 1$"),
        ("loss.true_kernel_share", 2.0, "loss: true_kernel_share: should be less than or equal to 1, not 2.0"),
        ("loss.pure_noise_share", -1.0, "loss: pure_noise_share: should be greater than or equal to 0, not -1.0"),
        ("loss.kernel", -1.0, "loss: kernel: should be greater than or equal to 0, not -1.0"),
        ("loss.noise", float("nan"), "loss: noise: should be a finite number, not nan"),
        # shares
        ("degradation.scales", {5: 1.0}, "degradation: scales: 5: not one of 1, 2, 3, 4"),
        ("degradation.kernels", {"gauss": 1.0}, "degradation: kernels: 'gauss': not one of identity, isotropic, "),
        ("degradation.noise", {"salt": 1.0}, "degradation: noise: 'salt': not one of none, gaussian"),
        ("degradation.noise", {"gaussian": -0.1}, r"noise: gaussian: should be greater than or equal to 0, not -0\.1"),
        ("degradation.kernels", {"disk": float("inf")}, "kernels: disk: should be a finite number, not inf"),
        ("degradation.scales", {}, "degradation: scales: no share is above 0"),
        ("degradation.kernels", {"disk": 0.0, "motion": 0}, "degradation: kernels: no share is above 0"),
    ],
)
def test_mistakes_are_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        parse_recipe(changed(path, value), "r.yaml")
    assert str(error.value).startswith("r.yaml: ")
    assert "\n" not in str(error.value)


def test_all_mistakes_are_listed_a_line_each() -> None:
    content = {
        "step": 3,
        "data": {"batch": 0, "patches": 2},
        "degradation": {"kernels": {"gauss": 1, "box": 1}},
        "model": {"dims": 16, "heads": 5, "dim": "wide"},
        "ema": 2,
    }
    with pytest.raises(RecipeError) as error:
        parse_recipe(content, "r.yaml")
    lines = str(error.value).splitlines()
    assert all(line.startswith("r.yaml: ") for line in lines)
    starts = {
        line.removeprefix("r.yaml: ").split(" should")[0].split(";")[0].split(": not one of")[0] for line in lines
    }
    assert starts == {
        "unknown key 'step'",
        "data: batch:",
        "data: unknown key 'patches'",
        "degradation: kernels: 'gauss', 'box'",
        "model: unknown key 'dims'",
        "model: heads:",
        "model: dim:",
        "ema:",
    }


def test_keys_that_are_no_words() -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml: unknown key 3"):
        parse_recipe({3: 1}, "r.yaml")


def test_folders_come_from_the_option_the_recipe_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        named="data: {folders: [a], batch: 3}\n",
        bare="steps: 3\n",
        staged="stages: [{steps: 1}, {steps: 2}]\n",
    )
    monkeypatch.delenv("BLINDDIFF_PHOTOGRAPHS", raising=False)

    def folders(name: str, given: list[str] | None = None) -> list[list[str]]:
        return [recipe.data.folders for recipe in load_recipe(tmp_path / f"{name}.yaml", given)]

    assert folders("bare") == [[]]
    assert folders("named") == [["a"]]
    monkeypatch.setenv("BLINDDIFF_PHOTOGRAPHS", os.pathsep.join(["b", "c"]))
    assert folders("bare") == [["b", "c"]]
    assert folders("named") == [["a"]]
    for name in ("bare", "named"):
        assert folders(name, ["d"]) == [["d"]]
    assert folders("staged", ["d", "e"]) == 2 * [["d", "e"]]
    assert load_recipe(tmp_path / "named.yaml", ["d"])[0].data.batch == 3


def test_stages_are_laid_over_the_common_settings() -> None:
    content = {
        "data": {"folders": ["a"], "context": 192, "batch": 8},
        "init": "runs/before/weights",
        "degradation": {"kernels": {"disk": 1, "motion": 2}, "decimated": 0.1},
        "steps": 9,
        "stages": [
            {"stage": "estimator", "data": {"batch": 16}},
            {"stage": "network", "degradation": {"kernels": {"motion": 1}}, "steps": 5},
        ],
    }
    first, second = parse_recipe(content, "r.yaml")
    assert (first.stage, second.stage) == ("estimator", "network")
    assert (first.data.batch, first.data.context, second.data.batch) == (16, 192, 8)
    assert first.degradation.kernels == {"disk": 1.0, "motion": 2.0}
    assert (second.degradation.kernels, second.degradation.decimated) == ({"motion": 1.0}, 0.1)
    assert (first.steps, second.steps) == (9, 5)
    assert first.init == "runs/before/weights"


@pytest.mark.parametrize("sections", [None, [], "network", {"stage": "network"}, ["network"], [{}, 3]])
def test_stages_that_are_no_list_of_mappings(sections: Any) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml: stages: should be a list of mappings, not "):
        parse_recipe({"stages": sections}, "r.yaml")


def test_mistakes_in_stages_are_named_once_each() -> None:
    content = {
        "seed": -1,
        "stages": [{"steps": 5}, {"init": "a", "data": {"patch": 512}}, {"step": 5, "loss": {"kernel": -1}}],
    }
    with pytest.raises(RecipeError) as error:
        parse_recipe(content, "r.yaml")
    assert str(error.value).splitlines() == [
        "r.yaml: seed: should be greater than or equal to 0, not -1",
        "r.yaml: stages: 2: init: cannot be set, because the stage starts from the weights of the stage before",
        "r.yaml: stages: 2: data: patch 512 is larger than context 256",
        "r.yaml: stages: 3: loss: kernel: should be greater than or equal to 0, not -1",
        "r.yaml: stages: 3: unknown key 'step'; did you mean 'steps'?",
    ]


@pytest.mark.parametrize("content", [None, "a sentence", ["data"], 7])
def test_content_that_is_no_mapping(content: Any) -> None:
    with pytest.raises(RecipeError, match="should be a mapping, not "):
        parse_recipe(content, "r.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"data: [unclosed", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"\xff\xfe\x00bad", "cannot be read as a recipe|not YAML"),
        (b"data: \x00", "not YAML"),
        (b"", "should be a mapping, not None"),
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
    (third,) = load_recipe(tmp_path / "third.yaml")
    assert (third.data.folders, third.data.batch) == (["a"], 4)
    assert (third.degradation.kernels, third.degradation.decimated) == ({"motion": 1.0}, 0.1)
    assert (third.steps, third.seed, third.loss.kernel) == (5, 2, 0.5)


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"r": "like: none.yaml\n"}, "none.yaml: cannot be read as a recipe"),
        ({"r": "like: 3\n"}, "r.yaml: like: should be the name of a recipe, not 3"),
        ({"r": "like: r.yaml\n"}, "r.yaml: like: refers to itself"),
        ({"r": "like: s.yaml\n", "s": "like: r.yaml\n"}, "r.yaml: like: refers to itself, through .*r.yaml, .*s.yaml"),
        ({"r": "like: folder/../r.yaml\n"}, "r.yaml: like: refers to itself"),
        ({"r": "like: s.yaml\n", "s": "[1]"}, r"s.yaml: should be a mapping, not \[1\]"),
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


RECIPES = sorted((REPOSITORY / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes_of_the_repository_are_good_and_hold_out_the_samples(path: Path) -> None:
    samples = (REPOSITORY / "src" / "blinddiff" / "samples" / "held_out.txt").read_text().split()
    samples = [line for line in samples if line.endswith((".webp", ".png", ".jpg"))]
    assert samples
    for recipe in load_recipe(path):
        for sample in samples:
            assert any(sample.endswith(ending) for ending in recipe.data.held_out), f"{sample} would be trained on"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes_of_the_repository_name_no_folder_of_photographs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLINDDIFF_PHOTOGRAPHS", raising=False)
    assert [recipe.data.folders for recipe in load_recipe(path)] == len(load_recipe(path)) * [[]]


def test_the_default_recipe_makes_the_network_that_is_shipped() -> None:
    recipes = load_recipe(REPOSITORY / "recipes" / "default.yaml")
    shipped = json.loads((REPOSITORY / "src/blinddiff/weights/default/network/config.json").read_text())
    made = MCFormer(**recipes[-1].model).config
    for key in shipped.keys() - {"_class_name", "_diffusers_version"}:
        assert shipped[key] == (list(made[key]) if isinstance(made[key], tuple) else made[key]), key
    assert recipes[0].init is None
    assert {"estimator", "network", "confidence", "correction"} <= {recipe.stage for recipe in recipes}


def test_the_schema_for_editors_is_current() -> None:
    written = json.loads((REPOSITORY / "recipes" / "schema.json").read_text(encoding="utf-8"))
    assert written == recipe_schema(), "run scripts/write_recipe_schema.py"


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_recipes_of_the_repository_name_the_schema(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    name = first.removeprefix("# yaml-language-server: $schema=")
    assert name != first
    assert (path.parent / name).resolve() == REPOSITORY / "recipes" / "schema.json"


def test_the_schema_knows_every_key_and_the_stages() -> None:
    schema = recipe_schema()
    assert set(schema["properties"]) == {*Recipe.model_fields, "like", "stages"}
    assert schema["properties"]["stages"]["items"] == {"$ref": "#/$defs/Recipe"}
    assert set(schema["$defs"]["ModelArguments"]["properties"]) >= {"dim", "num_refinement_blocks"}
    assert schema["$defs"]["DegradationRecipe"]["properties"]["kernels"]["propertyNames"]["enum"] == [
        *FAMILIES,
        *SETTINGS,
    ]
