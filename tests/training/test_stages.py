"""The losses that training minimises."""

import math
from collections.abc import Callable

import pytest
import skimage.data
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator, Observation, closed_form
from blinddiff.degradation.kernels import identity, isotropic_gaussian
from blinddiff.models.kernel_estimator import SpectralEstimator
from blinddiff.models.mcformer import MCFormer
from blinddiff.models.statistics import estimator_statistics
from blinddiff.training.data import Pairs, degrade
from blinddiff.training.recipe import DegradationRecipe, Recipe
from blinddiff.training.stages import (
    Confidence,
    Correction,
    Estimator,
    Joint,
    Network,
    closed_form_loss,
    denoising_loss,
    kernel_loss,
    noise_level_loss,
    perturbed,
)

Tiny = Callable[..., Recipe]


def delta(size: int) -> Tensor:
    kernel = torch.zeros(1, size, size)
    kernel[0, size // 2, size // 2] = 1
    return kernel


def test_kernel_loss_of_known_pairs() -> None:
    true = torch.tensor([[[0.5, 0.5], [0.0, 0.0]]])
    assert float(kernel_loss(true, true)) == 0
    assert float(kernel_loss(true.flip(1), true)) == 2
    assert float(kernel_loss(torch.full((1, 2, 2), 0.25), true)) == 1


def test_confidence_is_learned_of_the_pixels_that_are_seen(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a picture that is smaller than the smallest crop."""
    counted = []

    def expected_error(self: SpectralEstimator, features: Tensor, pixels: Tensor) -> Tensor:
        counted.append(pixels)
        return pixels[:, 0]

    monkeypatch.setattr(SpectralEstimator, "expected_error", expected_error)
    model = MCFormer(dim=8, num_blocks=[1, 1], heads=[1, 1], estimator_hidden=32, embedding_dim=16)
    y = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    kernel = isotropic_gaussian(2.0, 31)[None].repeat(2, 1, 1)
    pairs = Pairs(y.repeat(1, 1, 4, 4), y, kernel, torch.ones(2), 4, torch.ones(2, 16, 16), torch.zeros(2))
    recipe = tiny(stage="confidence")
    Confidence(recipe).losses(model, pairs, torch.Generator().manual_seed(0))
    assert set(counted[0].flatten().tolist()) == {144}


@pytest.mark.parametrize("sigma", [1.5, 2.4, 3.2])
def test_uniform_and_delta_kernels_lose_clearly(sigma: float) -> None:
    true = isotropic_gaussian(sigma, 31)[None]
    close = float(kernel_loss(isotropic_gaussian(1.08 * sigma, 31)[None], true))
    assert 0.05 < close < 0.2, "a width off by 8 % costs about 0.12"
    for wrong in (torch.full((1, 31, 31), 1 / 31**2), delta(31)):
        assert float(kernel_loss(wrong, true)) > 0.9
        assert float(kernel_loss(wrong, true)) > 6 * close


def test_kernel_loss_is_a_mean_over_the_batch() -> None:
    true, wrong = isotropic_gaussian(2.0, 21)[None], isotropic_gaussian(3.0, 21)[None]
    one = kernel_loss(wrong, true)
    torch.testing.assert_close(kernel_loss(wrong.repeat(5, 1, 1), true.repeat(5, 1, 1)), one)
    torch.testing.assert_close(kernel_loss(torch.cat([wrong, true]), torch.cat([true, true])), one / 2)


def made_scene(side: int, seed: int) -> Tensor:
    """(1, 3, side, side): noise of spectrum 1 / f^2 that wraps round."""
    noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
    down, right = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    spectrum = torch.fft.rfft2(noise) / (down.square() + right.square() + (0.5 / 64) ** 2).sqrt()
    scene = torch.fft.irfft2(spectrum, s=(side, side))
    return 0.5 + 0.15 * scene / scene.std()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_restoration_loss_goes_with_what_the_closed_form_loses(scale: int) -> None:
    x = made_scene(192, scale)
    true, noise_level = isotropic_gaussian(2.2, 31)[None], torch.tensor([1.0])
    y = DegradationOperator(true, scale, boundary="circular")(x)

    def error(kernel: Tensor) -> float:
        margin = 40  # `closed_form` reflects, the scene wraps round
        difference = closed_form(y, kernel, noise_level, scale) - x
        return float(difference[..., margin:-margin, margin:-margin].square().mean())

    believed = [isotropic_gaussian(sigma, 31)[None] for sigma in (1.2, 1.6, 1.9, 2.1, 2.4, 2.7, 3.1)]
    measured = [10 * math.log10(error(kernel) / error(true)) for kernel in believed]
    predicted = [float(closed_form_loss(kernel, true, noise_level, torch.tensor([scale]))) for kernel in believed]
    assert float(torch.corrcoef(torch.tensor([measured, predicted]))[0, 1]) > 0.9
    if scale == 1:  # there are no aliases, which the prediction leaves out
        assert predicted == pytest.approx(measured, rel=0.4, abs=0.1)


def test_restoration_with_the_true_kernel_loses_nothing() -> None:
    kernel = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0))
    kernel /= kernel.sum((-2, -1), keepdim=True)
    lost = closed_form_loss(kernel, kernel, torch.tensor([0.3, 8.0]), torch.tensor([2, 4]))
    assert float(lost) == pytest.approx(0, abs=1e-6)
    assert float(closed_form_loss(kernel.flip(-1), kernel, torch.tensor([0.3, 8.0]), torch.tensor([2, 4]))) > 0.1


def test_restoration_of_what_nothing_blurred_is_finite() -> None:
    """At scale 1 an unblurred scene can be restored without any error."""
    unblurred, noise_level, scale = identity(9)[None], torch.tensor([0.3]), torch.tensor([1])
    believed = isotropic_gaussian(0.6, 9)[None].requires_grad_()
    lost = closed_form_loss(believed, unblurred, noise_level, scale)
    lost.backward()
    assert 1 < lost.item() < 100
    assert believed.grad is not None
    assert bool(believed.grad.isfinite().all())


def test_noise_level_loss_is_relative() -> None:
    assert float(noise_level_loss(torch.tensor([1.0]), torch.tensor([0.0]))) == pytest.approx(1.0)
    assert float(noise_level_loss(torch.tensor([9.0]), torch.tensor([4.0]))) == pytest.approx(1.0)
    assert float(noise_level_loss(torch.tensor([1.0, 4.0]), torch.tensor([0.0, 4.0]))) == pytest.approx(0.5)


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("tau", [0.1, 0.3])
def test_every_noise_level_weighs_alike(sigma: float, tau: float) -> None:
    # The best linear estimate of a residual of RMS tau under noise sigma errs by exactly what the weight makes 1.
    generator = torch.Generator().manual_seed(0)
    x_0 = tau * torch.randn(4, 3, 64, 64, generator=generator)
    z = x_0 + sigma * torch.randn(x_0.shape, generator=generator)
    best = z * tau**2 / (tau**2 + sigma**2)
    assert float(denoising_loss(best, x_0, torch.full((4,), sigma), tau)) == pytest.approx(1, abs=0.03)
    assert float(denoising_loss(x_0, x_0, torch.full((4,), sigma), tau)) == 0


def test_every_image_has_its_own_noise_level() -> None:
    x_0, predicted = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    weights = [100 + 1 / 0.25, 100 + 1 / 4]
    loss = denoising_loss(predicted, x_0, torch.tensor([0.5, 2.0]), 0.1)
    assert float(loss) == pytest.approx(sum(weights) / 2, rel=1e-5)


def test_in_logarithms_an_easy_image_counts_as_much_as_a_hard_one() -> None:
    """Halving the error of either image gains as much; in the plain mean the hard one's gains a hundred times more."""
    x_0, sigma = torch.zeros(2, 3, 8, 8), torch.tensor([10.0, 10.0])
    errors = torch.tensor([10.0, 1000.0]).view(-1, 1, 1, 1)  # weighted squares; 0.04 is added to each

    def loss(*parts: float, logarithmic: bool) -> float:
        predicted = (errors * torch.tensor(parts).view(-1, 1, 1, 1) / (100 + 0.01)).sqrt().expand_as(x_0)
        return float(denoising_loss(predicted, x_0, sigma, 0.1, logarithmic=logarithmic))

    easy, hard = (loss(1, 1, logarithmic=True) - loss(*parts, logarithmic=True) for parts in ((0.5, 1), (1, 0.5)))
    assert easy == pytest.approx(math.log(2) / 2, rel=0.01)
    assert hard == pytest.approx(easy, rel=0.01)
    easy, hard = (loss(1, 1, logarithmic=False) - loss(*parts, logarithmic=False) for parts in ((0.5, 1), (1, 0.5)))
    assert hard == pytest.approx(100 * easy, rel=0.01)
    assert math.isfinite(float(denoising_loss(x_0, x_0, sigma, 0.1, logarithmic=True)))


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    cat = skimage.data.cat()  # type: ignore[no-untyped-call]
    pixels = torch.from_numpy(cat.copy()).permute(2, 0, 1)
    photographs = torch.stack([pixels[:, 40:152, 100 * i : 100 * i + 112] for i in range(3)])
    recipe = DegradationRecipe(kernels={"isotropic": 1.0}, noise={"gaussian": 1.0})
    return degrade(photographs, 2, 21, recipe, torch.Generator().manual_seed(0))


def network(recipe: Recipe, seed: int = 0) -> MCFormer:
    torch.manual_seed(seed)
    return MCFormer(**recipe.model).eval()


def test_the_total_is_the_weighted_sum(tiny: Tiny, pairs: Pairs) -> None:
    weights = {"noise": 0.7, "kernel": 0.2, "noise_level": 0.05, "noise_spectrum": 0.03}
    recipe = tiny(loss=weights)
    for stage in (Estimator, Joint):
        losses = stage(recipe).losses(network(recipe), pairs, torch.Generator().manual_seed(0))
        total = losses.pop("total")
        assert losses.keys() == weights.keys() - ({"noise"} if stage is Estimator else set())
        torch.testing.assert_close(total, sum(weights[name] * loss for name, loss in losses.items()))


def test_the_estimator_alone_learns_from_y_alone(tiny: Tiny, pairs: Pairs) -> None:
    recipe = tiny(stage="estimator")
    model = network(recipe)
    assert isinstance(model.estimator, SpectralEstimator)
    observation = pairs.observation
    estimate, _ = model.estimator(estimator_statistics(observation), observation.scales)  # without a self-ensemble
    losses = Estimator(recipe).losses(model, pairs, torch.Generator())
    torch.testing.assert_close(losses["kernel"], (estimate.kernel - pairs.kernel).abs().sum((1, 2)).mean())
    relative = (estimate.noise_level - pairs.noise_level).abs() / (1 + pairs.noise_level)
    torch.testing.assert_close(losses["noise_level"], relative.mean())


def test_replayed_examples_count_like_new_ones(tiny: Tiny, pairs: Pairs) -> None:
    """Seen again in any order, a batch of equal examples loses what it lost before."""
    recipe = tiny(stage="estimator", data={"replayed": 5})
    model, stage, generator = network(recipe), Estimator(recipe), torch.Generator().manual_seed(0)
    equal = Pairs(
        *(part[:1].repeat(3, *[1] * (part.ndim - 1)) for part in (pairs.x, pairs.y, pairs.kernel)),
        pairs.noise_level[:1].repeat(3),
        pairs.scale,
        pairs.noise_spectrum[:1].repeat(3, 1, 1),
        pairs.jpeg_step[:1].repeat(3),
    )
    expected = Estimator(tiny(stage="estimator")).losses(model, equal, generator)
    for _ in range(2):
        losses = stage.losses(model, equal, generator)
        torch.testing.assert_close(losses["total"], expected["total"])
    other = stage.losses(model, pairs, generator)
    alone = Estimator(tiny(stage="estimator")).losses(model, pairs, generator)
    assert not torch.allclose(other["total"], alone["total"]), "old examples take part"


def test_the_correction_learns_on_replayed_evidence(tiny: Tiny, pairs: Pairs) -> None:
    recipe = tiny(stage="correction", data={"replayed": 4}, loss={"noise": 0.0})
    model = network(recipe)
    model.get_submodule("estimator.correct").train()
    losses = Correction(recipe).losses(model, pairs, torch.Generator().manual_seed(0))
    estimate = model.initial_estimate(Observation(pairs.y, pairs.scale))  # an untrained correction changes nothing
    expected = (estimate.kernel - pairs.kernel).abs().sum((1, 2))
    assert expected.min() - 1e-4 <= float(losses["kernel"].detach()) <= expected.max() + 1e-4
    assert int(model.get_submodule("estimator.correct.normalise").num_batches_tracked) == 1
    losses["total"].backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learning
    assert all(name.startswith("estimator.correct.") for name in learning)


def test_the_correction_learns_from_the_image_that_it_leads_to(tiny: Tiny, pairs: Pairs) -> None:
    """Moving the correction against the gradient of the image's loss alone lowers that loss."""
    recipe = tiny(stage="correction", loss={"noise": 1.0, "kernel": 0.0, "noise_level": 0.0, "restoration": 0.0})
    model = network(recipe)

    def image_loss() -> Tensor:
        return Correction(recipe).losses(model, pairs, torch.Generator().manual_seed(3))["total"]

    before = image_loss()
    before.backward()
    last = model.get_submodule("estimator.correct.mlp")[-1].bias
    assert bool(last.grad.any())
    taught = {name for name, p in model.estimator.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert all(name.startswith("correct.") for name in taught), "what the estimator says of y alone is left alone"
    with torch.no_grad():
        last -= 0.05 * last.grad / last.grad.norm()
    assert float(image_loss().detach()) < float(before.detach())


def test_kernels_are_moved_on_the_simplex_towards_the_true_ones_or_away() -> None:
    true = isotropic_gaussian(2.0, 21).expand(200, -1, -1)
    kernel = isotropic_gaussian(2.5, 21).expand(200, -1, -1)
    moved = perturbed(kernel, true, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved.sum((1, 2)), torch.ones(200))
    before = float((kernel[0] - true[0]).abs().sum())
    errors = (moved - true).abs().sum((1, 2))
    stayed, nearer, further = (errors - before).abs() < 1e-3, errors < before - 1e-3, errors > before + 1e-3
    assert 0.45 < float(stayed.float().mean()) < 0.65
    assert float(nearer.float().mean()) > float(further.float().mean()) > 0.05
    same = perturbed(true, true, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, true, atol=1e-5, rtol=1e-3)


def test_the_same_generator_gives_the_same_losses(tiny: Tiny, pairs: Pairs) -> None:
    recipe = tiny()
    model = network(recipe)
    first, again, other = (
        Joint(recipe).losses(model, pairs, torch.Generator().manual_seed(seed))["total"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("share", "matters"), [(1.0, False), (0.0, True)])
def test_the_true_kernel_modulates_a_share_of_the_batch(tiny: Tiny, pairs: Pairs, share: float, matters: bool) -> None:
    # With the true kernel everywhere, what the estimator says cannot change the image's loss.
    recipe = tiny(stage="network", loss={"true_kernel_share": share, "pure_noise_share": 0.0})
    model = network(recipe)
    before = Network(recipe).losses(model, pairs, torch.Generator().manual_seed(0))["noise"]
    with torch.no_grad():
        for parameter in model.estimator.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    after = Network(recipe).losses(model, pairs, torch.Generator().manual_seed(0))["noise"]
    assert torch.equal(before, after) is not matters


def test_the_estimate_as_it_is_modulates_a_share_of_the_batch(
    tiny: Tiny, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(stage="network", loss={"true_kernel_share": 0.0, "own_kernel_share": 1.0})
    model = network(recipe)
    seen = []
    call = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **options: seen.append(args[3].kernel) or call(*args, **options)
    )
    Network(recipe).losses(model, pairs, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0], model.initial_estimate(Observation(pairs.y, pairs.scale)).kernel)
    mixed = tiny(stage="network", loss={"true_kernel_share": 0.0})
    Network(mixed).losses(model, pairs, torch.Generator().manual_seed(0))
    assert not torch.allclose(seen[1], seen[0])
    assert not torch.allclose(seen[1], pairs.kernel)


def test_stage_network_does_not_teach_the_estimator(tiny: Tiny, pairs: Pairs) -> None:
    recipe = tiny(stage="network")
    model = network(recipe)
    losses = Network(recipe).losses(model, pairs, torch.Generator().manual_seed(0))
    assert set(losses) == {"total", "noise"}
    losses["total"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.estimator.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.unet.parameters())
