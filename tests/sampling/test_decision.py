"""At which scale a picture is restored, alike for both engines."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.sampling.decision import suits_scale_1, working_scale


@pytest.mark.parametrize(
    ("sigma", "error", "level", "suits"),
    [
        (3.0, 0.2, 1.0, True),  # a wide kernel
        (3.0, 0.2, 20.0, True),
        (3.0, 0.9, 1.0, False),  # which is not reliable
        (1.0, 0.2, 1.0, False),
        (0.2, 0.2, 1.0, True),  # sharp and clean
        (0.2, 0.2, 10.0, False),  # sharp with noise
    ],
)
def test_wide_kernels_and_sharp_clean_pictures_suit_scale_1(
    sigma: float, error: float, level: float, *, suits: bool
) -> None:
    kernel, numbers = isotropic_gaussian(sigma, 31)[None], torch.tensor([[level], [error]])
    estimate = SimpleNamespace(kernel=kernel, noise_level=numbers[0], expected_kernel_error=numbers[1])
    light = SimpleNamespace(**{name: value.numpy() for name, value in vars(estimate).items()})
    for each in (estimate, light):
        assert np.asarray(suits_scale_1(each)).tolist() == [suits]
    assert working_scale(1, (1, 2, 3, 4), as_it_is=suits) == (1 if suits else 2)


def test_other_scales_are_restored_at_themselves() -> None:
    for scale in (2, 3, 4):
        assert working_scale(scale, (1, 2, 3, 4)) == scale
    assert working_scale(1, (1, 4)) == 1
