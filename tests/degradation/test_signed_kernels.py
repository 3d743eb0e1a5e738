"""Kernels with negative entries: the sharpened families, and every operation that takes a kernel."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.data
import torch
from torch import Tensor

from blinddiff.degradation import Degradation, DegradationOperator, Observation, sample_kernels
from blinddiff.degradation.draws import LrImages
from blinddiff.degradation.kernel_files import read_kernel, write_kernel
from blinddiff.degradation.kernel_fit import fit_kernel
from blinddiff.degradation.kernel_measures import centroid, check_kernel
from blinddiff.degradation.kernel_tensors import resize_support, shift_kernel
from blinddiff.degradation.kernels import isotropic_gaussian, unsharp_mask
from blinddiff.degradation.noise import Sharpened
from blinddiff.errors import KernelError
from blinddiff.imaging import kernel_picture
from blinddiff.models.denoiser import Prediction
from blinddiff.models.kernel_estimator import mirror_descent_step
from blinddiff.sampling.kernel_steps import KERNEL_STEPS


def sharpened(sigma: float = 1.2, strength: float = 1.0, width: float = 2.0, size: int = 31) -> Tensor:
    return unsharp_mask(isotropic_gaussian(sigma, size)[None], torch.tensor([strength]), torch.tensor([width]))[0]


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    pixels = torch.from_numpy(skimage.data.cat().copy()).permute(2, 0, 1).double() / 255  # type: ignore[no-untyped-call]
    return pixels[None, :, 60:252, 100:292]


def test_an_unsharp_mask_is_that_of_scipy() -> None:
    kernel = isotropic_gaussian(1.3, 41)
    blurred = scipy.ndimage.gaussian_filter(kernel.double().numpy(), 1.7, mode="constant", truncate=8)
    expected = kernel.numpy() + 0.8 * (kernel.numpy() - blurred)
    found = unsharp_mask(kernel[None], torch.tensor([0.8]), torch.tensor([1.7]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("family", ["unsharp_masked", "camera"])
def test_sharpened_families_have_an_mtf_above_one(family: str) -> None:
    kernels = sample_kernels({family: 1.0}, 200, 2, 31, torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(200))
    mtf = torch.fft.fft2(kernels).abs()
    overshoot = mtf.amax((1, 2)) - 1
    assert (overshoot > 0.02).float().mean() > 0.3
    assert overshoot.max() < (1.5 if family == "unsharp_masked" else 0.36)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_kernel_of_a_sharpened_lr_image_explains_it(photograph: Tensor, scale: int) -> None:
    """Exactly at scale 1; at others up to what the mask does to aliases."""
    kernel, strength = isotropic_gaussian(0.6 * scale, 41)[None], torch.tensor([0.9])
    x = photograph.float()
    mask, y = Sharpened(), DegradationOperator(kernel, scale)(x)
    generator = torch.Generator().manual_seed(0)  # a mask of width 1.0
    result = mask.degrade(LrImages(y, y, kernel, torch.zeros(1)), strength, scale, generator)
    y_sharp, explained = result.y, DegradationOperator(result.kernel, scale)(x)
    inner = (..., slice(12, -12), slice(12, -12))
    error, change = (y_sharp - explained)[inner].square().mean(), (y_sharp - y)[inner].square().mean()
    assert error < (1e-6 if scale == 1 else 0.01) * change


def test_proximal_and_adjoint_accept_it(photograph: Tensor) -> None:
    operator = DegradationOperator(sharpened().double(), 2)
    y = operator(photograph)
    v = torch.rand(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float((y * v).sum()) == pytest.approx(float((photograph * operator.adjoint(v)).sum()), rel=1e-9)
    restored = operator.proximal(y, torch.full_like(photograph, 0.5), 1e-4)
    assert (operator(restored) - y).square().mean() < 1e-3 * (y - 0.5).square().mean()


def test_least_squares_finds_it_and_stays_above_the_prior(photograph: Tensor) -> None:
    true = sharpened(1.0, 1.2, 1.5, 15).double()[None]
    grey = photograph.mean(1, keepdim=True)
    y = DegradationOperator(true, 1)(grey)
    other = unsharp_mask(isotropic_gaussian(1.3, 15)[None].double(), torch.tensor([1.0]), torch.tensor([1.5]))
    prior = torch.minimum(other, 1.3 * true.clamp_max(0))
    prior = prior / prior.sum()
    found = fit_kernel(y, grey, prior, 1e-6, 1)
    assert (found >= prior.clamp_max(0) - 1e-9).all()
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    assert (found - true).abs().sum() < 0.4 * (prior - true).abs().sum()


def test_a_mirror_step_keeps_the_sum_and_the_negative_part() -> None:
    kernel = sharpened()[None]
    after = mirror_descent_step(kernel, 0.3 * torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0)))
    assert float(after.sum()) == pytest.approx(1, abs=1e-5)
    negative = kernel < -1e-6
    torch.testing.assert_close(after[negative], kernel[negative], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["damped", "network", "refine"])
def test_kernel_steps_accept_it(photograph: Tensor, name: str) -> None:
    before, estimate = (Degradation(sharpened(sigma)[None], torch.ones(1)) for sigma in (1.2, 1.5))
    observation = Observation(DegradationOperator(before.kernel, 2)(photograph.float()), 2)
    after = KERNEL_STEPS[name](before, Prediction(photograph.float(), estimate), observation)
    assert float(after.kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert after.kernel.min() < -1e-3
    if name == "damped":
        assert (after.kernel - before.kernel).abs().sum() < (estimate.kernel - before.kernel).abs().sum()


def test_measures_and_supports_accept_it() -> None:
    kernel = sharpened()
    check_kernel(kernel)
    shifted = shift_kernel(kernel, 0.5, -1.25)
    torch.testing.assert_close(centroid(shifted), torch.tensor([0.5, -1.25]), atol=0.03, rtol=0)
    assert shifted.min() >= kernel.min() - 1e-6
    torch.testing.assert_close(resize_support(resize_support(kernel, 45), 31), kernel)
    with pytest.raises(KernelError, match="negative entries sum to -5"):
        check_kernel(torch.tensor([[6.0, -5.0]]))


@pytest.mark.parametrize("suffix", [".npy", ".mat", ".csv", ".txt", ".json"])
def test_files_keep_it(tmp_path, suffix: str) -> None:
    write_kernel(tmp_path / f"k{suffix}", sharpened())
    np.testing.assert_allclose(read_kernel(tmp_path / f"k{suffix}"), sharpened(), atol=1e-6, rtol=1e-5)


def test_a_png_cannot_hold_it(tmp_path) -> None:
    with pytest.raises(KernelError, match="negative entries, for which a PNG has no values"):
        write_kernel(tmp_path / "k.png", sharpened())
    assert not (tmp_path / "k.png").exists()


def test_its_picture_has_another_colour_where_it_is_negative() -> None:
    kernel = sharpened(strength=2.0)
    pixels = np.asarray(kernel_picture(kernel, 31)).astype(int)
    red, blue = pixels[..., 0], pixels[..., 2]
    strong = kernel.numpy() < -0.05 * kernel.numpy().max()
    assert strong.any()
    assert (blue[strong] > red[strong]).all()
    assert (red[kernel.numpy() > 0.2 * kernel.numpy().max()] > 150).all()
