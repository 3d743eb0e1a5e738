"""Kernel metrics against plain NumPy, on kernels whose errors are known, and in the right order."""

import math

import numpy as np
import pytest
import torch

from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian
from blinddiff.errors import KernelError
from blinddiff.evaluation.data import Case, CaseId, Restoration
from blinddiff.evaluation.image_metrics import Sample
from blinddiff.evaluation.kernel_metrics import (
    aligned_pair,
    angle_error,
    centroid_shift,
    kernel_l1,
    kernel_l1_centred,
    kernel_psnr,
    kernel_psnr_fkp,
    kernel_psnr_fkp_uniform,
    width_error,
)
from blinddiff.evaluation.run import measure as measured


def gaussian(sigma: float, size: int, dy: float = 0.0, dx: float = 0.0) -> torch.Tensor:
    """An isotropic Gaussian about the index centre moved by (dy, dx), in plain NumPy."""
    position = np.arange(size) - size // 2
    k = np.exp(-((position[:, None] - dy) ** 2 + (position - dx) ** 2) / (2 * sigma**2))
    return torch.from_numpy(k / k.sum())


TRUE = gaussian(2.0, 21)
UNIFORM = torch.full_like(TRUE, 1 / TRUE.numel())


@pytest.mark.parametrize(("size_a", "size_b"), [(21, 31), (31, 21), (21, 24), (20, 31), (9, 9)])
def test_kernels_of_different_sizes_meet_at_their_index_centres(size_a: int, size_b: int) -> None:
    a, b = gaussian(0.8, size_a), gaussian(0.8, size_b)
    assert kernel_l1(a, b) == pytest.approx(0, abs=1e-4)
    assert kernel_l1(a, gaussian(0.8, size_b, dx=1)) > 0.5
    padded_a, padded_b = aligned_pair(a, b)
    assert padded_a.shape == padded_b.shape
    assert padded_a.sum() == pytest.approx(1)


def test_l1_and_psnr_are_what_numpy_says() -> None:
    estimated = gaussian(2.4, 21, dy=0.3)
    a, b = estimated.numpy(), TRUE.numpy()
    mse = np.mean((a - b) ** 2)
    assert kernel_l1(3 * estimated, TRUE) == pytest.approx(np.abs(a - b).sum(), abs=1e-12)  # scale does not count
    assert kernel_psnr(estimated, TRUE) == pytest.approx(10 * np.log10(b.max() ** 2 / mse), abs=1e-9)
    assert kernel_psnr_fkp(estimated, TRUE) == pytest.approx(-10 * np.log10(mse), abs=1e-9)


def test_zeros_around_a_kernel_change_nothing() -> None:
    estimated = gaussian(2.4, 21, dy=0.3)
    around = torch.nn.functional.pad(estimated, (5, 5, 5, 5))
    for measure in (kernel_l1, kernel_psnr, kernel_psnr_fkp, centroid_shift, width_error):
        assert measure(around, TRUE) == pytest.approx(measure(estimated, TRUE), abs=1e-9)
    case = Case(CaseId("set", "image", 0), 4, None, torch.rand(3, 4, 4), TRUE, 0.0, 0)
    small, large = (
        measured(Sample(case, Restoration(torch.rand(3, 16, 16), kernel, None, 0.0, 0)))
        for kernel in (estimated, around)
    )
    kernels = [name for name in small if "kernel" in name]
    assert len(kernels) >= 6
    for name in kernels:
        assert large[name] == pytest.approx(small[name], abs=1e-4), name  # what a shift moves out is lost
    assert small["kernel_psnr_fkp_uniform"] == pytest.approx(kernel_psnr_fkp_uniform(TRUE), abs=1e-6)


def test_l1_of_errors_that_the_documentation_quotes() -> None:
    assert kernel_l1(gaussian(2.5 * 1.08, 31), gaussian(2.5, 31)) == pytest.approx(0.12, abs=0.01)
    assert kernel_l1(gaussian(1.7, 31, dx=0.5), gaussian(1.7, 31)) == pytest.approx(0.24, abs=0.01)


def test_a_shifted_a_wider_and_a_uniform_kernel_come_out_in_the_right_order() -> None:
    ranking = [TRUE, gaussian(2.1, 21), gaussian(3.0, 21), gaussian(2.0, 21, dx=2), UNIFORM]
    l1 = [kernel_l1(k, TRUE) for k in ranking]
    peak = [kernel_psnr(k, TRUE) for k in ranking]
    fkp = [kernel_psnr_fkp(k, TRUE) for k in ranking]
    assert l1 == sorted(l1)
    assert len(set(l1)) == len(l1)
    assert peak == sorted(peak, reverse=True)
    assert fkp == sorted(fkp, reverse=True)


def test_each_error_shows_in_its_own_metric() -> None:
    shifted, wider = gaussian(2.0, 21, dy=0.6, dx=-0.8), gaussian(2.5, 31)
    assert centroid_shift(shifted, TRUE) == pytest.approx(1.0, abs=1e-4)
    assert width_error(shifted, TRUE) == pytest.approx(0, abs=1e-3)
    assert centroid_shift(wider, TRUE) == pytest.approx(0, abs=1e-6)
    assert width_error(wider, TRUE) == pytest.approx(0.25, abs=1e-3)


def test_centred_l1_forgives_a_shift_and_nothing_else() -> None:
    assert kernel_l1(gaussian(2.0, 31, dx=1.5), TRUE) > 0.5
    assert kernel_l1_centred(gaussian(2.0, 31, dx=1.5), TRUE) < 0.01
    assert kernel_l1_centred(gaussian(2.5, 31, dx=1.5), TRUE) == pytest.approx(
        kernel_l1(gaussian(2.5, 31), TRUE), abs=0.01
    )


def test_width_error_takes_both_axes() -> None:
    true = anisotropic_gaussian(3.0, 1.0, 0.4, 31)
    estimated = anisotropic_gaussian(2.0, 2.0, 0.0, 31)
    assert width_error(estimated, true) == pytest.approx((1 + 1) / 4, abs=2e-3)


@pytest.mark.parametrize(("true", "estimated", "expected"), [(30, 50, 20), (5, 175, 10), (90, 0, 90), (135, -45, 0)])
def test_angle_error_is_between_lines(true: float, estimated: float, expected: float) -> None:
    a, b = (anisotropic_gaussian(3.0, 1.0, math.radians(angle), 31) for angle in (estimated, true))
    error = angle_error(a, b)
    assert error == pytest.approx(expected, abs=0.1)


def test_a_round_kernel_has_no_angle() -> None:
    assert angle_error(anisotropic_gaussian(3.0, 1.0, 0.0, 31), isotropic_gaussian(2.0, 21)) is None


def test_a_single_pixel_has_no_width_to_compare_with() -> None:
    delta = gaussian(0.01, 5)
    assert width_error(delta, delta) == 0
    assert width_error(TRUE, delta) == math.inf


def test_fkp_is_generous_to_a_kernel_that_knows_nothing() -> None:
    values = [kernel_psnr_fkp_uniform(gaussian(sigma, 21)) for sigma in np.linspace(1.8, 3.2, 8)]
    assert np.mean(values) == pytest.approx(45.8, abs=0.5)
    assert kernel_psnr(UNIFORM, TRUE) < 20


def test_what_is_no_kernel() -> None:
    with pytest.raises(KernelError, match="not \\(height, width\\)"):
        kernel_l1(TRUE[None], TRUE)
    with pytest.raises(KernelError, match="cannot be normalised"):
        kernel_l1(torch.zeros(3, 3), TRUE)
