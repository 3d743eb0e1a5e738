"""PSNR, SSIM and luma against scikit-image, and their conventions."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, laplace
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.errors import ImageError
from blinddiff.evaluation.image_metrics import (
    best_shift,
    colour_shift,
    detail_energy,
    full_swing_luma,
    lr_consistency,
    luma,
    psnr_full_swing,
    psnr_rgb,
    psnr_y,
    ssim_rgb,
    ssim_y,
)


@pytest.fixture
def pair(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (image + 0.05 * noise).clamp(0, 1), image


def as_array(image: torch.Tensor, crop: int) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()[crop:-crop, crop:-crop]


def test_luma_is_that_of_an_independent_library(image: torch.Tensor) -> None:
    expected = rgb2ycbcr(image.permute(1, 2, 0).numpy())[..., 0]
    np.testing.assert_allclose(luma(image).numpy(), expected, atol=1e-9)


def test_luma_of_black_and_white() -> None:
    black_and_white = torch.tensor([0.0, 1.0]).expand(3, 1, 2)
    assert luma(black_and_white)[0].tolist() == pytest.approx([16, 235], abs=1e-4)
    assert full_swing_luma(black_and_white)[0].tolist() == pytest.approx([0, 255], abs=1e-4)


@pytest.mark.parametrize("crop", [2, 4])
def test_psnr_is_that_of_an_independent_library(pair: tuple[torch.Tensor, torch.Tensor], crop: int) -> None:
    a, b = (as_array(x, crop) for x in pair)
    expected = peak_signal_noise_ratio(rgb2ycbcr(b)[..., 0], rgb2ycbcr(a)[..., 0], data_range=255)
    assert psnr_y(*pair, crop) == pytest.approx(expected, abs=1e-9)
    assert psnr_rgb(*pair, crop) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-9)


@pytest.mark.parametrize("crop", [2, 4])
def test_ssim_is_that_of_an_independent_library(pair: tuple[torch.Tensor, torch.Tensor], crop: int) -> None:
    a, b = (as_array(x, crop) for x in pair)
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected_y = structural_similarity(rgb2ycbcr(a)[..., 0], rgb2ycbcr(b)[..., 0], **how)
    expected_rgb = structural_similarity(255 * a, 255 * b, channel_axis=-1, **how)
    assert ssim_y(*pair, crop) == pytest.approx(expected_y, abs=1e-10)
    assert ssim_rgb(*pair, crop) == pytest.approx(expected_rgb, abs=1e-10)


# psnr_y, psnr_rgb and ssim_y as scikit-image gives them; ssim_rgb as recorded.
STORED = [35.6939686, 27.1897372, 0.9670312, 0.7429553]


def test_values_of_a_small_stored_array() -> None:
    reference = torch.arange(3 * 16 * 16, dtype=torch.float64).reshape(3, 16, 16) / 767
    image = (reference * 7 % 1 / 10 + 0.9 * reference).clamp(0, 1)
    values = [f(image, reference, 2) for f in (psnr_y, psnr_rgb, ssim_y, ssim_rgb)]
    assert values == pytest.approx(STORED, abs=1e-6)


def test_full_swing_reads_lower_by_the_swing(image: torch.Tensor) -> None:
    other = (image + 0.02).clamp(0, 1)
    swing = 20 * math.log10(255 / 219)
    assert psnr_y(other, image, 0) - psnr_full_swing(other, image) == pytest.approx(swing, abs=2e-3)


def test_cropped_border_does_not_count(image: torch.Tensor) -> None:
    other = image.clone()
    other[:, :4] = 0
    other[:, :, -4:] = 1
    assert psnr_y(other, image, 4) == psnr_rgb(other, image, 4) == math.inf
    assert ssim_y(other, image, 4) == pytest.approx(1)
    assert psnr_y(other, image, 3) < 30


def test_images_that_cannot_be_compared(image: torch.Tensor) -> None:
    with pytest.raises(ImageError, match="cannot be compared"):
        psnr_y(image[..., :-1], image, 4)
    with pytest.raises(ImageError, match="nothing left"):
        psnr_y(image[..., :8, :], image[..., :8, :], 4)
    with pytest.raises(ImageError, match="11x11"):
        ssim_y(image[..., :16, :], image[..., :16, :], 4)


def test_lr_consistency_is_the_rms_of_what_is_not_explained(image: torch.Tensor) -> None:
    kernel = torch.zeros(5, 5, dtype=torch.float64)
    kernel[2, 2], kernel[0, 1], kernel[3, 4] = 0.5, 0.3, 0.2  # asymmetric: a flipped one would show
    operator = DegradationOperator(kernel, 4)
    y = operator.forward(image[None])[0]
    assert lr_consistency(image, y, operator) == pytest.approx(0, abs=1e-9)
    assert lr_consistency(image, y + 2 / 255, operator) == pytest.approx(2, abs=1e-9)
    flipped = DegradationOperator(kernel.flip(0, 1), 4)
    assert lr_consistency(image, y, flipped) > 1


def test_colour_shift_is_of_the_worst_channel(image: torch.Tensor) -> None:
    enlarged = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert colour_shift(enlarged, image) == pytest.approx(0, abs=1e-9)
    assert colour_shift(enlarged.roll(3, 2), image) == pytest.approx(0, abs=1e-9)
    moved = enlarged + torch.tensor([1.0, -3.0, 0.5])[:, None, None] / 255
    assert colour_shift(moved, image) == pytest.approx(3, abs=1e-6)


def energies(image: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Flat and textured ratio, computed with other libraries, block by block."""
    planes = [laplace(rgb2ycbcr(x.permute(1, 2, 0).numpy())[..., 0])[1:-1, 1:-1] for x in (image, truth)]
    height, width = planes[0].shape
    blocks = [(i, j) for i in range(0, height - 15, 16) for j in range(0, width - 15, 16)]
    own, true = (np.array([np.mean(plane[i : i + 16, j : j + 16] ** 2) for i, j in blocks]) for plane in planes)
    order = np.argsort(true)
    quarter = len(order) // 4
    flat, textured = order[:quarter], order[-quarter:]
    return float(np.sqrt(own[flat].mean() / true[flat].mean())), float(
        np.sqrt(own[textured].mean() / true[textured].mean())
    )


