"""The turns of the MAP loop: prior step, kernel step, image step, diffusion step."""

import gc
import weakref
from itertools import combinations

import numpy as np
import pytest
import torch

from blinddiff.degradation import Degradation, Observation
from blinddiff.models.denoiser import Prediction
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.sampling.schedulers import SCHEDULERS, configured_scheduler, make_scheduler

LIBRARY = ["ddim", "ddpm", "dpm-solver++"]  # diffusers' own


@pytest.fixture
def followed(tiny_pipeline, photograph, monkeypatch):
    """A restoration (x2), what the callback saw of it, and the network's predictions."""

    def followed(**arguments):
        seen, predicted = [], []
        forward = tiny_pipeline.network.forward

        def listen(*inputs, **options):
            predicted.append(forward(*inputs, **options))
            return predicted[-1]

        with monkeypatch.context() as patch:
            patch.setattr(tiny_pipeline.network, "forward", listen)
            out = tiny_pipeline(
                photograph,
                scale=2,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                on_step=lambda *step: seen.append(step),
                **arguments,
            )
        return out, seen, predicted

    return followed


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_is_followed_from_first_to_last(followed, scheduler, steps):
    out, seen, predicted = followed(scheduler=scheduler, num_inference_steps=steps)
    assert len(predicted) == steps
    assert [step[0] for step in seen] == list(range(steps))
    times = [step[1] for step in seen]
    assert times[0] == 999
    assert times == sorted(times, reverse=True)
    assert all(isinstance(t, int) and 0 <= t <= 999 for t in times)
    assert len(set(times)) == (1 if scheduler == "mean" else steps)
    for _, _, x_t, x0_hat, k_t in seen:
        assert x_t.shape == x0_hat.shape == (1, 3, 48, 40)
        assert k_t.shape == (1, 31, 31)
        assert bool(torch.isfinite(x_t).all())
    assert torch.equal(out.kernel_trajectory, torch.stack([step[4] for step in seen]))
    # The last clean image is the result, or the mean of all.
    result = torch.stack([step[3] for step in seen]).mean(0) if scheduler == "mean" else seen[-1][3]
    assert torch.allclose(out.images, result.clamp(0, 1), atol=1e-5)


def test_ddim_follows_the_networks_noise_schedule(followed, tiny_pipeline):
    _, seen, _ = followed(scheduler="ddim", num_inference_steps=5)
    alpha_bar = [*(float(tiny_pipeline.network.alpha_bar[step[1]]) for step in seen), 1.0]
    for index in range(1, 5):
        a, following = alpha_bar[index], alpha_bar[index + 1]
        x_t, x_next, x_0 = seen[index - 1][2], seen[index][2], 2 * seen[index][3] - 1
        noise = (x_t - a**0.5 * x_0) / (1 - a) ** 0.5
        assert torch.allclose(x_next, following**0.5 * x_0 + (1 - following) ** 0.5 * noise, atol=1e-4)


def test_ddpm_adds_noise(followed):
    _, seen, _ = followed(num_inference_steps=2, scheduler="ddim")
    _, noisy, _ = followed(num_inference_steps=2, scheduler="ddpm")
    assert torch.allclose(seen[0][3], noisy[0][3], atol=1e-6)  # the same start
    assert not torch.allclose(seen[0][2], noisy[0][2], atol=1e-2)


def test_mean_stays_at_pure_noise(followed):
    _, seen, _ = followed(num_inference_steps=3, scheduler="mean")
    assert [step[1] for step in seen] == [999] * 3
    assert torch.equal(seen[0][2], seen[1][2])
    assert not torch.equal(seen[0][3], seen[1][3])  # under another transform and kernel


def test_mean_comes_round_to_its_first_transform_after_eight(followed):
    _, seen, _ = followed(num_inference_steps=9, scheduler="mean", kernel_step="first", image_step="none")
    estimates = [step[3] for step in seen]
    assert torch.equal(estimates[8], estimates[0])
    assert all((one - other).abs().max() > 1e-5 for one, other in combinations(estimates[:8], 2))


