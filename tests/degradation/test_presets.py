"""The degradations of published protocols."""

import pytest
import torch

from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.kernels import GAUSSIAN8_SIGMAS, SETTING1, SETTING2, gaussian8_kernels, isotropic_gaussian
from blinddiff.errors import ParameterError


def test_gaussian8_sigmas() -> None:
    assert GAUSSIAN8_SIGMAS[4] == (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2)
    assert GAUSSIAN8_SIGMAS[3] == (1.35, 1.5, 1.65, 1.8, 1.95, 2.1, 2.25, 2.4)
    assert GAUSSIAN8_SIGMAS[2] == pytest.approx([0.8 + 0.8 * i / 7 for i in range(8)])
    kernels = gaussian8_kernels(4)
    assert kernels.shape == (8, 21, 21)
    assert torch.equal(kernels[3], isotropic_gaussian(2.4, 21))
    with pytest.raises(ParameterError, match="scale 1 is not one of 2, 3, 4"):
        gaussian8_kernels(1)


def test_settings_of_blinddiff() -> None:
    narrow = SETTING1.sample(300, 4, 21, torch.Generator().manual_seed(0))
    major, minor, _ = widths_and_angle(narrow)
    assert narrow.shape == (300, 21, 21)
    torch.testing.assert_close(major, minor, atol=1e-2, rtol=0)
    assert major.max() < 4.0
    rough = SETTING2.sample(300, 4, 21, torch.Generator().manual_seed(0), dtype=torch.float64)
    major, minor, _ = widths_and_angle(rough)
    assert (major / minor).max() > 2
    asymmetry = (rough - rough.flip(1, 2)).abs().sum((1, 2))
    assert asymmetry.mean() > 0.1, "multiplicative noise breaks the symmetry of a Gaussian"
