"""Every kind of noise: its level as its statistics show it, its seed, and the levels it refuses."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation.noise import (
    NOISES,
    CorrelatedNoise,
    GaussianNoise,
    Grain,
    JpegNoise,
    PoissonNoise,
    ResizedJpegNoise,
    Sharpened,
)
from blinddiff.errors import ParameterError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 3, channels: int = 3, height: int = 21, width: int = 34) -> Tensor:
    return torch.rand(batch, channels, height, width, generator=seeded(9))


@pytest.mark.parametrize("name", NOISES)
def test_every_noise_keeps_shape_dtype_and_seed(name: str) -> None:
    noise = NOISES[name]
    level = noise.sample_level(3, seeded(1))
    assert level.shape == (3,)
    assert torch.equal(level, noise.sample_level(3, seeded(1)))
    for dtype in (torch.float32, torch.float64):
        y = pictures().to(dtype)
        noisy = noise.apply(y, level, seeded(2))
        assert noisy.shape == y.shape
        assert noisy.dtype == dtype
        assert not torch.equal(noisy, y)
        assert torch.isfinite(noisy).all()
        assert torch.equal(noisy, noise.apply(y, level, seeded(2)))


@pytest.mark.parametrize("name", NOISES)
def test_every_noise_names_what_it_refuses(name: str) -> None:
    noise, y = NOISES[name], pictures()
    with pytest.raises(ParameterError, match="one value for each of the 3"):
        noise.apply(y, torch.ones(2), seeded())
    with pytest.raises(ParameterError, match=r"\(B, C, H, W\)"):
        noise.apply(y[0], torch.ones(3), seeded())
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="must be finite"):
            noise.apply(y, torch.tensor([50.0, 50.0, wrong]), seeded())


@pytest.mark.parametrize("noise", [GaussianNoise(), CorrelatedNoise()], ids=lambda noise: noise.name)
def test_the_level_is_the_standard_deviation_in_grey_levels(noise: GaussianNoise | CorrelatedNoise) -> None:
    y = torch.full((3, 3, 200, 200), 0.9)
    level = torch.tensor([0.0, 5.0, 20.0])
    grain = (noise.apply(y, level, seeded()) - y) * 255
    assert grain[0].abs().max() == 0
    for one, sigma in zip(grain[1:], (5.0, 20.0), strict=True):
        assert float(one.std()) == pytest.approx(sigma, rel=0.02)
        assert abs(float(one.mean())) < 0.02 * sigma
        assert float(one[..., :2, :].std()) == pytest.approx(sigma, rel=0.15), "the border is as noisy"
    channels = torch.corrcoef(grain[2].flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.05


def test_only_correlated_noise_is_correlated() -> None:
    y = torch.zeros(8, 1, 128, 128)
    level = torch.full((8,), 10.0)

    def neighbours(grain: Tensor) -> Tensor:
        return (grain[..., 1:] * grain[..., :-1]).mean((1, 2, 3)) / grain.square().mean((1, 2, 3))

    white = neighbours(GaussianNoise().apply(y, level, seeded()))
    grain = neighbours(CorrelatedNoise(min_width=1.0, max_width=1.0).apply(y, level, seeded()))
    assert white.abs().max() < 0.05
    # The autocorrelation of a Gaussian of width w is a Gaussian of width sqrt(2) w.
    assert (grain - np.exp(-1 / 4)).abs().max() < 0.05
    varied = neighbours(CorrelatedNoise().apply(y, level, seeded()))
    assert varied.max() - varied.min() > 0.3


def test_half_of_the_grain_is_the_same_in_all_channels() -> None:
    y = torch.full((40, 3, 64, 64), 0.5)
    grain = Grain().apply(y, torch.full((40,), 10.0), seeded()) - y
    same = (grain[:, :1] - grain).abs().amax((1, 2, 3)) < 1e-5
    assert 10 < int(same.sum()) < 30
    for each in grain[~same]:
        assert 0.4 < torch.corrcoef(each.flatten(1))[0, 1] < 1, "a share of it, 0.6 at least"


def test_poisson_variance_follows_the_signal() -> None:
    y = torch.tensor([0.0, 0.1, 0.5, 1.0])[None, :, None, None].expand(2, 4, 200, 200)
    photons = torch.tensor([650.0, 5000.0])
    noisy = PoissonNoise().apply(y, photons, seeded())
    torch.testing.assert_close(noisy.mean((2, 3)), y[..., 0, 0], atol=2e-3, rtol=0)
    expected = (y[..., 0, 0] / photons[:, None]).sqrt()
    torch.testing.assert_close(noisy.std((2, 3)), expected, atol=1e-6, rtol=0.03)
    counts = noisy[0] * 650
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0)
    assert (PoissonNoise().apply(torch.full((1, 1, 4, 4), -0.2), torch.tensor([100.0]), seeded()) == 0).all()


def test_jpeg_is_pillow_s_and_each_image_has_its_quality() -> None:
    ramp = torch.linspace(0, 1, 64)
    y = torch.stack((ramp.expand(48, 64), ramp.flip(0).expand(48, 64), pictures(1, 1, 48, 64)[0, 0]))[None].repeat(
        2, 1, 1, 1
    )
    noisy = JpegNoise().apply(y, torch.tensor([20.0, 90.4]), seeded())
    errors = (noisy - y).square().mean((1, 2, 3))
    assert errors[0] > 1.2 * errors[1] > 0
    buffer = io.BytesIO()
    Image.fromarray((y[1] * 255).round().byte().permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=90)
    expected = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1) / 255
    torch.testing.assert_close(noisy[1], expected)


def test_resized_jpeg_hides_the_lattice_and_keeps_the_picture() -> None:
    """The blocks' edges, 8 pixels apart after JPEG, are no stronger than other places once the size has changed."""
    r = torch.linspace(0, 6, 96)
    waves = 0.5 + 0.2 * torch.sin(1.3 * r[:, None]) + 0.2 * torch.sin(1.7 * r + r[:, None])
    y = waves.expand(4, 3, -1, -1)

    def lattice(noisy: Tensor) -> float:
        steps = (noisy - y).diff(dim=3).abs().mean((0, 1, 2))
        return float(steps[7::8].mean() / steps.mean())

    quality = torch.full((4,), 20.0)
    stored = JpegNoise().apply(y, quality, seeded())
    resized = ResizedJpegNoise(max_factor=2.0).apply(y, quality, seeded(1))
    assert lattice(stored) > 2
    assert abs(lattice(resized) - 1) < 0.1
    assert (resized - y).square().mean() < (stored - y).square().mean(), "enlarged, it loses less"


