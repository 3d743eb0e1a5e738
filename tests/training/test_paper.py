"""The paper's network: its losses against other computations, and its training."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from blinddiff.degradation.kernels import SETTING1, SETTING2
from blinddiff.errors import RecipeError, WeightsError
from blinddiff.evaluation.methods import Options, method
from blinddiff.models.denoiser import alpha_bar, betas
from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer
from blinddiff.published.objective import bound_terms, log_probability
from blinddiff.published.sampler import Transitions
from blinddiff.sampling.pipeline import BlindDiffPipeline
from blinddiff.training import trainer
from blinddiff.training.data import MARGIN, Pairs, degrade, draw_scale
from blinddiff.training.recipe import Recipe, load_recipe
from blinddiff.training.stages import Paper
from blinddiff.training.trainer import initial_network, train

Tiny = Callable[..., Recipe]
RECIPES = Path(__file__).parents[2] / "recipes" / "paper"
TINY: dict[str, Any] = {
    "stage": "paper",
    "model": {"dim": 8, "num_blocks": [1, 1], "num_refinement_blocks": 0, "heads": [1, 1], "scales": [4]},
    "data": {"context": 64, "patch": 64, "batch": 2},
    "degradation": {"scales": {4: 1.0}, "kernels": {"setting1": 0.5, "setting2": 0.5}, "noise": {"none": 1.0}},
    "loss": {"noise": 1.0, "bound": 0.001, "kernel": 1.0, "pure_noise_share": 0.0},
    "learning_rate": 1e-3,
}
VARIANTS: list[dict[str, Any]] = [
    {"kernel_estimator": "spectral", "estimator_hidden": 16},
    {"closed_form_input": True},
    {"predicts": "x0"},
    {"kernel_modulation": False},
    {"patch_size": 4},
]


@pytest.fixture
def paper(tiny: Tiny) -> Tiny:
    """Makes a small recipe of the paper's network; keyword arguments go over its keys."""

    def make(**changes: Any) -> Recipe:
        content = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
        for key, value in changes.items():
            content[key] = {**content[key], **value} if isinstance(content.get(key), dict) else value
        recipe = tiny(**{**content, "model": {}})
        return Recipe.model_validate({**recipe.model_dump(), "model": content["model"]})

    return make


