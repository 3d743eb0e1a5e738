"""The kernel step that goes part of the way."""

import torch

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models.denoiser import Prediction
from blinddiff.sampling.kernel_steps import KERNEL_STEPS, STEP_SIZE

OBSERVATION = Observation(torch.zeros(2, 3, 8, 8), 4)
damped = KERNEL_STEPS["damped"]


def state(sigma: float, noise: float) -> Degradation:
    return Degradation(isotropic_gaussian(torch.full((2,), sigma), 15), torch.full((2,), noise))


def prediction(sigma: float, noise: float) -> Prediction:
    return Prediction(torch.zeros(2, 3, 32, 32), state(sigma, noise))


def test_between_gaussians_lies_a_gaussian() -> None:
    """A geometric mean of Gaussians is the Gaussian whose inverse variance is the mean of theirs."""
    after = damped(state(1.5, 2.0), prediction(1.2, 4.0), OBSERVATION)
    sigma = ((1 - STEP_SIZE) / 1.5**2 + STEP_SIZE / 1.2**2) ** -0.5
    torch.testing.assert_close(after.kernel, isotropic_gaussian(torch.full((2,), sigma), 15), atol=2e-5, rtol=0)
    torch.testing.assert_close(after.noise_level, torch.full((2,), 2.0 + STEP_SIZE * 2.0))


def test_what_agrees_stays_and_the_rest_is_on_the_simplex() -> None:
    same = damped(state(1.5, 3.0), prediction(1.5, 3.0), OBSERVATION)
    torch.testing.assert_close(same.kernel, state(1.5, 3.0).kernel, atol=1e-5, rtol=0)
    other = damped(state(0.4, 0.0), prediction(3.0, 0.0), OBSERVATION)
    assert other.kernel.min() >= 0
    torch.testing.assert_close(other.kernel.sum((1, 2)), torch.ones(2))
    assert float(other.noise_level.max()) == 0


def test_the_first_estimate_is_taken_whole() -> None:
    first = damped(None, prediction(1.2, 4.0), OBSERVATION)
    assert torch.equal(first.kernel, state(1.2, 4.0).kernel)


def test_a_kernel_of_another_size_is_gone_on_from() -> None:
    padded, given = state(1.5, 2.0), Degradation(isotropic_gaussian(torch.full((2,), 1.5), 11), torch.full((2,), 2.0))
    expected, went = (damped(before, prediction(1.2, 4.0), OBSERVATION) for before in (padded, given))
    torch.testing.assert_close(went.kernel, expected.kernel, atol=1e-4, rtol=0)


def test_nothing_gathers_over_a_thousand_steps() -> None:
    before = state(0.8, 3.0)  # most entries all but zero
    after = before
    for _ in range(1000):
        after = damped(after, Prediction(torch.zeros(2, 3, 32, 32), after), OBSERVATION)
    assert float((after.kernel - before.kernel).abs().sum((1, 2)).max()) < 1e-3
