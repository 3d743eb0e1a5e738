"""The estimators of kernel and noise level."""

import pytest
import torch

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models.kernel_estimator import SpectralEstimator
from blinddiff.models.statistics import estimator_statistics


@pytest.fixture
def estimator() -> SpectralEstimator:
    torch.manual_seed(0)
    return SpectralEstimator(kernel_size=9, hidden=16, scales=(1, 2, 4)).eval()


def estimate(estimator: SpectralEstimator, y: torch.Tensor, scale: int) -> Degradation:
    observation = Observation(y, scale)
    found: Degradation = estimator(estimator_statistics(observation), observation.scales)[0]
    return found


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 30, 40, generator=torch.Generator().manual_seed(0))


def test_estimates_are_kernels_and_noise_levels(estimator: SpectralEstimator) -> None:
    found = estimate(estimator, images(3), 4)
    kernel, noise_level, spectrum = found.kernel, found.noise_level, found.noise_spectrum
    assert kernel.shape == (3, 9, 9)
    assert kernel.min() > -1e-3, "an untrained head gives no negative entries"
    assert spectrum is not None
    torch.testing.assert_close(spectrum.mean((1, 2)), torch.ones(3))
    assert ((spectrum - 1).abs() < 0.1).all(), "and white noise"
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(3))
    assert noise_level.shape == (3,)
    assert noise_level.min() > 0


def test_scale_is_one_of_its_inputs(estimator: SpectralEstimator) -> None:
    at_4, at_2 = (estimate(estimator, images(1), scale).kernel for scale in (4, 2))
    assert not torch.allclose(at_4, at_2)


def test_learns_a_width_from_spectra() -> None:
    # Blurred noise of two widths; a few steps suffice to tell them apart.
    torch.manual_seed(0)
    estimator = SpectralEstimator(kernel_size=9, hidden=16, scales=(1,))
    truth = torch.stack([isotropic_gaussian(sigma, 9) for sigma in (0.6, 1.8)] * 8)
    y = DegradationOperator(truth, 1)(torch.rand(16, 3, 48, 48))
    optimiser = torch.optim.Adam(estimator.parameters(), 3e-3)
    errors = []
    for _ in range(100):
        error = (estimate(estimator, y, 1).kernel - truth).abs().sum((1, 2)).mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[0] > 0.8
    assert errors[-1] < 0.2
