"""The training loop, on a network of some thousand weights."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation import Observation
from blinddiff.errors import RecipeError, TrainingError, WeightsError
from blinddiff.files import replace_folder
from blinddiff.models.mcformer import MCFormer
from blinddiff.training import data, trainer
from blinddiff.training.data import MARGIN, ImagePool, Pairs, degrade, draw_scale
from blinddiff.training.recipe import Recipe
from blinddiff.training.stages import STAGES, Estimator, Joint
from blinddiff.training.trainer import initial_network, train

Tiny = Callable[..., Recipe]
AT_EVERY_STEP = 1e-9  # minutes between checkpoints


@pytest.fixture(autouse=True)
def small_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints hold all kept examples: few are faster to write."""
    monkeypatch.setattr(data, "REPLAY_SIZE", 32)


def losses_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder: Path) -> dict[str, Tensor]:
    return MCFormer.from_pretrained(folder / "weights").state_dict()


def all_finite(state: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point())


def fixed_pairs(recipe: Recipe, scale: int = 2) -> Pairs:
    side = recipe.data.context + 2 * MARGIN
    pool = ImagePool(recipe.data.folders, [], side)
    photographs = torch.from_numpy(pool.crops(12, side, np.random.default_rng(9)))
    kernel_size = recipe.model["kernel_size"]
    return degrade(photographs, scale, kernel_size, recipe.degradation, torch.Generator().manual_seed(9))


@torch.no_grad()
def evaluated(network: MCFormer, recipe: Recipe) -> dict[str, float]:
    """The losses on the same twelve pairs, timesteps and noise, whatever the network."""
    network.eval()
    pairs = fixed_pairs(recipe)
    losses = Joint(recipe).losses(network, pairs, torch.Generator().manual_seed(9))
    alone = Estimator(recipe).losses(network, pairs, torch.Generator())
    return {name: float(value) for name, value in {**losses, "kernel from y": alone["kernel"]}.items()}


class Crash(Exception):
    """What a test ends a run with, as a power cut would."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the run end abruptly when it begins a step (from 0)."""
    calls = [0]

    def count(*arguments: Any) -> int:
        calls[0] += 1
        if calls[0] > step:
            raise Crash
        return draw_scale(*arguments)

    monkeypatch.setattr(trainer, "draw_scale", count)


def test_the_losses_fall(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(data={"batch": 8}, degradation={"noise": {"none": 1.0}}, steps=100)
    torch.manual_seed(recipe.seed)
    before = evaluated(initial_network(recipe), recipe)
    folder = train(recipe, tmp_path / "run", device="cpu")
    assert folder == tmp_path / "run" / "weights"
    after = evaluated(MCFormer.from_pretrained(folder), recipe)
    assert after["noise"] < 0.9 * before["noise"]
    assert after["kernel from y"] < 0.85 * before["kernel from y"]
    assert after["total"] < 0.9 * before["total"]


def test_what_a_run_writes(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(steps=45, sheet_steps=40)
    train(recipe, tmp_path / "run", device="cpu")
    written = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith("events.")}
    assert written == {"weights", "checkpoint", "losses.csv", "sheet_000040.png"}
    rows = losses_of(tmp_path / "run")
    assert [row["step"] for row in rows] == ["20", "40", "45"]
    for row in rows:
        weights = {"noise": 1, "kernel": 0.3, "noise_level": 0.1, "noise_spectrum": 0.02}
        total = sum(weight * float(row[name]) for name, weight in weights.items())
        assert float(row["total"]) == pytest.approx(total, rel=1e-4)
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-5)
    with Image.open(tmp_path / "run" / "sheet_000040.png") as sheet:
        assert sheet.size == (4 * 64, 4 * 64), "four examples: y enlarged, closed form, prediction, truth"
    assert all_finite(weights_of(tmp_path / "run"))


def test_recipes_name_the_stages_that_there_are() -> None:
    assert set(get_args(Recipe.model_fields["stage"].annotation)) == set(STAGES)