@pytest.fixture
def half_textured() -> torch.Tensor:
    """(3, 100, 120): noise of growing strength from left to right on a smooth ramp."""
    rng = np.random.default_rng(0)
    columns = np.linspace(0, 1, 120)
    plane = 0.3 + 0.3 * columns + 0.15 * columns * rng.standard_normal((100, 120))
    return torch.from_numpy(np.stack([plane] * 3)).clamp(0, 1)


def test_detail_is_measured_where_the_truth_is_flat_and_textured(half_textured: torch.Tensor) -> None:
    truth = half_textured
    noisy_where_flat = truth.clone()
    noisy_where_flat[..., :40] += 0.05 * torch.randn((100, 40), generator=torch.Generator().manual_seed(0))
    blurred = torch.from_numpy(gaussian_filter(truth.numpy(), (0, 1, 1)))
    for image in (truth, noisy_where_flat, blurred, 0.5 * truth):
        flat, textured = energies(image, truth)
        assert detail_energy(image, truth, 0, textured=False) == pytest.approx(flat, rel=1e-9)
        assert detail_energy(image, truth, 0, textured=True) == pytest.approx(textured, rel=1e-9)
    assert energies(truth, truth) == (1, 1)
    assert detail_energy(0.5 * truth, truth, 0, textured=True) == pytest.approx(0.5)
    flat, textured = (detail_energy(noisy_where_flat, truth, 4, textured=t) for t in (False, True))
    assert flat is not None
    assert textured is not None
    assert flat > 2
    assert textured == pytest.approx(1, abs=0.05)


def test_detail_of_small_and_of_empty_images_is_unknown() -> None:
    small = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert detail_energy(small, small, 4, textured=True) is None  # one block
    assert detail_energy(small[..., :12], small[..., :12], 0, textured=True) is None  # none
    grey = torch.full((3, 80, 80), 0.5)
    assert detail_energy(torch.rand(3, 80, 80), grey, 0, textured=False) is None


@pytest.mark.parametrize("shift", [(0, 0), (3, -5), (-6, 6), (6, 0)])
def test_the_best_shift_is_found(shift: tuple[int, int], image: torch.Tensor) -> None:
    moved, inner = best_shift(image.roll(shift, dims=(1, 2)), image, 6)
    assert inner.shape == (3, 36, 40)
    assert torch.equal(moved, inner)
    assert torch.equal(inner, image[:, 6:-6, 6:-6])


def test_the_best_shift_is_within_reach(image: torch.Tensor) -> None:
    moved, inner = best_shift(image.roll(7, dims=2), image, 6)
    assert not torch.equal(moved, inner)
    with pytest.raises(ImageError, match="nothing left"):
        best_shift(image[:, :12], image[:, :12], 6)
