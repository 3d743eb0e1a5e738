"""The closed-form image x_y."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff.degradation import Decimate, DegradationOperator, bicubic_upsample, closed_form, proximal_weight
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian

Matrices = Callable[..., np.ndarray]


def psnr(x: Tensor, truth: Tensor) -> float:
    return float(-10 * (x - truth).square().mean().log10())


@pytest.mark.parametrize("sigma", [0.0, 2.0, 15.0])
def test_data_weight_is_the_measured_one(sigma: float) -> None:
    # FLOOR + (sigma / 255)^2 / 0.03^2 with a floor of about 4e-4; a prior twice as good counts four times as much.
    rho, other = (float(proximal_weight(torch.tensor(sigma**2), error)) for error in (0.03, 0.015))
    assert rho == pytest.approx(4e-4 + (sigma / 255) ** 2 / 0.03**2, abs=5e-5)
    assert other == pytest.approx(4 * rho)


@pytest.mark.parametrize(("scale", "sigma"), [(2, 0.0), (3, 5.0), (4, 12.0)])
def test_is_the_dense_solution_away_from_the_border(
    dense: Matrices, imresize: Matrices, photograph: Tensor, scale: int, sigma: float
) -> None:
    kernel = anisotropic_gaussian(1.4, 0.8, 0.5, 7).double()
    x = photograph[:, :, 100:148, 150:198].mean(1, keepdim=True)
    a = dense(kernel, (48, 48), scale, None, "reflect")
    small = 48 // scale
    y = (a @ x.numpy().ravel()).reshape(small, small)
    up = imresize(small, 48)
    x_hat = (up @ y @ up.T).ravel()
    rho = 4e-4 + (sigma / 255) ** 2 / 0.03**2
    expected = x_hat + a.T @ np.linalg.solve(a @ a.T + rho * np.eye(len(a)), y.ravel() - a @ x_hat)
    found = closed_form(torch.from_numpy(y)[None, None], kernel[None], torch.tensor([sigma]), scale)
    assert found.shape == (1, 1, 48, 48)
    inner = slice(14, -14)
    difference = (found[0, 0].numpy() - expected.reshape(48, 48))[inner, inner]
    step = (expected - x_hat).reshape(48, 48)[inner, inner]
    assert np.sqrt((difference**2).mean()) < 0.02 * np.sqrt((step**2).mean())


def test_a_delta_at_scale_1_gives_the_image_back(photograph: Tensor) -> None:
    y = photograph[..., :31, :47]
    kernel = torch.zeros(1, 9, 9, dtype=torch.float64)
    kernel[0, 4, 4] = 1
    torch.testing.assert_close(closed_form(y, kernel, torch.tensor([3.0]), 1), y)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sharpens_with_the_true_kernel(photograph: Tensor, scale: int) -> None:
    kernel = isotropic_gaussian(0.6 * scale, 21).double()[None]
    x = photograph[..., :288, :432]
    y = DegradationOperator(kernel, scale)(x)
    assert psnr(closed_form(y, kernel, torch.zeros(1), scale), x) > psnr(bicubic_upsample(y, scale), x) + 1.5


def test_every_image_has_its_own_kernel_and_noise_level(photograph: Tensor) -> None:
    kernels = torch.stack([isotropic_gaussian(1.0, 15), isotropic_gaussian(2.5, 15)]).double()
    y = torch.cat([photograph[..., :30, :40], photograph[..., 40:70, :40]])
    sigma = torch.tensor([0.0, 10.0], dtype=torch.float64)
    both = closed_form(y, kernels, sigma, 3)
    for i in range(2):
        one = slice(i, i + 1)
        torch.testing.assert_close(both[one], closed_form(y[one], kernels[one], sigma[one], 3))


def test_more_noise_stays_nearer_to_bicubic(photograph: Tensor) -> None:
    kernel, y = isotropic_gaussian(2.0, 15).double()[None], photograph[..., :40, :60]
    distances = [
        float((closed_form(y, kernel, torch.tensor([sigma]), 2) - bicubic_upsample(y, 2)).abs().mean())
        for sigma in (0.0, 2.0, 8.0, 30.0)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.2 * distances[0]


def test_downsampling_can_be_decimation(photograph: Tensor) -> None:
    kernel, x = isotropic_gaussian(1.6, 15).double()[None], photograph[..., :288, :432]
    y = DegradationOperator(kernel, 3, Decimate(0))(x)
    matched, mismatched = (
        closed_form(y, kernel, torch.zeros(1), 3, Decimate(0)),
        closed_form(y, kernel, torch.zeros(1), 3),
    )
    assert psnr(matched, x) > psnr(mismatched, x) + 1, "decimation at offset 0 is a pixel off the middle"
