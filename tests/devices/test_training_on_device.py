"""Training on a device other than the CPU: pairs, losses and gradients of every stage, and a step of the trainer."""

import copy
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from accelerate import Accelerator
from PIL import Image
from stand_in import OnDevice, stand_in_device
from torch import Tensor

from blinddiff.degradation import NOISES
from blinddiff.degradation.kernels import FAMILIES
from blinddiff.models.mcformer import MCFormer
from blinddiff.training.data import Pairs, degrade
from blinddiff.training.recipe import DegradationRecipe, Recipe, parse_recipe
from blinddiff.training.stages import STAGES
from blinddiff.training.trainer import Trainer, write_sheet

MODEL: dict[str, Any] = {"dim": 8, "num_blocks": [1, 1], "heads": [1, 1], "estimator_hidden": 32, "embedding_dim": 16}
COFFEE = skimage.data.coffee()[:320, :320]  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """(4, 3, 144, 144) uint8: 96 and the margins."""
    pixels = torch.from_numpy(COFFEE.copy()).permute(2, 0, 1)
    return torch.stack([pixels[:, top : top + 144, 20 : 20 + 144] for top in (0, 50, 100, 150)])


@pytest.fixture(scope="module")
def pairs(photographs: Tensor) -> Pairs:
    recipe = DegradationRecipe(kernels={"anisotropic": 1.0}, noise={"gaussian": 1.0})
    return degrade(photographs, 2, 31, recipe, torch.Generator().manual_seed(3))


def recipe_for(stage: str, folder: Path = Path()) -> Recipe:
    (recipe,) = parse_recipe(
        {
            "stage": stage,
            "data": {"folders": [str(folder)], "context": 64, "patch": 32, "batch": 4, "replayed": 3},
            "model": MODEL,
            "loss": {"restoration": 0.1, "own_kernel_share": 0.3, "true_kernel_share": 0.3},
            "steps": 2,
        },
        "recipe.yaml",
    )
    return recipe


def moved(pairs: Pairs, device: torch.device) -> Pairs:
    return Pairs(
        **{name: value.to(device) if isinstance(value, Tensor) else value for name, value in vars(pairs).items()}
    )


def assert_same(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    """Within rounding: torch adds up gradients of a subclass in another order."""
    assert isinstance(found, OnDevice)
    torch.testing.assert_close(found.values, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("noise", NOISES)
def test_pairs_are_made_on_the_device(photographs: Tensor, noise: str) -> None:
    recipe = DegradationRecipe(
        kernels=dict.fromkeys(FAMILIES, 1.0), noise={noise: 1.0}, processing=[{"jpeg": 1.0}], decimated=0.5, grey=0.5
    )
    expected = degrade(photographs, 2, 31, recipe, torch.Generator().manual_seed(1))
    with stand_in_device() as device:
        found = degrade(photographs.to(device), 2, 31, recipe, torch.Generator().manual_seed(1))
    for name, value in vars(expected).items():
        if isinstance(value, Tensor):
            assert_same(getattr(found, name), value)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_are_made_on_the_device(family: str) -> None:
    expected = FAMILIES[family].sample(6, 2, 31, torch.Generator().manual_seed(1))
    with stand_in_device() as device:
        assert_same(FAMILIES[family].sample(6, 2, 31, torch.Generator().manual_seed(1), device), expected)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "paper"])  # it trains another network
def test_losses_and_gradients_are_those_of_the_cpu(pairs: Pairs, stage: str) -> None:
    torch.manual_seed(0)
    network = MCFormer(**MODEL)

    def losses_and_gradients(network: MCFormer, pairs: Pairs) -> dict[str, Tensor]:
        used = STAGES[stage](recipe_for(stage))
        used.set_mode(network)
        for seed in (4, 5):  # in the second one, examples of the first are replayed
            torch.manual_seed(seed)  # for dropout
            losses = used.losses(network, pairs, torch.Generator().manual_seed(seed))
            losses["total"].backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        return {**{name: value.detach() for name, value in losses.items()}, **gradients}

    expected = losses_and_gradients(copy.deepcopy(network), pairs)
    with stand_in_device() as device:
        found = losses_and_gradients(copy.deepcopy(network).to(device), moved(pairs, device))
    assert found.keys() == expected.keys()
    assert len(found) > 3
    for name in expected:
        assert_same(found[name], expected[name])


def test_a_step_of_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With optimiser, moving average and the sheet of sample images; the weights afterwards are those of the CPU."""
    Image.fromarray(COFFEE).save(tmp_path / "coffee.png")

    def after_two_steps(name: str) -> dict[str, Tensor]:
        trainer = Trainer(recipe_for("network", tmp_path), tmp_path / name, resume=False, device="cpu")
        for step in range(2):
            trainer._train_step(torch.from_numpy(trainer.photographs(step)))
        pairs = trainer.pairs(torch.from_numpy(trainer.photographs(0)), torch.Generator().manual_seed(0))
        write_sheet(tmp_path / f"{name}.png", trainer.network, pairs)
        return trainer.average.state_dict()

    expected = after_two_steps("cpu")
    with stand_in_device() as device:
        monkeypatch.setattr(Accelerator, "device", property(lambda _: device))
        found = after_two_steps("device")
    assert found.keys() == expected.keys()
    for name in expected:
        assert_same(found[name], expected[name], atol=1e-4)  # Adam divides by gradients that are almost 0
    assert (tmp_path / "device.png").stat().st_size > 0