@pytest.mark.parametrize("stage", ["estimator", "confidence", "network", "correction", "joint"])
def test_only_the_parts_of_a_stage_learn(tiny: Tiny, tmp_path: Path, stage: str) -> None:
    recipe = tiny(stage=stage, steps=4, warmup=0)
    torch.manual_seed(recipe.seed)
    before = initial_network(recipe).state_dict()
    train(recipe, tmp_path / "run", device="cpu")
    after = weights_of(tmp_path / "run")
    changed = {name for name in before if not torch.equal(before[name], after[name])}

    def part(name: str) -> str:
        if name.startswith("estimator.correct."):
            return "correction"
        if name.startswith("estimator.confidence_head."):
            return "confidence"
        return "estimator" if name.startswith("estimator.") else "network"

    learned = {part(name) for name in changed}
    assert learned == ({"estimator", "correction", "network"} if stage == "joint" else {stage})


@pytest.fixture
def staged(tiny: Tiny) -> list[Recipe]:
    """Four stages of two steps, with a checkpoint at every step."""
    common: dict[str, Any] = {"steps": 2, "warmup": 0, "checkpoint_minutes": AT_EVERY_STEP}
    return [
        tiny(stage="estimator", seed=1, data={"replayed": 6}, **common),
        tiny(stage="network", seed=2, **common),
        tiny(stage="network", seed=3, model={"num_refinement_blocks": 1}, **common),
        tiny(stage="correction", seed=4, model={"num_refinement_blocks": 1}, **common),
    ]


STAGED = ["01-estimator", "02-network", "03-network", "04-correction"]


def test_stages_run_in_order_each_from_the_weights_before(staged: list[Recipe], tmp_path: Path) -> None:
    folder = train(staged, tmp_path / "run", device="cpu")
    assert folder == tmp_path / "run" / "04-correction" / "weights"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == STAGED
    states = [weights_of(tmp_path / "run" / name) for name in STAGED]
    for before, after, learned in zip(states, states[1:], ("unet.", "unet.", "estimator.correct."), strict=False):
        changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
        assert any(name.startswith(learned) for name in changed)
        assert not any(name.startswith(("estimator.trunk.", "estimator.head.")) for name in changed)
    # The same stages by hand, each as a recipe of its own
    source = None
    for number, recipe in enumerate(staged):
        source = str(train(recipe.model_copy(update={"init": source}), tmp_path / f"alone{number}", device="cpu"))
    last = weights_of(tmp_path / "alone3")
    assert all(torch.equal(last[name], value) for name, value in states[-1].items())


@pytest.mark.parametrize("step", [0, 1, 2, 5, 7])
def test_stages_resume_wherever_they_were_killed(
    staged: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Step 2 is the second stage's first: there is no checkpoint of it yet."""
    whole = train(staged, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        crash_at(patch, step)
        with pytest.raises(Crash):
            train(staged, tmp_path / "cut", device="cpu")
    resumed = train(staged, tmp_path / "cut", resume=True, device="cpu")
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == STAGED
    expected = weights_of(whole.parent)
    for name, value in weights_of(resumed.parent).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("save", [3, 4])
def test_a_stage_that_was_killed_while_it_saved_its_last_step_is_not_taken_for_finished(
    staged: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: int
) -> None:
    """Folders are saved in this order: weights and checkpoint of step 1, weights and checkpoint of step 2."""
    staged = staged[:2]
    train(staged, tmp_path / "whole", device="cpu")
    calls = [0]

    def crash(new: Path, old: Path) -> None:
        calls[0] += 1
        if calls[0] == save:
            raise Crash
        replace_folder(new, old)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "replace_folder", crash)
        with pytest.raises(Crash):
            train(staged, tmp_path / "cut", device="cpu")
    train(staged, tmp_path / "cut", resume=True, device="cpu")
    for name in STAGED[:2]:
        expected = weights_of(tmp_path / "whole" / name)
        for key, value in weights_of(tmp_path / "cut" / name).items():
            torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=0)