def test_sharpening_is_a_linear_filter_that_keeps_flat_areas_and_overshoots_at_edges() -> None:
    y = torch.full((2, 1, 32, 32), 0.3)
    y[..., 16:] = 0.6
    sharp = Sharpened().apply(y, torch.tensor([0.0, 1.0]), seeded())
    assert torch.allclose(sharp[0], y[0], atol=1e-6)
    assert torch.allclose(sharp[1, ..., :8], y[1, ..., :8], atol=1e-6)
    assert sharp[1].max() > 0.62
    assert sharp[1].min() < 0.28
    assert float(sharp[1].mean()) == pytest.approx(float(y[1].mean()), abs=1e-4)


def test_jpeg_takes_grey_and_refuses_other_channels_and_qualities() -> None:
    grey = pictures(2, 1)
    assert JpegNoise().apply(grey, torch.tensor([50.0, 95.0]), seeded()).shape == grey.shape
    with pytest.raises(ParameterError, match="4 channels"):
        JpegNoise().apply(pictures(1, 4), torch.tensor([50.0]), seeded())
    for quality in (0.0, 101.0):
        with pytest.raises(ParameterError, match="at least 1 and at most 100"):
            JpegNoise().apply(grey, torch.tensor([50.0, quality]), seeded())


@pytest.mark.parametrize("name", NOISES)
def test_levels_stay_in_their_range_and_fill_it(name: str) -> None:
    ranges = {
        "gaussian": (0, 25),
        "correlated": (0, 15),
        "poisson": (100, 10000),
        "jpeg": (30, 95),
        "resized_jpeg": (30, 95),
        "sharpened": (0, 1),
        "weak_gaussian": (0.3, 5),
        "strong_gaussian": (25, 60),
        "grain": (1, 20),
        "halftone": (2, 20),
        "scanner_lines": (1, 10),
        "any_jpeg": (10, 98),
        "demosaicked": (0, 12),
        "denoised": (2, 25),
    }
    low, high = ranges[name]
    level = NOISES[name].sample_level(2000, seeded())
    assert low * 0.999 <= level.min() < low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) < level.max() <= high * 1.001


def test_gaussian_noise_passes_the_gradient() -> None:
    y = pictures().requires_grad_()
    noisy = GaussianNoise().apply(y, torch.full((3,), 10.0), seeded())
    (gradient,) = torch.autograd.grad(noisy.sum(), y)
    assert torch.equal(gradient, torch.ones_like(y))