def test_own_is_the_pipelines_scheduler(tiny_pipeline, followed, monkeypatch):
    from diffusers import DPMSolverMultistepScheduler

    named, _, _ = followed(scheduler="dpm-solver++", num_inference_steps=5)
    default, _, _ = followed(scheduler="own", num_inference_steps=5)
    assert not torch.allclose(named.images, default.images, atol=1e-3)
    monkeypatch.setattr(
        tiny_pipeline, "scheduler", configured_scheduler(DPMSolverMultistepScheduler, tiny_pipeline.network)
    )
    own, _, _ = followed(scheduler="own", num_inference_steps=5)
    assert torch.equal(named.images, own.images)


def test_schedulers_that_take_no_generator(tiny_pipeline, followed, monkeypatch):
    from diffusers import UniPCMultistepScheduler

    scheduler = configured_scheduler(UniPCMultistepScheduler, tiny_pipeline.network)
    monkeypatch.setattr(tiny_pipeline, "scheduler", scheduler)
    out, seen, _ = followed(scheduler="own", num_inference_steps=3)
    assert len(seen) == 3
    assert bool(torch.isfinite(out.images).all())


@pytest.mark.parametrize("name", LIBRARY)
def test_a_thousand_steps_are_all_timesteps(tiny_pipeline, name):
    scheduler = make_scheduler(name, tiny_pipeline.network, 1000, torch.device("cpu"))
    assert scheduler.timesteps.tolist() == list(range(999, -1, -1))


def test_image_step_none_leaves_the_prediction(followed):
    out, seen, predicted = followed(image_step="none", num_inference_steps=2)
    for step, prediction in zip(seen, predicted, strict=True):
        assert torch.equal(step[3], prediction.x0_hat)
    mean = (predicted[0].x0_hat + predicted[1].x0_hat) / 2
    assert torch.allclose(out.images, mean.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("image_step", "scheduler", "steps", "most"),
    [("proximal", "mean", 1, 0.2), ("proximal", "ddpm", 4, 0.2), ("gradient", "ddpm", 10, 0.8)],
)
def test_image_steps_explain_more_of_the_input(followed, image_step, scheduler, steps, most):
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    settings = {"num_inference_steps": steps, "scheduler": scheduler, "kernel": kernel, "noise_level": 0.5}
    with_step, _, _ = followed(image_step=image_step, **settings)
    without, _, _ = followed(image_step="none", **settings)
    assert float(with_step.residuals.square().mean()) < most * float(without.residuals.square().mean())


def test_the_proximal_step_weighs_by_variances():
    """Without blur it is the mean of y and x0_hat, each by one over the variance of its error."""
    generator = torch.Generator().manual_seed(0)
    y, x0_hat, x_t = (torch.rand(1, 3, 12, 16, generator=generator) for _ in range(3))
    observation, known = Observation(y, 1), Degradation(torch.ones(1, 1, 1), torch.tensor([6.0]))
    of_y, of_x = ((6**2 + 0.15**2) / 255**2), 0.05**2  # 0.15 grey levels: rounding
    expected = (y / of_y + x0_hat / of_x) / (1 / of_y + 1 / of_x)
    corrected, shift = IMAGE_STEPS["proximal"](x_t, x0_hat, observation, known, 0.05)
    assert torch.allclose(corrected, expected, atol=1e-5)
    assert shift == 0
    # A kernel expected to be off by half adds an error of 1.5 grey levels to y's.
    of_y += 1.5**2 / 255**2
    expected = (y / of_y + x0_hat / of_x) / (1 / of_y + 1 / of_x)
    unsure = Degradation(known.kernel, known.noise_level, torch.tensor([0.5]))
    assert torch.allclose(IMAGE_STEPS["proximal"](x_t, x0_hat, observation, unsure, 0.05)[0], expected, atol=1e-5)
    assert IMAGE_STEPS["none"](x_t, x0_hat, observation, known, 0.05) == (x0_hat, 0)