def test_the_time_limit_is_that_of_all_stages(staged: list[Recipe], tmp_path: Path) -> None:
    stopped = train(staged, tmp_path / "run", max_minutes=0, device="cpu")
    assert stopped == tmp_path / "run" / "01-estimator" / "weights"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["01-estimator"]
    finished = train(staged, tmp_path / "run", resume=True, device="cpu")
    assert finished == tmp_path / "run" / "04-correction" / "weights"


def test_stages_refuse_a_folder_with_a_run_and_one_without(staged: list[Recipe], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="run: contains no checkpoint"):
        train(staged, tmp_path / "run", resume=True, device="cpu")
    train(staged[:2], tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match="run: already contains a run"):
        train(staged, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {"estimator_hidden": 48}},
            r"stage 1: does not fit the recipe's model: size mismatch for estimator\.",
        ),
        ({"model": {"heads": [1, 3]}}, "3 heads"),
        ({"data": {"batch": 1}}, "batch: stage joint needs 2"),
        ({"model": {"scales": [2, 4, 1]}}, "stage 1: was made with scales"),
    ],
)
def test_a_stage_that_cannot_start_is_found_before_the_first_one_runs(
    tiny: Tiny, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises((RecipeError, WeightsError), match=message):
        train([tiny(steps=1), tiny(steps=1, **change)], tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["estimator", "correction", "joint"])
def test_resumed_run_equals_an_uninterrupted_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(trainer, "LOG_STEPS", 1)
    recipe = tiny(stage=stage, steps=16, checkpoint_minutes=AT_EVERY_STEP, data={"replayed": 6})
    train(recipe, tmp_path / "whole", device="cpu")

    with monkeypatch.context() as patch:
        crash_at(patch, 7)
        with pytest.raises(Crash):
            train(recipe, tmp_path / "cut", device="cpu")
    # A log may be ahead of the last checkpoint: its rows are written again.
    lines = (tmp_path / "cut" / "losses.csv").read_text().splitlines()
    assert len(lines) == 8
    with (tmp_path / "cut" / "losses.csv").open("a") as file:
        file.write(lines[-1].replace("7,", "8,", 1) + "\n")

    train(recipe, tmp_path / "cut", resume=True, device="cpu")
    assert losses_of(tmp_path / "cut") == losses_of(tmp_path / "whole")
    assert [int(row["step"]) for row in losses_of(tmp_path / "cut")] == list(range(1, 17))
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-6, rtol=0)


def test_bfloat16_learns_what_single_precision_learns(tiny: Tiny, tmp_path: Path) -> None:
    """The same losses to the half-precision's three digits at first, and weights of full precision."""
    for precision in ("float32", "bfloat16"):
        train(tiny(stage="network", steps=4, precision=precision), tmp_path / precision, device="cpu")
    whole, reduced = (losses_of(tmp_path / precision) for precision in ("float32", "bfloat16"))
    assert whole != reduced, "the precision does take effect"
    for one, other in zip(whole, reduced, strict=True):
        assert float(other["noise"]) == pytest.approx(float(one["noise"]), rel=0.02)
    assert all(value.dtype != torch.bfloat16 for value in weights_of(tmp_path / "bfloat16").values())


def test_photographs_are_reduced_where_the_recipe_says_so(tiny: Tiny, tmp_path: Path) -> None:
    for name, share in (("never", 0.0), ("always", 1.0)):
        train(tiny(stage="estimator", steps=2, data={"reduced": share}), tmp_path / name, device="cpu")
    assert losses_of(tmp_path / "never") != losses_of(tmp_path / "always")


def test_resuming_when_done_changes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(steps=3)
    train(recipe, tmp_path / "run", device="cpu")
    before = weights_of(tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True, device="cpu")
    for name, value in weights_of(tmp_path / "run").items():
        assert torch.equal(value, before[name])


def test_a_seed_is_a_run(tiny: Tiny, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny(steps=3, seed=seed), tmp_path / name, device="cpu")
    first, again, other = (losses_of(tmp_path / name) for name in "abc")
    assert first == again
    assert first != other