def pairs_of(count: int = 3) -> Pairs:
    rng = np.random.default_rng(0)
    side = 64 + 2 * MARGIN
    photographs = torch.from_numpy(rng.integers(0, 256, (count, 3, side // 8, side // 8), dtype=np.uint8))
    photographs = photographs.repeat_interleave(8, 2).repeat_interleave(8, 3)
    recipe = Recipe.model_validate({"data": {"folders": ["."]}, "degradation": TINY["degradation"]})
    return degrade(photographs, 4, 21, recipe.degradation, torch.Generator().manual_seed(0))


def test_the_bound_is_the_divergence_of_two_gaussians() -> None:
    """Against torch's divergence, with mean and variance from their definitions in Ho et al. 2020."""
    generator = torch.Generator().manual_seed(0)
    x_0, x0_hat = (torch.rand(4, 3, 5, 6, generator=generator) for _ in range(2))
    v, noise = (torch.randn(4, 3, 5, 6, generator=generator) for _ in range(2))
    t = torch.tensor([1, 20, 500, 999])
    beta, a = betas("linear"), alpha_bar("linear")
    expected = []
    for i, index in enumerate(t.tolist()):
        before = a[index - 1]
        x_t = a[index].sqrt() * x_0[i] + (1 - a[index]).sqrt() * noise[i]
        spread = (1 - before) / (1 - a[index]) * beta[index]
        means = [
            before.sqrt() * beta[index] / (1 - a[index]) * image
            + (1 - beta[index]).sqrt() * (1 - before) / (1 - a[index]) * x_t
            for image in (x_0[i].double(), x0_hat[i].double())
        ]
        share = (v[i].double() + 1) / 2
        deviation = (share * beta[index].log() + (1 - share) * spread.log()).mul(0.5).exp()
        q, p = Normal(means[0], spread.sqrt().expand_as(means[0])), Normal(means[1], deviation)
        expected.append(kl_divergence(q, p).mean() / math.log(2))
    scale = a[t].view(-1, 1, 1, 1)
    x_t = (scale.sqrt() * x_0 + (1 - scale).sqrt() * noise).float()
    found = bound_terms(Transitions.of(a), t, x_0, x_t, x0_hat, v)
    torch.testing.assert_close(found, torch.stack(expected).float(), rtol=2e-3, atol=1e-5)


def test_the_last_term_counts_every_grey_level_once() -> None:
    levels = torch.arange(256).view(-1, 1, 1, 1) / 255
    for mean, deviation in ((0.5, 0.01), (0.0, 0.2), (1.02, 0.001)):
        log_variance = torch.full_like(levels, 2 * math.log(deviation))
        mass = log_probability(levels, torch.full_like(levels, mean), log_variance).exp()
        assert float(mass.sum()) == pytest.approx(1, abs=1e-4)
    near = log_probability(levels, torch.full_like(levels, 100 / 255), torch.full_like(levels, 2 * math.log(0.01)))
    assert int(near.argmax()) == 100
    transitions = Transitions.of(alpha_bar("linear"))
    t, x_0 = torch.zeros(1, dtype=torch.long), torch.full((1, 3, 2, 2), 100 / 255)
    v = torch.zeros_like(x_0)
    expected = -log_probability(x_0, x_0 + 0.01, transitions.log_variance(t, v)).mean() / math.log(2)
    assert float(bound_terms(transitions, t, x_0, x_0, x_0 + 0.01, v)) == pytest.approx(float(expected))


def test_the_bound_teaches_the_variance_alone_and_is_least_where_the_variance_is_right() -> None:
    """A variance too small for the error of the mean, or too large for none, costs more."""
    x_0 = torch.full((1, 3, 8, 8), 0.5)
    transitions, t = Transitions.of(alpha_bar("linear")), torch.tensor([2])

    def cost(error: float, v: float) -> float:
        x0_hat = (x_0 + error).requires_grad_()
        variance = torch.full_like(x_0, v, requires_grad=True)
        terms = bound_terms(transitions, t, x_0, x_0, x0_hat, variance)
        terms.sum().backward()
        assert x0_hat.grad is None
        assert variance.grad is not None
        return float(terms)

    assert cost(0.0, -1.0) == pytest.approx(0, abs=1e-5)
    assert cost(0.0, 1.0) > cost(0.0, 0.0) > cost(0.0, -1.0)
    assert cost(0.05, 1.0) < cost(0.05, 0.0) < cost(0.05, -1.0)


@pytest.mark.parametrize("predicts", ["noise", "x0"])
def test_the_losses_of_the_stage(paper: Tiny, predicts: str) -> None:
    """Against the network called again with the same timesteps and noise."""
    recipe, pairs = paper(model={"predicts": predicts}), pairs_of()
    torch.manual_seed(0)
    network = initial_network(recipe).eval()
    losses = Paper(recipe).losses(network, pairs, torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    pairs.patch(64, generator)
    t, x_t, noise = Paper(recipe)._noised(network, pairs.x, generator)
    a = alpha_bar("linear")[t].float().view(-1, 1, 1, 1)
    torch.testing.assert_close(x_t, a.sqrt() * pairs.x + (1 - a).sqrt() * noise)  # images stay in [0, 1]
    prediction = network(x_t, t, pairs.observation)
    error = prediction.x0_hat - pairs.x if predicts == "x0" else prediction.noise - noise
    torch.testing.assert_close(losses["noise"], error.square().mean())
    torch.testing.assert_close(
        losses["kernel"], (prediction.degradation.kernel - pairs.kernel).abs().sum((1, 2)).mean()
    )
    total = losses["noise"] + 0.001 * losses["bound"] + losses["kernel"]
    torch.testing.assert_close(losses["total"], total)
    # x0_hat and noise are two forms of one prediction
    torch.testing.assert_close(a.sqrt() * prediction.x0_hat + (1 - a).sqrt() * prediction.noise, x_t, atol=1e-4, rtol=0)


def test_each_loss_teaches_its_part(paper: Tiny) -> None:
    torch.manual_seed(0)
    pairs, seed = pairs_of(), 3

    def taught(**weights: float) -> set[str]:
        recipe = paper(loss={"noise": 0.0, "bound": 0.0, "kernel": 0.0, **weights})
        network = initial_network(recipe)
        Paper(recipe).losses(network, pairs, torch.Generator().manual_seed(seed))["total"].backward()
        return {name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}

    assert all(name.startswith("estimator.") for name in taught(kernel=1.0))
    by_noise = taught(noise=1.0)
    assert {name.split(".")[0] for name in by_noise} == {"unet", "time_mlp", "kernel_mlp", "estimator"}
    assert "unet.output.weight" in taught(bound=1.0)


def weights_of(folder: Path) -> dict[str, Tensor]:
    return PublishedMCFormer.from_pretrained(folder / "weights").state_dict()


def test_thirty_steps_in_two_parts_are_thirty_steps(
    paper: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = paper(steps=30)
    train(recipe, tmp_path / "whole", device="cpu")
    calls = [0]

    def interrupted(*arguments: Any) -> int:
        calls[0] += 1
        if calls[0] > 13:
            raise KeyboardInterrupt
        return draw_scale(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "draw_scale", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe.model_copy(update={"checkpoint_minutes": 1e-9}), tmp_path / "parts", device="cpu")
    train(recipe, tmp_path / "parts", resume=True, device="cpu")
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    torch.manual_seed(recipe.seed)
    before = initial_network(recipe).state_dict()
    still = {name for name, value in whole.items() if torch.equal(value, before[name])}
    assert not still, "every weight learns"


def test_training_lowers_noise_and_kernel_loss(paper: Tiny, tmp_path: Path) -> None:
    recipe, pairs = paper(steps=60, learning_rate=3e-3, data={"batch": 4}), pairs_of()

    @torch.no_grad()
    def losses(network: Any) -> dict[str, float]:
        found = Paper(recipe).losses(network.eval(), pairs, torch.Generator().manual_seed(1))
        return {name: float(value) for name, value in found.items()}

    torch.manual_seed(recipe.seed)
    before = losses(initial_network(recipe))
    after = losses(PublishedMCFormer.from_pretrained(train(recipe, tmp_path / "run", device="cpu")))
    assert after["noise"] < 0.9 * before["noise"]
    assert after["kernel"] < 0.95 * before["kernel"]


@pytest.mark.parametrize("model", VARIANTS, ids=lambda model: next(iter(model)))
def test_every_variant_trains_and_restores_in_mode_paper(paper: Tiny, tmp_path: Path, model: dict[str, Any]) -> None:
    folder = train(paper(model=model, steps=2), tmp_path / "run", device="cpu")
    pipeline = BlindDiffPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    y = torch.rand(3, 16, 20, generator=torch.Generator().manual_seed(0))
    out = pipeline(y, scale=4, num_inference_steps=3, generator=torch.Generator().manual_seed(0), output_type="pt")
    assert out.images.shape == (1, 3, 64, 80)
    assert bool(torch.isfinite(out.images).all())
    torch.testing.assert_close(out.kernels.sum((-2, -1)), torch.ones(1), atol=1e-4, rtol=0)


def test_the_closed_form_input_is_of_the_kernel_that_modulates(paper: Tiny) -> None:
    """x_y of a given kernel, and of the network's own without one; another kernel gives another image."""
    torch.manual_seed(0)
    network = initial_network(paper(model={"closed_form_input": True, "kernel_modulation": False})).eval()
    pairs = pairs_of(1)
    x_t, t = torch.randn(pairs.x.shape, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    with torch.no_grad():
        own = network(x_t, t, pairs.observation)
        again, given = (network(x_t, t, pairs.observation, each) for each in (own.degradation, pairs.degradation))
    torch.testing.assert_close(again.x0_hat, own.x0_hat)
    assert not torch.allclose(given.x0_hat, own.x0_hat, atol=1e-4)


def test_a_spectral_estimate_does_not_see_x_t(paper: Tiny) -> None:
    pairs, t = pairs_of(2), torch.tensor([900, 900])
    kernels = {}
    for estimator in ("spectral", "convolutional"):
        torch.manual_seed(0)
        network = initial_network(paper(model={"kernel_estimator": estimator})).eval()
        with torch.no_grad():
            kernels[estimator] = [
                network(torch.randn(pairs.x.shape) * scale, t, pairs.observation).degradation.kernel for scale in (1, 9)
            ]
    assert torch.equal(*kernels["spectral"])
    assert not torch.equal(*kernels["convolutional"])


def test_the_recipes_are_the_papers(tmp_path: Path) -> None:
    """Values of section 4.1 of the paper and of its released code."""
    for name, family in (("setting1", SETTING1), ("setting2", SETTING2)):
        (recipe,) = load_recipe(RECIPES / f"{name}.yaml")
        assert (recipe.stage, recipe.steps, recipe.learning_rate) == ("paper", 1_000_000, 5e-5)
        assert (recipe.data.patch, recipe.data.context, recipe.data.batch) == (128, 128, 40)
        assert recipe.degradation.kernels == {family.name: 1.0}
        assert recipe.degradation.scales == {4: 1.0}
        network = initial_network(recipe)
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(26.51e6, rel=2e-3)
        assert network.config.noise_schedule == "linear"


def test_variants_differ_from_small_in_one_thing_alone() -> None:
    (small,) = load_recipe(RECIPES / "small.yaml")
    changes = {
        "spectral": ("model", "kernel_estimator", "spectral"),
        "closed_form": ("model", "closed_form_input", True),
        "x0": ("model", "predicts", "x0"),
        "no_modulation": ("model", "kernel_modulation", False),
        "no_kernel_loss": ("loss", "kernel", 0.0),
    }
    for name, (section, key, value) in changes.items():
        (recipe,) = load_recipe(RECIPES / f"{name}.yaml")
        expected = small.model_dump()
        assert expected[section].get(key) != value
        expected[section][key] = value
        assert recipe.model_dump() == expected


def test_small_has_the_image_network_and_the_data_of_compact() -> None:
    ((small,), (compact,)) = (load_recipe(RECIPES / f"{name}.yaml") for name in ("small", "compact"))
    assert small.degradation == compact.degradation
    assert (small.data.patch, small.data.batch) == (compact.data.patch, compact.data.batch)
    networks = [initial_network(recipe) for recipe in (small, compact)]
    sizes = [sum(p.numel() for p in network.unet.parameters()) for network in networks]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_a_model_of_the_other_network(paper: Tiny, tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="image_mean"):
        initial_network(paper(model={"image_mean": 0.4}))
    with pytest.raises(RecipeError, match="kernel_estimator: 'fourier' is not one of convolutional, spectral"):
        initial_network(paper(model={"kernel_estimator": "fourier"}))
    MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1]).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="holds MCFormer, not PublishedMCFormer"):
        initial_network(paper(init=str(tmp_path)))


def test_published_weights_can_be_trained_on(paper: Tiny, tmp_path: Path) -> None:
    recipe = paper()
    torch.manual_seed(1)
    PublishedMCFormer(**recipe.model).save_pretrained(tmp_path / "first")
    torch.manual_seed(2)
    state = initial_network(paper(init=str(tmp_path / "first"))).state_dict()
    for name, value in PublishedMCFormer.from_pretrained(tmp_path / "first").state_dict().items():
        assert torch.equal(state[name], value), name
    with pytest.raises(WeightsError, match="was made with predicts noise, and the recipe's model has x0"):
        initial_network(paper(init=str(tmp_path / "first"), model={"predicts": "x0"}))


@pytest.mark.parametrize("name", ["paper", "paper-gradient", "paper-proximal", "paper-kernel-once"])
def test_its_evaluation_settings(tmp_path: Path, name: str) -> None:
    PublishedMCFormer(**TINY["model"]).save_pretrained(tmp_path)
    made = method(f"{name}@2", Options(tmp_path, "cpu"))
    assert getattr(made, "mode", None) == "paper"
