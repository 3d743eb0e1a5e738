"""Centroid, widths, angle, shifting, centring and resizing of kernels."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blinddiff.degradation.kernel_measures import centroid, check_kernel, is_round, widths_and_angle
from blinddiff.degradation.kernel_tensors import centre_kernel, resize_support, shift_kernel
from blinddiff.degradation.kernels import (
    FAMILIES,
    anisotropic_gaussian,
    isotropic_gaussian,
    sample_kernels,
)
from blinddiff.errors import KernelError, ParameterError


def delta(size: int, row: int, column: int) -> torch.Tensor:
    kernel = torch.zeros(size, size)
    kernel[row, column] = 1
    return kernel


def shifted_gaussian(sigma: float, size: int, dy: float, dx: float) -> torch.Tensor:
    position = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = position[:, None] - dy, position[None, :] - dx
    kernel = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    return kernel / kernel.sum()


@pytest.mark.parametrize("size", [9, 10])
def test_centroid_is_y_x_from_the_no_shift_index(size: int) -> None:
    assert centroid(delta(size, size // 2, size // 2)).tolist() == [0, 0]
    assert centroid(delta(size, size // 2 + 3, size // 2 - 1)).tolist() == [3, -1]


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 4.0), st.floats(0.1, 0.8), st.floats(-89.0, 90.0))
def test_widths_and_angle_of_a_gaussian(sigma: float, ratio: float, degrees: float) -> None:
    minor = max(0.7, sigma * ratio)
    kernel = anisotropic_gaussian(sigma + 0.5, minor, math.radians(degrees), 61)
    measured_major, measured_minor, angle = widths_and_angle(kernel)
    assert float(measured_major) == pytest.approx(sigma + 0.5, rel=1e-2)
    assert float(measured_minor) == pytest.approx(minor, rel=1e-2)
    assert -90 < float(angle) <= 90
    assert abs((float(angle) - degrees + 90) % 180 - 90) < 1.0


def test_what_is_round() -> None:
    assert is_round(2.0, 2.0)
    assert is_round(2.08, 2.0)
    assert is_round(0.0, 0.0)
    assert not is_round(2.12, 2.0)
    assert not is_round(1.0, 0.0)


def test_widths_of_special_kernels() -> None:
    for value in widths_and_angle(delta(7, 2, 5)):
        assert float(value) == pytest.approx(0, abs=1e-3)
    upright = torch.zeros(7, 7)
    upright[2, 3] = upright[4, 3] = 0.5
    assert [float(value) for value in widths_and_angle(upright)] == pytest.approx([1, 0, 90])


def test_measures_agree_between_batch_and_single() -> None:
    kernels = sample_kernels(dict.fromkeys(FAMILIES, 1.0), 12, 4, 25, torch.Generator().manual_seed(0))
    dy, dx = torch.linspace(-2, 2, 12), torch.linspace(1, -1, 12)
    batch = [centroid(kernels), *widths_and_angle(kernels), shift_kernel(kernels, dy, dx), centre_kernel(kernels)]
    for index, kernel in enumerate(kernels):
        single = [
            centroid(kernel),
            *widths_and_angle(kernel),
            shift_kernel(kernel, float(dy[index]), float(dx[index])),
            centre_kernel(kernel),
        ]
        for one, many in zip(single, batch, strict=True):
            torch.testing.assert_close(one, many[index], atol=2e-4, rtol=1e-4)


def test_whole_shifts_are_exact() -> None:
    assert torch.equal(shift_kernel(delta(9, 4, 4), 2, -3), delta(9, 6, 1))
    kernel = torch.rand(3, 7, 9)
    kernel[:, :1], kernel[:, :, -2:] = 0, 0
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    torch.testing.assert_close(shift_kernel(kernel, -1, 2), kernel.roll((-1, 2), (1, 2)))


@pytest.mark.parametrize(("dy", "dx"), [(0.5, 0.0), (-0.3, 0.7), (1.25, -2.5)])
def test_fractional_shifts_move_a_gaussian_without_widening_it(dy: float, dx: float) -> None:
    moved = shift_kernel(isotropic_gaussian(1.8, 25).double(), dy, dx)
    error = (moved - shifted_gaussian(1.8, 25, dy, dx)).abs().sum()
    assert error < 0.01  # linear interpolation errs by more than 0.03 here
    assert float(widths_and_angle(moved)[0]) == pytest.approx(1.8, rel=2e-3)


def test_fractional_shifts_of_a_sharp_kernel_keep_the_centroid() -> None:
    moved = shift_kernel(delta(15, 7, 7), 0.3, -1.6)
    check_kernel(moved)
    assert centroid(moved).tolist() == pytest.approx([0.3, -1.6], abs=1e-4)


def test_centring_takes_out_any_offset() -> None:
    kernels = sample_kernels(dict.fromkeys(FAMILIES, 1.0), 32, 2, 31, torch.Generator().manual_seed(0))
    moved = shift_kernel(kernels, 2.3, -1.4)
    assert centroid(moved).abs().min() > 1
    centred = centre_kernel(moved)
    assert centroid(centred).abs().max() < 1e-3
    assert ((centred >= 0) | (kernels.amin((1, 2), keepdim=True) < 0)).all()


def test_centring_copes_with_mass_at_the_border() -> None:
    kernel = torch.full((21, 21), 0.2 / 441)
    kernel[12, 9] += 0.8
    assert centroid(centre_kernel(kernel)).abs().max() < 0.01


@pytest.mark.parametrize(("size", "new"), [(9, 21), (21, 9), (8, 13), (13, 8), (9, 10), (10, 9), (9, 9), (20, 8)])
def test_fit_size_keeps_the_centre(size: int, new: int) -> None:
    kernel = isotropic_gaussian(0.8, size)
    fitted = resize_support(kernel, new)
    torch.testing.assert_close(fitted, isotropic_gaussian(0.8, new), atol=1e-5, rtol=0)


def test_fit_size_of_oblong_batches() -> None:
    kernel = torch.zeros(2, 5, 12)
    kernel[:, 3, 5] = 1
    fitted = resize_support(kernel, 7)
    assert fitted.shape == (2, 7, 7)
    assert fitted[1, 4, 2] == 1


def test_fit_size_refuses_to_cut_a_kernel() -> None:
    wide = torch.stack((isotropic_gaussian(0.5, 21), isotropic_gaussian(4.0, 21)))
    with pytest.raises(KernelError, match=r"size 9 would cut off .*% of its mass"):
        resize_support(wide, 9)
    assert float(resize_support(wide, 9, max_cut=0.9).sum()) == pytest.approx(2)
    with pytest.raises(ParameterError, match="size 0"):
        resize_support(wide, 0)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (torch.ones(3), "two-dimensional"),
        (torch.ones(1, 3, 3) / 9, "two-dimensional"),
        (torch.ones(0, 3), "two-dimensional"),
        (torch.eye(3, dtype=torch.int64), "floating-point"),
        (torch.tensor([[float("nan"), 1.0]]), "not finite"),
        (torch.tensor([[5.1, -4.1]]), "negative"),
        (torch.ones(3, 3) / 8, "sums to 1.125"),
        (torch.zeros(3, 3), "sums to 0"),
    ],
)
def test_check_kernel_says_what_is_wrong(kernel: torch.Tensor, message: str) -> None:
    with pytest.raises(KernelError, match=message):
        check_kernel(kernel)


def test_check_kernel_accepts_odd_even_and_rounded_kernels() -> None:
    for shape in ((1, 1), (4, 4), (5, 8)):
        kernel = torch.full(shape, 1 / math.prod(shape))
        assert check_kernel(kernel) is kernel
    check_kernel(torch.tensor([[0.5004, 0.5004]]))


def test_of_nothing_no_kernel_is_made() -> None:
    kernel = torch.zeros(9, 9)
    kernel[0, 0] = 1
    with pytest.raises(KernelError, match="has no mass within 5x5 pixels"):
        resize_support(kernel, 5, max_cut=1.0)
