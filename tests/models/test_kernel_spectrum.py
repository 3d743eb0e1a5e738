"""The spectrum of a kernel at the frequencies of blocks of y, and the symmetries of its estimate."""

import numpy as np
import pytest
import torch

from blinddiff.degradation.kernels import FAMILIES
from blinddiff.models.kernel_spectrum import MIN_POWER, KernelSpectrum, log_power
from blinddiff.models.statistics import FINE_BLOCK, FINE_MAPS, full_spectrum


@pytest.mark.parametrize("scale", [1, 2])
def test_the_spectrum_is_that_at_the_frequencies_of_blocks(scale: int) -> None:
    kernel = FAMILIES["hand_shake"].sample(1, scale, 31, torch.Generator().manual_seed(0))
    power = log_power(kernel, scale)[0].numpy()
    places = np.arange(31)
    for row, column in ((0, 0), (0, 5), (3, 0), (60, 7), (40, 20)):
        down, across = np.fft.fftfreq(FINE_BLOCK)[row] / scale, column / FINE_BLOCK / scale
        wave = np.exp(-2j * np.pi * (down * places[:, None] + across * places))
        expected = np.log(abs((wave * kernel[0].numpy()).sum()) ** 2 + MIN_POWER)
        assert power[row, column] == pytest.approx(expected, abs=1e-3)


def test_the_estimate_turns_with_the_picture() -> None:
    torch.manual_seed(0)
    network = KernelSpectrum().eval()
    fine = torch.randn(1, FINE_MAPS, FINE_BLOCK, FINE_BLOCK // 2 + 1)
    fine = full_spectrum(fine[0])[None].mT + full_spectrum(fine[0])[None].roll(1, 1)  # any even function
    fine = (fine + fine.flip((-2, -1)).roll((1, 1), (-2, -1))) / 2
    level = torch.tensor([2.0])
    with torch.no_grad():
        upright = network.ensemble(fine[..., : FINE_BLOCK // 2 + 1], level)
        turned = network.ensemble(fine.mT[..., : FINE_BLOCK // 2 + 1], level)
    torch.testing.assert_close(full_spectrum(turned), full_spectrum(upright).mT, rtol=1e-3, atol=1e-5)
    assert float((turned - upright).abs().max()) > 1e-4  # the network is not blind to directions


def test_it_is_not_trained_before_it_is() -> None:
    assert not bool(KernelSpectrum().is_trained)