@pytest.mark.parametrize("name", ["gradient", "published"])
def test_gradients_are_those_of_the_declared_energy(motion, name):
    """Against finite differences, through a stand-in for the network that is not linear."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.rand(1, 3, 24, 24, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.rand(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    kernel = torch.from_numpy(motion)[None]

    def clean(x):
        return torch.sin(2 * x).mul(0.5)

    def energy(x):
        from blinddiff.degradation import DegradationOperator

        residual = y - DegradationOperator(kernel, 2)(clean(x))
        if name == "gradient":
            return 2**2 / 2 * residual.square().sum()
        return residual.norm() + 0.1 * clean(x).norm()

    known = Degradation(kernel, torch.tensor([2.0]))
    x0_hat, shift = IMAGE_STEPS[name](x_t, clean(x_t), Observation(y, 2), known, 0.05)
    assert torch.equal(x0_hat, clean(x_t).detach())
    for place in ((0, 0, 0, 0), (0, 1, 11, 7), (0, 2, 23, 12)):
        step = torch.zeros_like(x_t)
        step[place] = 1e-5
        slope = float(energy(x_t.detach() + step) - energy(x_t.detach() - step)) / 2e-5
        assert float(shift[place]) == pytest.approx(-slope, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("image_step", IMAGE_STEPS)
def test_memory_is_flat_over_the_steps(tiny_pipeline, photograph, monkeypatch, image_step):
    """Nothing of a step's graph is kept for the next."""
    alive = []
    forward = tiny_pipeline.network.forward

    def listen(*inputs, **options):
        prediction = forward(*inputs, **options)
        alive.append(weakref.ref(prediction))
        assert not inputs[3].kernel.requires_grad, "the kernel of the last step drags its graph along"
        return prediction

    def listener(index, t, x_t, x0_hat, k_t):
        assert not any(value.requires_grad for value in (x_t, x0_hat, k_t))

    monkeypatch.setattr(tiny_pipeline.network, "forward", listen)
    tiny_pipeline(photograph, 2, num_inference_steps=4, image_step=image_step, on_step=listener)
    gc.collect()
    assert len(alive) == 4
    assert all(reference() is None for reference in alive)


def test_the_prior_is_trusted_more_as_noise_fades(tiny_pipeline, photograph, monkeypatch):
    errors = []
    proximal = IMAGE_STEPS["proximal"]

    class Listening:
        needs_gradient = False

        def __call__(self, x_t, x0_hat, observation, degradation, prior_error):
            errors.append(prior_error)
            return proximal(x_t, x0_hat, observation, degradation, prior_error)

    monkeypatch.setitem(IMAGE_STEPS, "proximal", Listening())
    tiny_pipeline(photograph, 2, num_inference_steps=5, scheduler="ddim", generator=torch.Generator().manual_seed(0))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]
    assert errors[0] == pytest.approx(0.03, rel=0.01)


def test_kernel_step_network_follows_the_network(followed):
    out, seen, predicted = followed(kernel_step="network", num_inference_steps=5, mode="perceptual")
    kernels = [prediction.degradation.kernel for prediction in predicted]
    assert len({float(kernel[0, 15, 15]) for kernel in kernels}) == 5
    for step, kernel in zip(seen, kernels, strict=True):
        assert torch.equal(step[4], kernel)
    assert torch.allclose(out.kernels, torch.stack(kernels).mean(0), atol=1e-7)
    assert torch.equal(out.noise_levels, predicted[-1].degradation.noise_level)


def test_the_kernel_is_carried_to_the_next_prior_step(tiny_pipeline, photograph, monkeypatch):
    inputs, steps = [], []
    forward = tiny_pipeline.network.forward

    def listen(x_t, timestep, observation, degradation, **options):
        inputs.append((degradation.kernel, degradation.closed_form(observation)))
        return forward(x_t, timestep, observation, degradation, **options)

    monkeypatch.setattr(tiny_pipeline.network, "forward", listen)
    generator = torch.Generator().manual_seed(0)
    tiny_pipeline(photograph, 2, num_inference_steps=3, generator=generator, on_step=lambda *s: steps.append(s[4]))
    assert torch.equal(inputs[0][0], tiny_pipeline.estimate(photograph, 2).kernel)
    assert torch.equal(inputs[1][0], steps[0])
    assert torch.equal(inputs[2][0], steps[1])
    # And the closed-form image follows the kernel.
    assert not torch.equal(inputs[0][1], inputs[1][1])


