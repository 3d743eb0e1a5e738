"""NIQE against the authors' MATLAB release and an independent implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from blinddiff.evaluation.image_metrics import luma, niqe, niqe_parameters


def baboon(public_data: Path) -> torch.Tensor:
    files = sorted((public_data / "Set14").glob("baboon.*"))
    if not files:
        pytest.skip("Set14/baboon is not on this machine")
    pixels = np.asarray(Image.open(files[0]).convert("RGB")) / 255.0
    return luma(torch.from_numpy(pixels).permute(2, 0, 1))


def test_it_is_what_the_authors_release_gives(public_data: Path) -> None:
    # MATLAB R2021a with the authors' release, as the documentation of BasicSR states it
    assert niqe(baboon(public_data)) == pytest.approx(5.72957338, abs=5e-6)


def test_blur_and_noise_are_less_natural(public_data: Path) -> None:
    y = baboon(public_data)
    sharp = niqe(y)
    blurred = niqe(torch.from_numpy(gaussian_filter(y.numpy(), 1.5)))
    noisy = niqe((y + 25 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 255))
    assert sharp is not None
    assert blurred is not None
    assert noisy is not None
    assert sharp < min(blurred, noisy)


def made() -> torch.Tensor:
    noise = np.random.default_rng(0).standard_normal((230, 320))
    return torch.from_numpy(np.clip(gaussian_filter(noise, 1.5) * 120 + 128, 0, 255))


def test_a_stored_value_of_an_independent_implementation() -> None:
    assert niqe(made()) == pytest.approx(11.168267716269773, abs=1e-4)  # BasicSR 1.4.2, in float32


def test_what_does_not_fill_a_block_does_not_count() -> None:
    y = made()
    assert niqe(y[:192, :288]) == niqe(y[:200, :300])


def test_images_that_say_too_little() -> None:
    assert niqe(made()[:190, :190]) is None
    assert niqe(torch.full((300, 300), 7.0)) is None


def test_the_model_is_a_covariance() -> None:
    mean, covariance = niqe_parameters()
    assert mean.shape == (36,)
    np.testing.assert_array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0
