"""Observation and Degradation: dihedral transforms against NumPy's, and what a degradation keeps."""

import numpy as np
import pytest
import torch

from blinddiff.degradation import Degradation, DegradationOperator, Observation, closed_form
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.degradation.observation import N_TRANSFORMS, dihedral, dihedral_inverse


def by_hand(image: np.ndarray, transform: int) -> np.ndarray:
    return np.rot90(np.fliplr(image) if transform >= 4 else image, transform % 4)


@pytest.mark.parametrize("transform", range(N_TRANSFORMS))
def test_against_numpy(transform: int) -> None:
    image = torch.arange(15.0).view(3, 5)
    assert np.array_equal(dihedral(image, transform).numpy(), by_hand(image.numpy(), transform))
    assert torch.equal(dihedral_inverse(dihedral(image, transform), transform), image)


def test_all_eight_differ() -> None:
    image = torch.arange(9.0).view(3, 3)
    transforms = range(N_TRANSFORMS)
    assert len({tuple(dihedral(image, transform).flatten().tolist()) for transform in transforms}) == N_TRANSFORMS


def degradation(count: int = 2) -> Degradation:
    sigmas = torch.linspace(0.8, 2.0, count)
    return Degradation(isotropic_gaussian(sigmas, 15), torch.arange(count) + 1.0, torch.arange(count) / 10)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_operator_and_closed_form_are_those_of_its_parts(scale: int) -> None:
    y = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    known, observation = degradation(), Observation(y, scale)
    x = torch.rand(2, 3, *observation.hr_size, generator=torch.Generator().manual_seed(1))
    assert torch.equal(known.operator(scale)(x), DegradationOperator(known.kernel, scale)(x))
    expected = closed_form(y, known.kernel, known.noise_level, scale)
    torch.testing.assert_close(known.closed_form(observation), expected, atol=0, rtol=0)


def test_what_is_made_once_is_kept_for_its_observation_alone() -> None:
    y = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    known, observation = degradation(), Observation(y, 2)
    assert known.operator(2) is known.operator(2)
    assert known.operator(2) is not known.operator(3)
    x_y = known.closed_form(observation)
    assert known.closed_form(observation) is x_y
    other = known.closed_form(Observation(1 - y, 2))
    assert not torch.allclose(other, x_y)
    assert not torch.allclose(
        known.with_estimate(known.kernel.flip(0), known.noise_level).closed_form(observation), x_y
    )
    part = Observation(y[..., :8, :8], 2)
    assert known.with_closed_form(part, x_y[..., :16, :16]).closed_form(part).shape == (2, 3, 16, 16)
    assert torch.equal(known.closed_form(observation), x_y)


def test_images_are_taken_and_repeated_together() -> None:
    known = degradation(3)
    second, repeated = known[1:2], known.repeat(2)
    assert second.expected_kernel_error is not None
    assert repeated.expected_kernel_error is not None
    assert torch.equal(second.kernel, known.kernel[1:2])
    assert (float(second.noise_level), float(second.expected_kernel_error)) == (2, pytest.approx(0.1))
    assert repeated.noise_level.tolist() == [1, 1, 2, 2, 3, 3]
    assert torch.equal(repeated.kernel[5], known.kernel[2])
    assert repeated.expected_kernel_error.tolist() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2])


def test_detached_it_drags_no_graph_along() -> None:
    known = Degradation(degradation().kernel.requires_grad_(), torch.ones(2))
    assert not known.detach().kernel.requires_grad
    plain = degradation()
    assert plain.detach() is plain