def poison_photographs(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Pairs with a NaN at one step, as a broken photograph would make them."""
    calls = [0]

    def poisoned(*arguments: Any) -> Pairs:
        pairs = degrade(*arguments)
        calls[0] += 1
        if calls[0] > step:
            pairs.x[0, 0, 0, 0] = torch.nan
            pairs.y[:] = torch.nan
        return pairs

    monkeypatch.setattr(trainer, "degrade", poisoned)


def poison_gradient(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """A finite loss whose gradient is not, at one step: the root of zero."""
    calls, whole = [0], Joint.losses

    def poisoned(self: Joint, model: MCFormer, *arguments: Any) -> dict[str, Tensor]:
        losses = whole(self, model, *arguments)
        calls[0] += 1
        if calls[0] > step:
            losses["total"] = losses["total"] + (0 * next(model.unet.parameters()).flatten()[0]).sqrt()
        return losses

    monkeypatch.setattr(Joint, "losses", poisoned)


@pytest.mark.parametrize("poison", [poison_photographs, poison_gradient])
def test_a_nan_stops_and_the_last_good_checkpoint_stays(
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    poison: Callable[[pytest.MonkeyPatch, int], None],
) -> None:
    recipe = tiny(steps=12, checkpoint_minutes=AT_EVERY_STEP)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        poison(patch, 5)
        with pytest.raises(TrainingError, match="at step 5; the last good checkpoint is") as error:
            train(recipe, folder, device="cpu")
    assert str(folder / "checkpoint") in str(error.value)
    assert "\n" not in str(error.value)
    assert all_finite(weights_of(folder))
    # It can be gone on from, to the end.
    train(recipe, folder, resume=True, device="cpu")
    assert all_finite(weights_of(folder))
    assert losses_of(folder)[-1]["step"] == "12"


def test_a_learning_rate_beyond_reason_stops(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"at step [1-5]"):
        train(tiny(learning_rate=1e30, steps=8, warmup=0), tmp_path / "run", device="cpu")


def test_a_nan_before_the_first_checkpoint_promises_none(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison_photographs(monkeypatch, 0)
    with pytest.raises(TrainingError, match="at step 0") as error:
        train(tiny(steps=4), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "checkpoint").exists()
    assert "last good checkpoint is" not in str(error.value)


def test_a_run_begun_again_does_not_go_on_an_old_log(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(steps=25)
    with monkeypatch.context() as patch:
        crash_at(patch, 22)
        with pytest.raises(Crash):
            train(recipe, tmp_path / "run", device="cpu")
    train(recipe, tmp_path / "run", device="cpu")
    assert [row["step"] for row in losses_of(tmp_path / "run")] == ["20", "25"]


def test_time_limit_ends_with_a_checkpoint(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(steps=5)
    train(recipe, tmp_path / "run", max_minutes=0, device="cpu")
    assert (tmp_path / "run" / "checkpoint").is_dir()
    assert not (tmp_path / "run" / "losses.csv").exists()
    train(recipe, tmp_path / "run", resume=True, device="cpu")
    assert losses_of(tmp_path / "run")[-1]["step"] == "5"


def test_the_rate_warms_up_and_falls_to_its_final_share(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_STEPS", 1)
    train(tiny(steps=12, warmup=4, learning_rate=0.01, final_rate=0.25), tmp_path / "run", device="cpu")
    rates = [float(row["learning_rate"]) for row in losses_of(tmp_path / "run")]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 0.006
    assert rates[-1] == pytest.approx(0.0025)


def test_a_folder_holds_one_run(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(steps=1), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match="already contains a run"):
        train(tiny(steps=1), tmp_path / "run", device="cpu")


def test_nothing_to_resume(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="contains no checkpoint"):
        train(tiny(), tmp_path / "run", resume=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_resuming_another_network(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(steps=1), tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match="does not fit the recipe") as error:
        train(tiny(model={"dim": 16}), tmp_path / "run", resume=True, device="cpu")
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_is_named(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(steps=1)
    train(recipe, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "checkpoint" / "progress.yaml").unlink()
    with pytest.raises(TrainingError, match="checkpoint"):
        train(recipe, tmp_path / "run", resume=True, device="cpu")
    for name in ("progress.yaml", "optimizer.bin", "model.safetensors"):  # from the last one read to the first
        (tmp_path / "run" / "checkpoint" / name).write_bytes(b"")
        with pytest.raises(TrainingError, match=r"checkpoint: does not fit the recipe: .+") as error:
            train(recipe, tmp_path / "run", resume=True, device="cpu")
        assert "\n" not in str(error.value)


def test_a_log_that_a_kill_left_empty_is_begun_again(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(steps=20), tmp_path / "run", device="cpu")
    (tmp_path / "run" / "losses.csv").write_text("")
    train(tiny(steps=40), tmp_path / "run", resume=True, device="cpu")
    header, row = (tmp_path / "run" / "losses.csv").read_text().splitlines()
    assert header.startswith("step,")
    assert row.startswith("40,")


def test_held_out_photographs_are_not_trained_on(
    tiny: Tiny, tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[ImagePool] = []

    class Remembered(ImagePool):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(trainer, "ImagePool", Remembered)
    train(tiny(data={"held_out": ["cat.png"]}, steps=1), tmp_path / "run", device="cpu")
    with Image.open(photographs / "cat.png") as image:
        cat = np.asarray(image)
    assert [len(pool.images) for pool in pools] == [2]
    assert not any(np.array_equal(image, cat) for image in pools[0].images)
    with pytest.raises(RecipeError, match="no photograph"):
        train(tiny(data={"held_out": [".png"]}), tmp_path / "none", device="cpu")


@pytest.mark.parametrize(
    ("stage", "batch"), [("estimator", 2), ("network", 1), ("network", 2), ("correction", 2), ("joint", 2)]
)
def test_the_smallest_batch_of_a_stage(tiny: Tiny, tmp_path: Path, stage: str, batch: int) -> None:
    train(tiny(stage=stage, data={"batch": batch}, steps=2), tmp_path / "run", device="cpu")
    assert all_finite(weights_of(tmp_path / "run"))


@pytest.mark.parametrize("stage", ["estimator", "confidence", "correction", "joint"])
def test_a_batch_too_small_for_its_stage(tiny: Tiny, tmp_path: Path, stage: str) -> None:
    with pytest.raises(RecipeError, match=f"data: batch: stage {stage} needs 2 or more"):
        train(tiny(stage=stage, data={"batch": 1}), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_scale_trains(tiny: Tiny, tmp_path: Path, scale: int) -> None:
    recipe = tiny(
        degradation={"scales": {scale: 1.0}, "noise": {"gaussian": 1.0, "jpeg": 1.0}}, data={"patch": 48}, steps=2
    )
    train(recipe, tmp_path / "run", device="cpu")
    assert all_finite(weights_of(tmp_path / "run"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"dims": 8}, "dims"),
        ({"heads": [1, 3]}, "3 heads"),
        ({"heads": [1]}, "heads has 1 entries"),
        ({"noise_schedule": "cosine"}, "cosine"),
        ({"dim": "wide"}, "dim"),
        ({"prediction": "noise"}, "unknown key 'prediction'"),
        ({"scales": [4]}, "scales: 2 is not one of the model"),
        ({"num_blocks": [], "heads": []}, "num_blocks is empty"),
        ({"patch_size": 0}, "patch_size: 0"),
        ({"estimator_hidden": -1}, "estimator_hidden: -1"),
        ({"residual_std": 0.0}, "residual_std: 0.0"),
        ({"kernel_size": 39}, "kernel_size: 39"),
    ],
)
def test_impossible_models(tiny: Tiny, tmp_path: Path, model: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        train(tiny(model=model, steps=20), tmp_path / "run", device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_starting_from_weights(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(steps=2), tmp_path / "first", device="cpu")
    source = str(tmp_path / "first" / "weights")
    state = weights_of(tmp_path / "first")
    whole = initial_network(tiny(init=source)).state_dict()
    assert all(torch.equal(whole[name], value) for name, value in state.items())
    torch.manual_seed(5)
    part = initial_network(tiny(init_estimator=source)).state_dict()
    for name, value in state.items():
        if name.startswith("estimator."):
            assert torch.equal(part[name], value)
    assert not torch.equal(part["unet.stem.weight"], state["unet.stem.weight"])


def test_a_network_grows_without_forgetting(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(steps=2), tmp_path / "first", device="cpu")
    source = str(tmp_path / "first" / "weights")
    small = initial_network(tiny(init=source))
    grown = initial_network(tiny(init=source, model={"num_refinement_blocks": 2}))
    assert len(grown.unet.refinement) == 2
    observation, x_t = Observation(torch.rand(1, 3, 16, 16), 2), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before, after = (network.eval()(x_t, torch.tensor([999]), observation).x0_hat for network in (small, grown))
    torch.testing.assert_close(after, before)
    # what was added learns: all of its weights are changed, not only those that start at zero
    trained = train(tiny(init=source, model={"num_refinement_blocks": 2}, steps=3), tmp_path / "grown", device="cpu")
    added = {name: value for name, value in weights_of(trained.parent).items() if ".refinement." in name}
    assert added
    for name, value in added.items():
        assert not torch.equal(value, grown.state_dict()[name]), name


@pytest.mark.parametrize("key", ["init", "init_estimator"])
def test_a_mistyped_folder_is_not_looked_for_on_the_hub(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(WeightsError, match="runs/typo: no such folder of weights"):
        initial_network(tiny(**{key: "runs/typo"}))


@pytest.mark.parametrize("key", ["init", "init_estimator"])
def test_weights_that_cannot_be_started_from(tiny: Tiny, tmp_path: Path, key: str) -> None:
    with pytest.raises(WeightsError, match="none"):
        initial_network(tiny(**{key: str(tmp_path / "none")}))
    train(tiny(steps=1), tmp_path / "run", device="cpu")
    other = tiny(model={"estimator_hidden": 48}, **{key: str(tmp_path / "run" / "weights")})
    with pytest.raises(WeightsError, match="run") as error:
        initial_network(other)
    assert "\n" not in str(error.value)


def test_what_learns_of_the_estimator_gathers_its_statistics(tiny: Tiny, tmp_path: Path) -> None:
    for stage, gathers in (("estimator", True), ("joint", True), ("network", False)):
        recipe = tiny(stage=stage, steps=2)
        state = MCFormer.from_pretrained(train(recipe, tmp_path / stage, device="cpu")).state_dict()
        assert (int(state["estimator.normalise.num_batches_tracked"]) > 0) == gathers, stage


def test_a_checkpoint_that_was_about_to_be_replaced_is_gone_on_from(tiny: Tiny, tmp_path: Path) -> None:
    recipe = tiny(steps=2)
    train(recipe, tmp_path / "run", device="cpu")
    (tmp_path / "run/checkpoint").rename(tmp_path / "run/checkpoint.old")
    with pytest.raises(TrainingError, match="already contains a run"):
        train(recipe, tmp_path / "run", device="cpu")
    train(recipe, tmp_path / "run", resume=True, device="cpu")
    assert (tmp_path / "run/checkpoint").is_dir()


@pytest.mark.parametrize(
    ("changed", "of_the_estimator"),
    [({"residual_std": 0.3}, False), ({"noise_schedule": "linear"}, False), ({"scales": (4, 3, 2, 1)}, True)],
)
def test_weights_that_mean_something_else(
    tiny: Tiny, tmp_path: Path, changed: dict[str, Any], of_the_estimator: bool
) -> None:
    """Of the same shapes."""
    recipe = tiny()
    MCFormer(**{**recipe.model, **changed}).save_pretrained(tmp_path / "other")
    (name,) = changed
    with pytest.raises(WeightsError, match=f"was made with {name}"):
        initial_network(tiny(init=str(tmp_path / "other")))
    if of_the_estimator:
        with pytest.raises(WeightsError, match=f"was made with {name}"):
            initial_network(tiny(init_estimator=str(tmp_path / "other")))
    else:
        initial_network(tiny(init_estimator=str(tmp_path / "other")))