def test_kernel_step_initial_never_changes(followed, tiny_pipeline, photograph):
    out, seen, _ = followed(kernel_step="first", num_inference_steps=3)
    first = tiny_pipeline.estimate(photograph, 2)
    assert all(torch.equal(step[4], first.kernel) for step in seen)
    assert torch.allclose(out.kernels, first.kernel, atol=1e-7)
    assert torch.equal(out.noise_levels, first.noise_level)
    moving, _, _ = followed(kernel_step="network", num_inference_steps=3)
    assert not torch.allclose(moving.kernels, first.kernel, atol=1e-6)


def test_kernel_step_refine_gives_a_kernel_that_explains_more(followed, motion, sharp, degraded, tiny_pipeline):
    """Given the true image, least squares finds the kernel that the network does not know."""
    y = torch.from_numpy(degraded(sharp, motion, 1)).permute(2, 0, 1)[None].float()
    wrong = torch.full((1, 31, 31), 1 / 961)
    x0_hat = torch.from_numpy(sharp).permute(2, 0, 1)[None].float()
    prediction = Prediction(x0_hat, Degradation(wrong, torch.tensor([1.0])))
    state = KERNEL_STEPS["refine"](None, prediction, Observation(y, 1))
    true = torch.zeros(31, 31)
    true[15 - 8 : 15 + 9, 15 - 4 : 15 + 5] = torch.from_numpy(motion)
    assert float(state.kernel.min()) >= 0
    assert float(state.kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert float((state.kernel - true).abs().sum()) < 0.7 * float((wrong - true).abs().sum())
    _, seen, predicted = followed(kernel_step="refine", num_inference_steps=2)
    assert not torch.allclose(seen[0][4], predicted[0].degradation.kernel, atol=1e-6)
    assert float(seen[1][4].sum()) == pytest.approx(1, abs=1e-4)


def test_kernel_step_refine_does_not_fit_noise(motion, sharp, degraded):
    """A good kernel stays good if the noise level is given, and becomes worse if it is not."""
    true = torch.zeros(1, 31, 31)
    true[0, 15 - 8 : 15 + 9, 15 - 4 : 15 + 5] = torch.from_numpy(motion)
    y = torch.from_numpy(degraded(sharp, motion, 1)).permute(2, 0, 1)[None].float()
    y = y + 20 / 255 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    x0_hat = torch.from_numpy(sharp).permute(2, 0, 1)[None].float()
    errors = []
    for noise_level in (0.0, 20.0):
        prediction = Prediction(x0_hat, Degradation(true, torch.tensor([noise_level])))
        found = KERNEL_STEPS["refine"](None, prediction, Observation(y, 1))
        errors.append(float((found.kernel - true).abs().sum()))
    assert errors[0] > 0.05
    assert errors[1] < 0.1 * errors[0]


def test_kernel_steps_by_hand():
    def estimate(value, level):
        return Degradation(torch.full((1, 1, 1), value), torch.tensor([level]))

    prediction = Prediction(torch.zeros(1, 3, 8, 8), estimate(6.0, 2.0))
    observation, known = Observation(torch.zeros(1, 3, 8, 8), 1), estimate(3.0, 1.0)
    moved = KERNEL_STEPS["network"](known, prediction, observation)
    assert (float(moved.kernel), float(moved.noise_level)) == (6, 2)
    for name in ("first", "fixed"):
        assert KERNEL_STEPS[name](known, prediction, observation) is known
        # A network that has no estimate before the first step gives it then.
        assert float(KERNEL_STEPS[name](None, prediction, observation).kernel) == 6
