"""The published network as a denoiser."""

import pytest
import torch

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.kernels import anisotropic_gaussian
from blinddiff.errors import ParameterError
from blinddiff.published.network import ConvolutionalEstimator, PublishedMCFormer

TINY = {"dim": 8, "num_blocks": [1, 1], "num_refinement_blocks": 0, "heads": [1, 2], "embedding_dim": 16}


def test_published_estimator_gives_a_simplex_for_any_size() -> None:
    estimator = ConvolutionalEstimator(4, 21)
    for size in ((64, 64), (9, 30)):
        kernel = estimator(torch.rand(2, 6, *size))
        assert kernel.shape == (2, 21 * 21)
        assert kernel.min() >= 0
        torch.testing.assert_close(kernel.sum(1), torch.ones(2))


def test_it_has_the_published_size() -> None:
    assert sum(p.numel() for p in PublishedMCFormer().parameters()) == pytest.approx(26.51e6, rel=2e-3)


def test_it_has_no_estimate_from_y_alone_and_knows_no_noise() -> None:
    torch.manual_seed(0)
    model = PublishedMCFormer(**TINY).eval()
    observation = Observation(torch.rand(2, 3, 8, 8), 4)
    assert model.initial_estimate(observation) is None
    with torch.no_grad():
        prediction = model(torch.randn(2, 3, 32, 32), torch.tensor([100, 900]), observation)
    assert prediction.degradation.noise_level.tolist() == [0, 0]
    assert prediction.degradation.expected_kernel_error is None


def test_a_given_kernel_modulates() -> None:
    torch.manual_seed(0)
    model = PublishedMCFormer(**TINY).eval()
    observation, t = Observation(torch.rand(1, 3, 8, 8), 4), torch.tensor([400])
    x_t = torch.randn(1, 3, 32, 32)
    kernel = anisotropic_gaussian(torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.4]), 21)
    with torch.no_grad():
        own, given = (model(x_t, t, observation, known) for known in (None, Degradation(kernel, torch.zeros(1))))
    assert not torch.allclose(own.x0_hat, given.x0_hat, atol=1e-4)
    assert torch.equal(own.degradation.kernel, given.degradation.kernel)  # it estimates its own all the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_schedule": "cosine"}, "'cosine' is not one of"),
        ({"kernel_size": 20}, "kernel_size 20 is not odd"),
        ({"embedding_dim": 0}, "embedding_dim: 0 is not above 0"),
    ],
)
def test_impossible_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PublishedMCFormer(**{**TINY, **arguments})


def test_unknown_scale() -> None:
    with pytest.raises(ParameterError, match="scale 2 is not one of the network's: 4"):
        PublishedMCFormer(**TINY)(torch.zeros(1, 3, 16, 16), torch.tensor([1]), Observation(torch.zeros(1, 3, 8, 8), 2))
