"""The default MCFormer: what holds for any weights."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.kernel_measures import drop_slight_negatives
from blinddiff.degradation.kernel_tensors import resize_support
from blinddiff.degradation.kernels import isotropic_gaussian, unsharp_mask
from blinddiff.errors import ParameterError
from blinddiff.files import DEFAULT_WEIGHTS
from blinddiff.models.denoiser import Prediction
from blinddiff.models.mcformer import ADDED, MIN_NEGATIVE, MCFormer
from blinddiff.models.statistics import estimator_statistics

LAST = 999
TINY: dict[str, Any] = {
    "dim": 8,
    "num_blocks": [1, 1],
    "heads": [1, 2],
    "estimator_hidden": 32,
    "embedding_dim": 16,
}


def network(seed: int = 0, **changes: Any) -> MCFormer:
    """A small network whose every weight is away from its start, so that no path is switched off."""
    torch.manual_seed(seed)
    model = MCFormer(**{**TINY, **changes})
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> MCFormer:
    return network()


@pytest.fixture(scope="module")
def default() -> MCFormer:
    torch.manual_seed(0)
    return MCFormer().eval()


def photograph(height: int, width: int, count: int = 1) -> Tensor:
    """(count, 3, height, width): crops of a photograph, in [0, 1]."""
    pixels = torch.from_numpy(skimage.data.cat().copy()).permute(2, 0, 1).float() / 255  # type: ignore[no-untyped-call]
    return torch.stack([pixels[:, 60 + 40 * i :, 120 : 120 + width][:, :height] for i in range(count)])


def noised(model: MCFormer, x_0: Tensor, t: int, seed: int = 0) -> Tensor:
    a = model.alpha_bar[t]
    return a.sqrt() * model.normalize(x_0) + (1 - a).sqrt() * standard_normal(x_0, seed)


def standard_normal(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def call(
    model: MCFormer,
    x_t: Tensor,
    t: int,
    y: Tensor,
    scale: int,
    kernel: Tensor | None = None,
    noise_level: Tensor | None = None,
    x_y: Tensor | None = None,
    correct_kernel: bool = True,
) -> Prediction:
    """With the initial estimate for what is not given."""
    observation = Observation(y, scale)
    degradation = model.initial_estimate(observation)
    if kernel is not None and noise_level is not None:
        degradation = Degradation(kernel, noise_level)
    else:
        degradation = degradation.with_estimate(
            degradation.kernel if kernel is None else kernel,
            degradation.noise_level if noise_level is None else noise_level,
        )
    if x_y is not None:
        degradation = degradation.with_closed_form(observation, x_y)
    timestep = torch.full((len(y),), t)
    return model(x_t, timestep, observation, degradation, correct_kernel=correct_kernel)


def check_estimate(degradation: Degradation, count: int, size: int) -> None:
    kernel, noise_level = degradation.kernel, degradation.noise_level
    assert kernel.shape == (count, size, size)
    assert kernel.abs().sum() < 9 * count
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(count))
    assert noise_level.shape == (count,)
    assert (noise_level >= 0).all()


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(5, 7), (33, 47)])
def test_default_network_on_awkward_sizes(default: MCFormer, scale: int, size: tuple[int, int]) -> None:
    y = photograph(*size)
    x_t = standard_normal(torch.empty(1, 3, scale * size[0], scale * size[1]), 0)
    said = call(default, x_t, LAST, y, scale)
    assert said.x0_hat.shape == x_t.shape
    assert torch.isfinite(said.x0_hat).all()
    check_estimate(said.degradation, 1, 31)
    check_estimate(default.initial_estimate(Observation(y, scale)), 1, 31)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_smallest_images(size: tuple[int, int], levels: int) -> None:
    model = network(num_blocks=[1] * levels, heads=[1] * levels)
    x_t = standard_normal(torch.empty(2, 3, *size), 0)
    said = call(model, x_t, LAST, photograph(*size, 2), 1)
    assert said.x0_hat.shape == x_t.shape
    assert torch.isfinite(said.x0_hat).all()
    check_estimate(said.degradation, 2, 31)
    assert torch.isfinite(said.degradation.kernel).all()


@pytest.mark.parametrize("size", [(21, 30), (8, 17)])
def test_sides_are_mirrored_at_the_end_up_to_the_multiple(model: MCFormer, size: tuple[int, int]) -> None:
    multiple = model.size_multiple
    more = [-n % multiple for n in size]
    y, x_y, x_t = photograph(*size), 0.9 * photograph(*size), standard_normal(torch.empty(1, 3, *size), 0)
    given = {"kernel": isotropic_gaussian(1.0, 31)[None], "noise_level": torch.tensor([2.0])}
    whole = [F.pad(part, (0, more[1], 0, more[0]), mode="reflect") for part in (x_t, y, x_y)]
    here = call(model, x_t, 300, y, 1, x_y=x_y, **given).x0_hat
    there = call(model, whole[0], 300, whole[1], 1, x_y=whole[2], **given).x0_hat
    torch.testing.assert_close(here, there[..., : size[0], : size[1]], atol=1e-5, rtol=1e-4)


def test_batch_equals_single(model: MCFormer) -> None:
    y = photograph(17, 22, 3)
    y[1] = 0.5 * y[1] + 0.02 * standard_normal(y[1], 4)
    x_t = standard_normal(torch.empty(3, 3, 68, 88), 0)
    t = torch.tensor([10, 500, LAST])
    with torch.no_grad():
        together = model(x_t, t, Observation(y, 4))
        for i in range(3):
            one = slice(i, i + 1)
            alone = model(x_t[one], t[one], Observation(y[one], 4))
            pairs = [(together.x0_hat[one], alone.x0_hat)]
            for name in ("kernel", "noise_level", "expected_kernel_error"):
                pairs.append((getattr(together.degradation, name)[one], getattr(alone.degradation, name)))
            for batch, single in pairs:
                torch.testing.assert_close(batch, single, atol=1e-5, rtol=1e-4)


def test_kernel_modulation_depends_on_the_kernel(model: MCFormer) -> None:
    y, x_t = photograph(16, 16), standard_normal(torch.empty(1, 3, 64, 64), 0)
    x_y = photograph(64, 64)
    narrow, wide = (isotropic_gaussian(sigma, 31)[None] for sigma in (1.0, 3.0))
    unmodulated = network(kernel_modulation=False)
    for net, differs in ((model, True), (unmodulated, False)):
        with_narrow, with_wide = (call(net, x_t, 300, y, 4, kernel=k, x_y=x_y).x0_hat for k in (narrow, wide))
        assert torch.equal(with_narrow, with_wide) is not differs


def test_noise_level_and_scale_modulate_too(model: MCFormer) -> None:
    y, x_t, x_y = photograph(16, 16), standard_normal(torch.empty(1, 3, 16, 16), 0), photograph(16, 16)
    kernel = isotropic_gaussian(1.0, 31)[None]
    quiet, loud = (
        call(model, x_t, 300, y, 1, kernel=kernel, noise_level=torch.tensor([s]), x_y=x_y).x0_hat for s in (0.0, 20.0)
    )
    assert not torch.equal(quiet, loud)
    # The same tensors at scale 1 for two networks whose scales differ only in which embedding is 1's.
    other = network(scales=[4, 3, 2, 1])
    other.load_state_dict(model.state_dict())
    given = {"kernel": kernel, "noise_level": torch.tensor([0.0]), "x_y": x_y}
    assert not torch.equal(call(other, x_t, 300, y, 1, **given).x0_hat, quiet)


def test_x_y_is_the_closed_form_of_what_is_given(model: MCFormer) -> None:
    y, x_t = photograph(14, 18), standard_normal(torch.empty(1, 3, 42, 54), 0)
    kernel, noise_level = isotropic_gaussian(1.4, 31)[None], torch.tensor([4.0])
    made = call(model, x_t, 400, y, 3, kernel=kernel, noise_level=noise_level)
    x_y = Degradation(kernel, noise_level).closed_form(Observation(y, 3))
    explicit = call(model, x_t, 400, y, 3, kernel=kernel, noise_level=noise_level, x_y=x_y)
    torch.testing.assert_close(made.x0_hat, explicit.x0_hat)
    other = call(model, x_t, 400, y, 3, kernel=kernel, noise_level=noise_level, x_y=0.5 * x_y)
    assert not torch.allclose(other.x0_hat, explicit.x0_hat, atol=1e-2)


def test_its_own_estimate_is_used_where_none_is_given(model: MCFormer) -> None:
    y, x_t = photograph(16, 20), standard_normal(torch.empty(1, 3, 32, 40), 0)
    first = model.initial_estimate(Observation(y, 2))
    with torch.no_grad():
        own = model(x_t, torch.tensor([400]), Observation(y, 2))
    explicit = call(model, x_t, 400, y, 2, kernel=first.kernel)
    torch.testing.assert_close(own.x0_hat, explicit.x0_hat)


@pytest.mark.parametrize("size", [11, 30, 45])
def test_kernels_of_other_sizes_modulate_as_if_fitted(model: MCFormer, size: int) -> None:
    y, x_t, x_y = photograph(16, 16), standard_normal(torch.empty(1, 3, 64, 64), 0), photograph(64, 64)
    kernel = isotropic_gaussian(1.2, size)[None]
    fitted = resize_support(kernel, 31, max_cut=1.0)
    here, there = (call(model, x_t, 300, y, 4, kernel=k, x_y=x_y).x0_hat for k in (kernel, fitted))
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_last_timestep_hardly_depends_on_x_t(seed: int) -> None:
    model = network(seed)
    y = photograph(16, 24)
    x_0 = photograph(64, 96)
    first, second = (call(model, noised(model, x_0, LAST, s), LAST, y, 4).x0_hat for s in (1, 2))
    assert (first - second).abs().max() < 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_timestep_gives_x_t_back(seed: int) -> None:
    # sigma_0 = 0.01 is far below the residual's 0.1: c_skip = 0.99, and the network adds a hundredth of its output.
    torch.manual_seed(seed)
    model = MCFormer(**TINY).eval()
    x_0 = photograph(64, 96)
    unlike = photograph(16, 24).flip(1, 2, 3)  # even of an x_t that y knows nothing of
    x0_hat = call(model, noised(model, x_0, 0), 0, unlike, 4).x0_hat
    assert (x0_hat - x_0).abs().mean() < 0.01
    assert (call(model, noised(model, x_0, LAST), LAST, unlike, 4).x0_hat - x_0).abs().mean() > 0.1


def test_every_intermediate_timestep_matters(model: MCFormer) -> None:
    y, x_t = photograph(16, 16), standard_normal(torch.empty(1, 3, 64, 64), 0)
    results = [call(model, x_t, t, y, 4).x0_hat for t in (0, 300, 600, LAST)]
    for i, earlier in enumerate(results):
        for later in results[i + 1 :]:
            assert (earlier - later).abs().mean() > 1e-3


def test_remaining_error_falls_towards_the_image(model: MCFormer) -> None:
    remaining = [model.relative_error(torch.tensor(t)) for t in (0, 300, 600, LAST)]
    assert remaining == sorted(remaining)
    assert remaining[-1] == pytest.approx(1, abs=1e-3)
    assert remaining[0] == pytest.approx(0.01 / (0.01**2 + 0.1**2) ** 0.5, rel=1e-3)


def test_diffusion_range_and_back(model: MCFormer) -> None:
    x = photograph(8, 8)
    torch.testing.assert_close(model.denormalize(model.normalize(x)), x)
    torch.testing.assert_close(model.normalize(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("kernel_modulation", [True, False])
def test_save_and_load(tmp_path: Path, kernel_modulation: bool) -> None:
    model = network(kernel_modulation=kernel_modulation, scales=[2, 4], kernel_size=21, residual_std=0.2)
    model.estimator.get_submodule("normalise").get_buffer("running_mean").fill_(0.3)
    model.save_pretrained(tmp_path)
    loaded = MCFormer.from_pretrained(tmp_path).eval()
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".json"] == [".safetensors"]
    arguments = [name for name in model.config if not name.startswith("_")]
    assert [loaded.config[name] for name in arguments] == [model.config[name] for name in arguments]
    torch.testing.assert_close(loaded.alpha_bar, model.alpha_bar)
    y, x_t = photograph(9, 11), standard_normal(torch.empty(1, 3, 36, 44), 0)
    before, after = (call(net, x_t, 700, y, 4) for net in (model, loaded))
    torch.testing.assert_close(after.x0_hat, before.x0_hat, atol=1e-6, rtol=0)
    torch.testing.assert_close(after.degradation.kernel, before.degradation.kernel, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(after.degradation.noise_level, before.degradation.noise_level)


def test_until_trained_the_estimate_from_y_is_not_corrected() -> None:
    torch.manual_seed(0)
    fresh = MCFormer(**TINY).eval()
    y, x_t = photograph(16, 20), standard_normal(torch.empty(1, 3, 64, 80), 0)
    first, said = fresh.initial_estimate(Observation(y, 4)), call(fresh, x_t, 500, y, 4).degradation
    torch.testing.assert_close(said.kernel, first.kernel, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(said.noise_level, first.noise_level, atol=1e-4, rtol=1e-3)


def test_a_kernel_has_a_middle() -> None:
    with pytest.raises(ParameterError, match="kernel_size 20 is not odd"):
        MCFormer(kernel_size=20)


def test_without_correction_the_image_is_the_same_and_the_kernel_what_was_given(model: MCFormer) -> None:
    y, x_t = photograph(16, 20), standard_normal(torch.empty(1, 3, 64, 80), 0)
    given = {"kernel": isotropic_gaussian(2.0, 31)[None], "noise_level": torch.tensor([3.0])}
    whole = call(model, x_t, 500, y, 4, **given)
    short = call(model, x_t, 500, y, 4, **given, correct_kernel=False)
    alone = call(model, x_t, 500, y, 4, correct_kernel=False)
    assert torch.equal(short.x0_hat, whole.x0_hat)
    assert torch.equal(short.degradation.kernel, given["kernel"])
    assert torch.equal(short.degradation.noise_level, given["noise_level"])
    assert not torch.equal(whole.degradation.kernel, given["kernel"])
    assert torch.equal(alone.degradation.kernel, model.initial_estimate(Observation(y, 4)).kernel)


def test_the_expected_error_is_of_each_image_and_its_size(model: MCFormer) -> None:
    y = photograph(32, 32, 3)
    with torch.no_grad():
        together, alone = (model.initial_estimate(Observation(part, 4)).expected_kernel_error for part in (y, y[1:2]))
        observation = Observation(y, 4)
        _, features = model.estimator(estimator_statistics(observation), observation.scales)
        few, many = (model.estimator.expected_error(features, torch.full((3, 1), float(n))) for n in (256, 1 << 20))
    assert together is not None
    assert alone is not None
    assert together.shape == (3,)
    assert ((together > 0) & (together < 2)).all()
    torch.testing.assert_close(together[1:2], alone)
    assert (few - many).abs().min() > 1e-4


def test_the_corrected_kernel_depends_on_x_t(model: MCFormer) -> None:
    y = photograph(16, 20)
    first, second = (call(model, standard_normal(torch.empty(1, 3, 64, 80), s), 300, y, 4).degradation for s in (0, 1))
    assert (first.kernel - second.kernel).abs().sum() > 1e-5
    check_estimate(first, 1, 31)


def test_all_learned_weights_get_a_gradient(model: MCFormer) -> None:
    model.zero_grad()
    y = photograph(16, 16, 2)
    x_t = standard_normal(torch.empty(2, 3, 32, 32), 0)
    said = model(x_t, torch.tensor([100, 800]), Observation(y, 2))
    estimate = said.degradation
    assert estimate.noise_spectrum is not None
    of_noise = estimate.noise_level.sum() + estimate.noise_spectrum.square().sum()
    (said.x0_hat.square().mean() + estimate.kernel.square().sum() + of_noise).backward()
    error = model.initial_estimate(Observation(y, 2)).expected_kernel_error
    assert error is not None
    error.sum().backward()
    sharpened = unsharp_mask(isotropic_gaussian(1.0, 31)[None], torch.tensor([1.0]), torch.tensor([2.0]))
    degradation = Degradation(sharpened.repeat(2, 1, 1), torch.ones(2))
    model(x_t, torch.tensor([500, 500]), Observation(y, 2), degradation).x0_hat.square().mean().backward()
    kind = model.picture_kind(Observation(y, 1))
    (kind.probabilities[:, 0] + kind.factor).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert [name for name in without if not name.startswith("kernel_spectrum.")] == []  # for `alternate` alone
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    model.zero_grad()


def test_a_black_image_has_finite_gradients(model: MCFormer) -> None:
    model.zero_grad()
    said = model(torch.zeros(2, 3, 32, 32), torch.tensor([0, LAST]), Observation(torch.zeros(2, 3, 8, 8), 4))
    (said.x0_hat.sum() + said.degradation.kernel.square().sum()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)
    model.zero_grad()


@pytest.mark.parametrize("scale", [1, 7])
def test_unknown_scale(scale: int) -> None:
    model = network(scales=[2, 4])
    y = photograph(8, 8)
    with pytest.raises(ParameterError, match=f"scale {scale} is not one of the network's: 2, 4"):
        model.initial_estimate(Observation(y, scale))
    with pytest.raises(ParameterError, match=f"scale {scale} is not"):
        model(torch.zeros(1, 3, 8 * scale, 8 * scale), torch.tensor([0]), Observation(y, scale))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": [1, 2, 4]}, "heads has 3 entries, but num_blocks has 2"),
        ({"noise_schedule": "cosine"}, "'cosine' is not one of"),
        ({"heads": [1, 3]}, "3 heads .* 16 channels"),
        ({"dim": 9, "heads": [1, 1]}, "dim 9"),
    ],
)
def test_impossible_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        MCFormer(**{**TINY, **arguments})


def test_weights_of_older_files_keep_their_place(tmp_path: Path) -> None:
    """Two parts of the estimator had other names; diffusers loads them under today's."""
    model = network()
    model.save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    older = {
        name.replace(".confidence_head.", ".doubt.").replace(".correct.mlp.", ".correct.read."): value
        for name, value in state.items()
    }
    assert len(older.keys() - state.keys()) > 8
    save_file(older, file)
    loaded = MCFormer.from_pretrained(tmp_path)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_traces_of_a_negative_part_are_dropped() -> None:
    kernel = isotropic_gaussian(1.0, 31)[None]
    trace, sharpened = (unsharp_mask(kernel, torch.tensor([a]), torch.tensor([3.0])) for a in (0.005, 0.5))
    together = drop_slight_negatives(torch.cat([kernel, trace, sharpened]), MIN_NEGATIVE)
    assert (together[:2] >= 0).all()
    torch.testing.assert_close(together.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(together[0], kernel[0])
    assert torch.equal(together[2], sharpened[0])


def test_weights_from_before_the_spectrum_give_white_noise_and_no_negative_entries(tmp_path: Path) -> None:
    state = load_file(DEFAULT_WEIGHTS / "network" / "diffusion_pytorch_model.safetensors")
    old = {name: value for name, value in state.items() if not name.startswith(ADDED)}
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    shutil.copy(DEFAULT_WEIGHTS / "network" / "config.json", tmp_path)
    found = MCFormer.from_pretrained(tmp_path).initial_estimate(Observation(photograph(96, 96), 2))
    assert found.noise_spectrum is not None
    assert (found.noise_spectrum - 1).abs().median() < 0.05, "but for the lowest frequencies, where the scene is"
    assert (found.kernel >= 0).all()
