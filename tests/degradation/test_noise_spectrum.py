"""Noise with a power spectrum: in the data term, in the kinds of noise, and as measured."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian
from blinddiff.degradation.noise import Demosaicked, Denoised, Grain, Halftone, ScannerLines
from blinddiff.degradation.processing import quantisation_step
from blinddiff.models.statistics import estimator_statistics, full_spectrum, noise_spectrum, transformed_spectrum

GREY = 128 / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_data_term_is_the_dense_solution(dense: Callable[..., np.ndarray], scale: int) -> None:
    """With noise of covariance C and a white prior: x = x_hat + A^T (A A^T + C)^-1 (y - A x_hat)."""
    side, kernel = 6, anisotropic_gaussian(0.8, 1.4, 0.5, 5).double()
    rho = 10 ** torch.empty(1, side, side, dtype=torch.float64).uniform_(-3, 0, generator=seeded(3))
    rho = (rho + rho.flip(1).roll(1, 1).flip(2).roll(1, 2)) / 2  # S(f) = S(-f), as for real noise
    A = dense(kernel, (side * scale, side * scale), scale, None, "circular")
    units = np.eye(side**2).reshape(-1, side, side)
    C = np.fft.ifft2(np.fft.fft2(units) * rho[0].numpy()).real.reshape(side**2, side**2).T
    y = torch.rand(1, 1, side, side, dtype=torch.float64, generator=seeded(1))
    x_hat = torch.rand(1, 1, side * scale, side * scale, dtype=torch.float64, generator=seeded(2))
    found = DegradationOperator(kernel, scale, boundary="circular").proximal(y, x_hat, rho)
    flat = x_hat.flatten().numpy()
    expected = flat + A.T @ np.linalg.solve(A @ A.T + C, y.flatten().numpy() - A @ flat)
    np.testing.assert_allclose(found.flatten(), expected, atol=1e-9)


@pytest.mark.parametrize("boundary", ["reflect", "circular"])
def test_a_constant_spectrum_is_white_noise(boundary: str) -> None:
    y, x_hat = torch.rand(2, 3, 20, 23, generator=seeded(1)), torch.rand(2, 3, 40, 46, generator=seeded(2))
    operator = DegradationOperator(anisotropic_gaussian(1.0, 1.4, 0.5, 9), 2, boundary=boundary)  # type: ignore[arg-type]
    rho = torch.tensor([1e-3, 2e-2])
    found = operator.proximal(y, x_hat, rho[:, None, None].expand(2, 16, 16))
    torch.testing.assert_close(found, operator.proximal(y, x_hat, rho), atol=1e-5, rtol=1e-4)


def test_a_known_screen_is_left_out_of_the_closed_form() -> None:
    """A pattern that covers the image is copied by white weights, and suppressed where the spectrum says that it is."""
    flat = torch.full((1, 3, 96, 96), GREY)
    x = flat.clone()
    x[..., 30:60, 20:70] += 0.3
    level, kernel = torch.tensor([3.0]), isotropic_gaussian(1.0, 9)[None]
    pattern = Halftone(min_period=4.0, max_period=4.0).apply(flat, level, seeded(4)) - GREY
    observation = Observation(DegradationOperator(kernel, 1)(x) + pattern, 1)
    spectrum = full_spectrum(noise_spectrum(255 * pattern) + 0.1)
    spectrum = spectrum / spectrum.mean()
    error = {
        name: float((Degradation(kernel, level, None, shape).closed_form(observation) - x).square().mean())
        for name, shape in {"white": None, "spectrum": spectrum}.items()
    }
    assert error["spectrum"] < 0.9 * error["white"]


def test_the_measured_spectrum_is_that_of_the_filter() -> None:
    white = torch.randn(8, 3, 256, 256, generator=seeded())
    taps = torch.tensor([0.25, 0.5, 0.25])
    filtered = sum(t * white.roll(i - 1, -1) for i, t in enumerate(taps))
    assert isinstance(filtered, Tensor)
    f = np.fft.rfftfreq(16)
    gain = (0.5 + 0.5 * np.cos(2 * np.pi * f)) ** 2
    found = noise_spectrum(filtered).mean(0).numpy()[1:]
    np.testing.assert_allclose(found[:, 1:5], np.broadcast_to(gain[1:5], (15, 4)), rtol=0.12)
    np.testing.assert_allclose(noise_spectrum(white).mean(0)[1:], 1, rtol=0.15)


@pytest.mark.parametrize("kind", [Grain(), ScannerLines()], ids=lambda kind: kind.name)
def test_levels_at_mid_grey(kind: Grain) -> None:
    y = torch.full((16, 3, 96, 96), GREY)
    noise = 255 * (kind.apply(y, torch.full((16,), 8.0), seeded()) - y)
    expected = 8.0 if kind.name == "grain" else 8 * (1 + 1 / 9) ** 0.5
    assert float(noise.square().mean().sqrt()) == pytest.approx(expected, rel=0.05)


def test_grain_is_mostly_the_same_in_all_channels() -> None:
    y = torch.full((8, 3, 96, 96), GREY)
    noise = Grain(grey=0.0).apply(y, torch.full((8,), 8.0), seeded()) - y
    red, green = noise[:, 0].flatten(1), noise[:, 1].flatten(1)
    correlation = (red * green).mean(1) / (red.square().mean(1) * green.square().mean(1)).sqrt()
    assert ((correlation > 0.5) & (correlation < 1)).all()


def test_a_screen_has_its_period_and_level() -> None:
    y = torch.full((1, 1, 128, 128), GREY)
    kind = Halftone(min_period=4.0, max_period=4.0)
    pattern = (kind.apply(y, torch.tensor([6.0]), seeded()) - y)[0, 0]
    assert float(255 * pattern.square().mean().sqrt()) == pytest.approx(6.0, rel=0.03)
    power = torch.fft.fft2(pattern * torch.hann_window(128)[:, None] * torch.hann_window(128)).abs()
    f = torch.fft.fftfreq(128)
    row, column = divmod(int(power.argmax()), 128)
    # cos(a) cos(b) has its frequencies at the sums and differences of two at right angles: sqrt(2) / 4.
    assert float(torch.hypot(f[row], f[column])) == pytest.approx(2**0.5 / 4, abs=0.01)


def test_demosaicking_keeps_flat_colours_and_correlates_noise() -> None:
    y = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous()
    torch.testing.assert_close(Demosaicked().apply(y, torch.zeros(1), seeded()), y)
    noise = (Demosaicked().apply(y, torch.full((1,), 10.0), seeded()) - y)[0]
    next_to_each_other = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.square().mean()
    assert next_to_each_other > 0.2


def test_a_camera_denoises_flat_areas_and_keeps_texture() -> None:
    flat, texture = torch.full((1, 3, 64, 64), GREY), torch.rand(1, 3, 64, 64, generator=seeded(5))
    level = torch.full((1,), 10.0)
    left = {name: Denoised().apply(y, level, seeded()) - y for name, y in (("flat", flat), ("texture", texture))}
    assert 255 * left["flat"].square().mean().sqrt() < 5
    assert 255 * left["texture"].square().mean().sqrt() > 8


@pytest.mark.parametrize("quality", [10, 49, 50, 75, 98])
def test_the_quantisation_step_is_that_of_the_encoder(tmp_path, quality: int) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        table = image.quantization[0]  # type: ignore[attr-defined]
    assert float(quantisation_step(torch.tensor([float(quality)]))) == pytest.approx(np.mean(table), abs=1e-4)


def test_flat_blocks_show_the_noise_of_all_channels() -> None:
    y = torch.full((1, 3, 160, 160), GREY)
    own, shared = torch.randn(y.shape, generator=seeded()), torch.randn(1, 1, 160, 160, generator=seeded(1))
    for noise in (own, shared.expand_as(y)):
        flat = estimator_statistics(Observation(y + 10 / 255 * noise, 1)).flat
        assert 60 < float(flat.mean()) < 105, "a little less than 100, because the flattest blocks are chosen"


def test_spectra_turn_with_the_image() -> None:
    image = torch.randn(1, 16, 16, generator=seeded())
    power = full_spectrum(torch.fft.rfft2(image).abs().square())
    torch.testing.assert_close(power, torch.fft.fft2(image).abs().square(), atol=1e-3, rtol=1e-4)
    for transform in (lambda a: a.rot90(1, (-2, -1)), lambda a: a.flip(-1), lambda a: a.flip(-1).rot90(3, (-2, -1))):
        expected = torch.fft.fft2(transform(image)).abs().square()
        torch.testing.assert_close(transformed_spectrum(power, transform), expected, atol=1e-3, rtol=1e-4)
