"""What a restoration returns: sizes, seeds, residuals, samples; and what it refuses."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blinddiff.errors import BlindDiffError, ParameterError
from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer
from blinddiff.sampling.memory import choose_device
from blinddiff.sampling.pipeline import MODES, BlindDiffPipeline
from blinddiff.sampling.schedulers import SCHEDULERS, default_scheduler

OWN_MODES = [mode for mode in MODES if mode != "paper"]  # 500 steps of the published sampler


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def restore(tiny_pipeline, photograph):
    """Restore `photograph`, with a seed and as a tensor unless given otherwise."""

    def restore(image=photograph, **arguments):
        return tiny_pipeline(image, **{"generator": seeded(0), "output_type": "pt", **arguments})

    return restore


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (8, 9), (13, 22), (31, 17)])
def test_shapes_and_ranges(restore, scale, size):
    height, width = size
    image = torch.rand(2, 3, height, width, generator=seeded(height))
    out = restore(image, scale=scale)
    assert out.images.shape == (2, 3, scale * height, scale * width)
    assert 0 <= float(out.images.min()) <= float(out.images.max()) <= 1
    assert out.kernels.shape == (2, 31, 31)
    assert float(out.kernels.min()) >= 0
    assert torch.allclose(out.kernels.sum((1, 2)), torch.ones(2), atol=1e-5)
    assert out.noise_levels.shape == (2,)
    assert float(out.noise_levels.min()) >= 0
    assert out.residuals.shape == (2, 3, height, width)
    assert bool(torch.isfinite(out.residuals).all())


def test_scale_1_is_scale_2_reduced(restore, photograph):
    at_1, at_2 = restore(scale=1, num_samples=2), restore(scale=2, num_samples=2)
    size = photograph.shape[1::-1]
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in at_2.images[0].numpy()]
    assert np.allclose(at_1.images[0], np.clip(planes, 0, 1), atol=1e-3)
    assert at_1.samples.shape == (1, 2, 3, *photograph.shape[:2])
    assert torch.allclose(at_1.std, at_1.samples.std(1))
    assert torch.allclose(at_1.kernels.sum((1, 2)), torch.ones(1), atol=1e-5)
    axis = torch.arange(31.0) - 15
    variance_1, variance_2 = ((out.kernels[0].sum(0) * axis**2).sum() for out in (at_1, at_2))
    assert float(variance_1) == pytest.approx(float(variance_2) / 4, abs=0.3)  # linear interpolation widens a little
    assert torch.equal(at_1.residuals, at_2.residuals)
    assert not torch.allclose(restore(scale=1, num_samples=2, as_is=True).images, at_1.images, atol=0.01)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", OWN_MODES)
def test_residuals_are_what_image_and_kernel_leave_unexplained(restore, photograph, degraded, scale, mode):
    out = restore(scale=scale, mode=mode, as_is=True)
    explained = degraded(out.images[0].permute(1, 2, 0).double().numpy(), out.kernels[0].double().numpy(), scale)
    expected = photograph - 255 * explained
    residual = out.residuals[0].permute(1, 2, 0).numpy()
    inside = np.s_[:] if scale == 1 else np.s_[4:-4, 4:-4]
    assert np.abs(expected[inside]).max() > 1
    assert np.allclose(residual[inside], expected[inside], atol=5e-3)


def test_the_consistency_compares_residual_and_noise(restore):
    for noise_level in (0.0, 4.0):
        out = restore(noise_level=noise_level)
        rms = float(out.residuals.double().square().mean().sqrt())
        assert float(out.consistency) == pytest.approx(rms / np.hypot(noise_level, 1 / np.sqrt(12)), rel=1e-4)


@pytest.mark.parametrize("scheduler", [*SCHEDULERS, "own"])
def test_the_seed_decides(restore, scheduler):
    settings = {"scale": 2, "scheduler": scheduler, "num_inference_steps": 3}
    torch.manual_seed(1)
    first = restore(**settings)
    torch.manual_seed(2)  # nothing may come from here
    state = torch.get_rng_state()
    again = restore(**settings)
    assert torch.equal(torch.get_rng_state(), state)
    other = restore(**settings, generator=seeded(1))
    for name in ("images", "kernels", "noise_levels", "residuals"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert float((first.images - other.images).abs().max()) > 1e-3


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_batch_is_its_images(restore, photograph, scheduler):
    settings = {"scale": 3, "scheduler": scheduler, "num_inference_steps": 3}
    images = [photograph, photograph[::-1].copy(), 255 - photograph]
    batch = restore(images, **settings, generator=[seeded(seed) for seed in (5, 6, 7)])
    for index, image in enumerate(images):
        single = restore(image, **settings, generator=seeded(5 + index))
        assert torch.allclose(batch.images[index], single.images[0], atol=1e-5)
        assert torch.allclose(batch.kernels[index], single.kernels[0], atol=1e-5)
        assert torch.allclose(batch.noise_levels[index], single.noise_levels[0], atol=1e-4)
        assert torch.allclose(batch.residuals[index], single.residuals[0], atol=255e-5)
        assert torch.allclose(batch.kernel_trajectory[:, index], single.kernel_trajectory[:, 0], atol=1e-5)
        assert torch.allclose(batch.consistency[index], single.consistency[0], rtol=1e-4)
    assert not torch.allclose(batch.images[0], batch.images[1], atol=1e-2)


@pytest.mark.parametrize("image_step", ["gradient", "published"])
def test_a_batch_is_its_images_with_gradients_too(restore, photograph, image_step):
    settings = {"scale": 2, "scheduler": "ddpm", "num_inference_steps": 3, "image_step": image_step}
    images = [photograph, 255 - photograph]
    batch = restore(images, **settings, generator=[seeded(5), seeded(6)])
    for index, image in enumerate(images):
        single = restore(image, **settings, generator=seeded(5 + index))
        assert torch.allclose(batch.images[index], single.images[0], atol=1e-5)


def test_without_generator_results_vary(restore):
    settings = {"scale": 2, "num_inference_steps": 3, "generator": None}
    assert not torch.equal(restore(**settings).images, restore(**settings).images)


def test_samples(restore, photograph):
    settings = {"scale": 2, "scheduler": "ddpm", "num_inference_steps": 3}
    images = [photograph, 255 - photograph]
    out = restore(images, **settings, num_samples=3, generator=[seeded(5), seeded(6)])
    assert out.samples.shape == (2, 3, 3, 48, 40)
    assert out.std.shape == (2, 3, 48, 40)
    assert torch.allclose(out.images, out.samples.mean(1), atol=1e-6)
    assert np.allclose(out.std, np.std(out.samples.numpy(), axis=1, ddof=1), atol=1e-5)
    assert float(out.std.mean()) > 1e-3
    assert out.kernels.shape == (2, 31, 31)
    assert out.noise_levels.shape == (2,)
    assert out.residuals.shape == (2, 3, 24, 20)
    # A sample is a sample of its own image, whatever else is in the batch.
    alone = restore(images[1], **settings, num_samples=3, generator=[seeded(6)])
    assert torch.allclose(alone.samples[0], out.samples[1], atol=1e-5)
    single = restore(images[1], **settings)
    assert single.samples is None
    assert single.std is None


def test_trajectory_and_spread_of_the_kernel(restore):
    out = restore(mode="perceptual", num_inference_steps=4)
    assert out.kernel_trajectory.shape == (4, 1, 31, 31)
    assert torch.allclose(out.kernels, out.kernel_trajectory.mean(0), atol=1e-7)
    distances = np.abs(out.kernel_trajectory.numpy() - out.kernels.numpy()).sum((2, 3))
    assert np.allclose(out.kernel_spread, distances.mean(0), atol=1e-6)
    assert 0 < float(out.kernel_spread) < 2
    assert float(restore(kernel_step="first", num_inference_steps=3).kernel_spread) == pytest.approx(0, abs=1e-6)


def test_the_expected_kernel_error_is_the_estimates_and_of_no_given_kernel(restore, tiny_pipeline, photograph):
    images = [photograph, photograph // 2]
    out = restore(images, scale=2, num_inference_steps=1, generator=None)
    assert out.expected_kernel_errors.shape == (2,)
    assert torch.allclose(out.expected_kernel_errors, tiny_pipeline.expected_kernel_error(images, 2))
    assert restore(num_inference_steps=1, kernel=torch.ones(1, 1)).expected_kernel_errors is None


def test_modes_set_what_is_not_given(restore, tiny_pipeline, photograph):
    def steps(**arguments):
        times = []
        restore(scale=2, callback_on_step_end=lambda index, t, *_: times.append(t), **arguments)
        return times

    for mode in OWN_MODES:
        assert len(steps(mode=mode)) == MODES[mode].num_inference_steps
        assert len(steps(mode=mode, num_inference_steps=5)) == 5
    assert torch.equal(restore().images, restore(mode="fidelity").images)
    perceptual = restore(mode="perceptual", num_inference_steps=3)
    assert not torch.allclose(perceptual.images, restore(num_inference_steps=3).images, atol=1e-3)
    spelled = {"scheduler": "own", "image_step": "proximal", "kernel_step": "damped", "num_inference_steps": 3}
    assert torch.equal(perceptual.images, restore(mode="fast", **spelled).images)


@pytest.fixture
def published_pipeline() -> BlindDiffPipeline:
    torch.manual_seed(0)
    network = PublishedMCFormer(dim=8, num_blocks=(1, 1), num_refinement_blocks=0, heads=(1, 2), embedding_dim=16)
    return BlindDiffPipeline(network.requires_grad_(False), default_scheduler(network))


def test_only_a_published_network_runs_the_mode_paper(tiny_pipeline, published_pipeline, photograph):
    assert tiny_pipeline.modes == OWN_MODES
    assert published_pipeline.modes == list(MODES)
    message = "mode 'paper' needs the weights of a published network; these weights run fidelity, fast, perceptual"
    with pytest.raises(ParameterError, match=re.escape(message)):
        tiny_pipeline(photograph, mode="paper")
    times = []
    published_pipeline(
        photograph, 4, "paper", 4, generator=seeded(0), callback_on_step_end=lambda _, __, t, ___: times.append(t)
    )
    assert times == [999, 666, 333, 0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 1])
def test_a_result_that_is_not_finite_is_not_returned(restore, tiny_pipeline, monkeypatch, value, at):
    steps, forward = [], tiny_pipeline.network.forward

    def diverging(*arguments, **options):
        prediction = forward(*arguments, **options)
        if len(steps) == at:
            prediction.x0_hat[0, 0, 3, 3] = value
        return prediction

    monkeypatch.setattr(tiny_pipeline.network, "forward", diverging)
    with pytest.raises(BlindDiffError, match="the estimate is not finite"):
        restore(image_step="none", callback_on_step_end=lambda *step: steps.append(step[1]))
    assert steps == list(range(at))  # the first step that is not finite is the last


@pytest.mark.parametrize("method", ["estimate", "expected_kernel_error", "closed_form", "kernel_map"])
def test_an_estimate_that_is_not_finite_is_not_returned(tiny_pipeline, photograph, monkeypatch, method):
    estimate = tiny_pipeline.network.initial_estimate
    monkeypatch.setattr(
        tiny_pipeline.network,
        "initial_estimate",
        lambda observation: estimate(observation).map(lambda part: part * float("nan")),
    )
    with pytest.raises(BlindDiffError, match="the estimate is not finite"):
        getattr(tiny_pipeline, method)(photograph)


def test_latents_of_a_callback_that_are_not_finite_are_not_returned(restore):
    def spoil(_pipeline, step, _t, tensors):
        return {"latents": tensors["latents"] + float("inf")} if step == 1 else {}

    with pytest.raises(BlindDiffError, match="the estimate is not finite"):
        restore(callback_on_step_end=spoil)


def test_the_network_learns_nothing_from_being_used(tiny_pipeline, restore):
    before = {name: value.clone() for name, value in tiny_pipeline.network.state_dict().items()}
    for image_step in ("proximal", "gradient", "published"):
        out = restore(num_inference_steps=2, image_step=image_step)
        assert not any(value.requires_grad for value in out.to_tuple() if isinstance(value, torch.Tensor))
    after = tiny_pipeline.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in tiny_pipeline.network.parameters())


def test_result_by_name_and_by_place(restore):
    out = restore(scale=2)
    images, kernels, noise_levels, residuals = out.to_tuple()[:4]
    assert images is out["images"] is out.images
    assert kernels is out.kernels
    assert noise_levels is out.noise_levels
    assert residuals is out.residuals


def test_estimate_is_the_first_kernel(tiny_pipeline, photograph, restore):
    estimate = tiny_pipeline.estimate(photograph, 3)
    out = restore(scale=3, kernel_step="first")
    assert torch.allclose(estimate.kernel, out.kernels, atol=1e-7)
    assert torch.allclose(estimate.noise_level, out.noise_levels)


def test_closed_form_explains_the_input_better_than_bicubic(tiny_pipeline, sharp, degraded, monkeypatch):
    axis = np.exp(-np.square(np.arange(-6, 7)) / 2 / 1.5**2)
    kernel = np.outer(axis, axis) / axis.sum() ** 2
    y = degraded(sharp, kernel, 2)
    estimate = tiny_pipeline.network.initial_estimate
    # The random network takes the photograph for noisy.
    monkeypatch.setattr(
        tiny_pipeline.network,
        "initial_estimate",
        lambda observation: estimate(observation).with_estimate(estimate(observation).kernel, torch.tensor([0.5])),
    )

    def unexplained(x):
        return np.sqrt(np.square(y - degraded(x, kernel, 2))[4:-4, 4:-4].mean())

    image = tiny_pipeline.closed_form(y, 2, kernel)
    assert image.shape == (1, 3, 96, 80)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    bicubic = torch.nn.functional.interpolate(
        torch.from_numpy(y).permute(2, 0, 1)[None], scale_factor=2, mode="bicubic"
    )
    unexplained_by_bicubic = unexplained(bicubic[0].permute(1, 2, 0).numpy())
    assert unexplained(image[0].permute(1, 2, 0).double().numpy()) < 0.3 * unexplained_by_bicubic


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"scale": 7}, "scale 7 is not one of 1, 2, 3, 4"),
        ({"scale": 0}, "scale 0"),
        ({"scale": 2.5}, "scale 2.5"),
        ({"num_inference_steps": 0}, "must be 1 to 1000, not 0"),
        ({"num_inference_steps": 1001}, "must be 1 to 1000, not 1001"),
        ({"num_inference_steps": -3}, "must be 1 to 1000, not -3"),
        ({"num_inference_steps": 1001, "mode": "perceptual"}, "must be 1 to 1000, not 1001"),
        ({"num_samples": 0}, "num_samples must be at least 1, not 0"),
        ({"noise_level": -1.0}, "noise level of -1.0 is not between 0 and 255"),
        ({"noise_level": 256}, "noise level of 256"),
        ({"noise_level": float("nan")}, "noise level of nan"),
        ({"mode": "best"}, "mode 'best' is not one of .*fidelity"),
        ({"image_step": "gradiant"}, "image_step 'gradiant' is not one of .*proximal"),
        ({"kernel_step": "last"}, "kernel_step 'last' is not one of .*network"),
        ({"kernel_step": "fixed"}, "kernel_step 'fixed' needs a kernel"),
        ({"scheduler": "euler"}, "scheduler 'euler' is not one of own, .*ddim"),
        ({"generator": [seeded(0), seeded(1)]}, "2 generators for 1 images"),
        ({"generator": []}, "0 generators for 1 images"),
    ],
)
def test_refused(restore, arguments, reason):
    with pytest.raises(ParameterError, match=reason) as caught:
        restore(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["estimate", "closed_form"])
def test_scale_refused(tiny_pipeline, photograph, method):
    with pytest.raises(ParameterError, match="scale 7 is not one of 1, 2, 3, 4"):
        getattr(tiny_pipeline, method)(photograph, 7)


def test_scales_are_those_of_the_weights(tiny_model, photograph):
    network = MCFormer(**tiny_model, scales=[2, 4]).eval()
    pipeline = BlindDiffPipeline(network, default_scheduler(network))
    assert pipeline(photograph, 4).images[0].size == (80, 96)
    with pytest.raises(ParameterError, match="scale 3 is not one of 2, 4"):
        pipeline(photograph, 3)


def test_device():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(None).type in ("cpu", "cuda", "mps")
    for name in ("banana", "cuda:99", "mps:99"):
        with pytest.raises(ParameterError, match=f"device '{name}'.*cpu") as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 2.0}, "scale 2.0 is not one of"),
        ({"num_inference_steps": 2.5}, "must be 1 to 1000, not 2.5"),
        ({"num_samples": 2, "generator": [torch.Generator(), torch.Generator()]}, "2 generators for 1 images"),
        ({"num_samples": 0}, "num_samples must be at least 1, not 0"),
        ({"kernel_step": "fixed"}, "kernel_step 'fixed' needs a kernel"),
        ({"mode": "best"}, "mode 'best' is not one of fidelity, fast, perceptual, paper"),
        ({"mode": ["fast"]}, "mode ['fast'] is not one of"),
        ({"scale": True}, "scale True is not one of 1, 2, 3, 4"),
        ({"scale": np.True_}, "scale np.True_ is not one of"),
        ({"scale": "2"}, "scale '2' is not one of"),
        ({"scale": None}, "scale None is not one of"),
        ({"scale": np.array([2, 3])}, "scale array([2, 3]) is not one of"),
        ({"num_inference_steps": True}, "num_inference_steps must be 1 to 1000, not True"),
        ({"num_inference_steps": "8"}, "num_inference_steps must be 1 to 1000, not '8'"),
        ({"num_samples": 1.5}, "num_samples must be at least 1, not 1.5"),
        ({"num_samples": None}, "num_samples must be at least 1, not None"),
        ({"noise_level": "5"}, "noise_level must be a number, not '5'"),
        ({"noise_level": [1, 2]}, "noise_level must be a number, not [1, 2]"),
        ({"noise_level": np.arange(2.0)}, "noise_level must be a number, not array([0., 1.])"),
        ({"noise_level": torch.ones(2)}, "noise_level must be a number, not tensor([1., 1.])"),
        ({"noise_level": 1j}, "noise_level must be a number, not 1j"),
        ({"noise_level": True}, "noise_level must be a number, not True"),
        ({"jpeg_step": "5"}, "jpeg_step must be a number, not '5'"),
        ({"jpeg_step": -1}, "jpeg_step must be at least 0, not -1"),
        ({"jpeg_step": float("nan")}, "jpeg_step must be at least 0, not nan"),
        ({"max_memory": "2G"}, "max_memory must be a number, not '2G'"),
        ({"max_memory": 0}, "max_memory must be at least 1, not 0"),
        (
            {"generator": 0},
            "generator must be a torch.Generator, as torch.Generator().manual_seed(0)",
        ),
        ({"generator": [0]}, "generator must be a torch.Generator"),
        ({"generator": "0"}, "generator must be a torch.Generator"),
        ({"generator": np.random.default_rng(0)}, "generator must be a torch.Generator"),
        ({"scheduler": object()}, "scheduler <object object at"),
        ({"scheduler": torch.zeros(99, 99)}, "scheduler tensor([[0., 0."),
        ({"image_step": 1}, "image_step 1 is not one of"),
        ({"kernel_step": {}}, "kernel_step {} is not one of"),
        ({"output_type": None}, "output_type None is not one of pil, np, pt"),
        ({"on_step": 3}, "on_step must be callable, not 3"),
        ({"callback_on_step_end": "f"}, "callback_on_step_end must be callable, not 'f'"),
        ({"callback_on_step_end_tensor_inputs": 3}, "callback_on_step_end_tensor_inputs 3 is not one of latents"),
        ({"callback_on_step_end_tensor_inputs": [3]}, "callback_on_step_end_tensor_inputs 3 is not one of latents"),
    ],
)
def test_refused_by_name_and_kind(tiny_pipeline: BlindDiffPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)) as caught:
        tiny_pipeline(torch.rand(3, 16, 16), **arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(restore, kind):
    given = {"scale": 2, "num_samples": 2, "num_inference_steps": 3, "noise_level": 4, "jpeg_step": 0}
    expected = restore(**given, mode="perceptual")
    out = restore(**{name: kind(value) for name, value in given.items()}, mode="perceptual")
    assert torch.equal(out.images, expected.images)
    assert torch.equal(out.noise_levels, expected.noise_levels)
    assert restore(scale=kind(2), max_memory=np.float64(1e12)).images.shape == (1, 3, 48, 40)


def test_torchs_default_precision_changes_nothing(restore, tiny_pipeline, photograph):
    def results():
        for scheduler in ("mean", "ddpm", "dpm-solver++"):
            yield restore(scale=2, scheduler=scheduler, num_inference_steps=2).images
        yield restore(scale=2, kernel_step="refine", num_inference_steps=1).images
        yield tiny_pipeline.estimate(photograph, 2).kernel
        yield tiny_pipeline.closed_form(photograph, 2)

    expected = list(results())
    torch.set_default_dtype(torch.float64)
    try:
        found = list(results())
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(expected, found, strict=True):
        assert other.dtype == torch.float32
        assert torch.allclose(one, other, atol=1e-5)


def test_samples_are_what_single_calls_give(tiny_pipeline: BlindDiffPipeline) -> None:
    y = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"scale": 2, "mode": "perceptual", "num_inference_steps": 2, "output_type": "pt"}
    several = tiny_pipeline(y, **options, num_samples=3, generator=[torch.Generator().manual_seed(1)])
    generator = torch.Generator().manual_seed(1)
    singles = torch.cat([tiny_pipeline(y, **options, generator=generator).images for _ in range(3)])
    assert several.samples is not None
    assert several.std is not None
    torch.testing.assert_close(several.samples[0], singles, atol=1e-5, rtol=0)
    torch.testing.assert_close(several.images[0], singles.mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(several.std[0], singles.std(0), atol=1e-5, rtol=0)
    assert float(several.std.max()) > 0


def test_kernels_are_the_mean_of_their_trajectory(tiny_pipeline: BlindDiffPipeline) -> None:
    out = tiny_pipeline(torch.rand(1, 3, 16, 16), scale=2, num_inference_steps=4)
    assert out.kernel_trajectory.shape[:2] == (4, 1)
    torch.testing.assert_close(out.kernels, out.kernel_trajectory.mean(0))
    distances = (out.kernel_trajectory - out.kernels).abs().sum((-2, -1)).mean(0)
    torch.testing.assert_close(out.kernel_spread, distances)
    assert float(out.kernel_spread) > 0


def test_a_network_left_in_training_is_set_to_evaluation(tiny_pipeline, photograph):
    """Else each result would hang on the rest of its batch, and change the network's averages."""
    network = MCFormer.from_config(tiny_pipeline.network.config)
    network.load_state_dict(tiny_pipeline.network.state_dict())
    network.train()
    made = BlindDiffPipeline(network, tiny_pipeline.scheduler)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    outs = [each(photograph, generator=seeded(0), output_type="pt") for each in (made, tiny_pipeline)]
    assert torch.equal(outs[0].images, outs[1].images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
