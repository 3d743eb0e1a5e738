"""The spectral statistics: what they say of scale, blur, noise, mirroring and size."""

import itertools
import math

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models.statistics import NOISE_CLUES, STATISTICS, estimator_statistics, spectral_statistics

SPECTRUM = 16 * 9
MEAN, SHAPE, STRONGEST, WEAKEST = (slice(i * SPECTRUM, (i + 1) * SPECTRUM) for i in range(4))
QUANTILES = slice(4 * SPECTRUM, 4 * SPECTRUM + 20)
HARMONICS = slice(4 * SPECTRUM + 20, 4 * SPECTRUM + 28)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """(1, 3, 200, 304): the blocks (16 wide, 8 apart) reach all sides, so that mirroring keeps the set of blocks."""
    pixels = skimage.data.cat()[60:260, 80:384].copy()  # type: ignore[no-untyped-call]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def spectrum(y: Tensor, part: slice = MEAN) -> Tensor:
    """(16, 9): vertical frequencies 0..8, -7..-1, horizontal frequencies 0..8."""
    return spectral_statistics(y)[0, part].unflatten(0, (16, 9))


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (2, 3), (5, 7), (15, 15), (16, 16), (17, 16), (23, 25), (24, 24), (33, 47), (100, 8)]
)
def test_any_size_gives_finite_statistics(size: tuple[int, int]) -> None:
    y = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    statistics = spectral_statistics(y)
    assert statistics.shape == (2, STATISTICS)
    assert statistics.dtype == torch.float32
    assert torch.isfinite(statistics).all()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images_give_finite_statistics(value: float) -> None:
    assert torch.isfinite(spectral_statistics(torch.full((1, 3, 32, 32), value))).all()


def test_number_of_statistics() -> None:
    assert STATISTICS == 4 * 16 * 9 + 4 * 5 + 8


def test_batch_equals_single(photograph: Tensor) -> None:
    y = torch.cat([photograph, photograph.flip(3) ** 2])
    together = spectral_statistics(y)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], spectral_statistics(y[i : i + 1]), atol=1e-4, rtol=1e-4)


def test_double_precision_is_accepted(photograph: Tensor) -> None:
    torch.testing.assert_close(spectral_statistics(photograph.double()), spectral_statistics(photograph))


def test_only_the_mean_channel_counts(photograph: Tensor) -> None:
    grey = photograph.mean(1, keepdim=True)
    torch.testing.assert_close(spectral_statistics(grey), spectral_statistics(photograph), atol=1e-3, rtol=1e-3)


def test_brightness_counts_for_nothing(photograph: Tensor) -> None:
    darker, brighter = 0.5 * photograph, 0.5 * photograph + 0.4
    torch.testing.assert_close(spectral_statistics(brighter), spectral_statistics(darker), atol=2e-2, rtol=1e-3)


def test_contrast_moves_powers_but_not_shapes(photograph: Tensor) -> None:
    full, half = spectral_statistics(photograph)[0], spectral_statistics(0.5 * photograph)[0]
    torch.testing.assert_close(half[MEAN], full[MEAN] - 2 * math.log(2), atol=2e-2, rtol=0)
    # The faintest frequencies of the strongest blocks feel the floor a little; 2 log 2 = 1.4 would be no normalisation.
    torch.testing.assert_close(half[STRONGEST], full[STRONGEST], atol=0.1, rtol=0)
    large = full[QUANTILES] > math.log(0.02)  # well above the floor of 1e-4
    assert large.sum() >= 10
    shifted = full[QUANTILES] - math.log(2)
    torch.testing.assert_close(half[QUANTILES][large], shifted[large], atol=1e-2, rtol=0)


def test_the_scale_of_an_image_changes_them(photograph: Tensor) -> None:
    enlarged = torch.nn.functional.interpolate(photograph, scale_factor=2, mode="bicubic")
    difference = spectrum(enlarged, SHAPE) - spectrum(photograph, SHAPE)
    assert difference[8, :].mean() < -2, "twice as large, half the detail a pixel"
    assert difference[1, 0] > difference[8, 8]


def test_blur_takes_high_frequencies(photograph: Tensor) -> None:
    high = []
    for sigma in (0.3, 0.45, 0.6, 0.75):  # wider ones leave nothing above the floor at the highest frequencies
        blurred = DegradationOperator(isotropic_gaussian(sigma, 13), 1)(photograph)
        high.append([float(spectrum(blurred, part)[6:11, 6:].mean()) for part in (MEAN, SHAPE, STRONGEST)])
    for narrower, wider in itertools.pairwise(high):
        assert all(w < n - 0.1 for n, w in zip(narrower, wider, strict=True))


def test_blurred_white_noise_has_the_spectrum_of_its_kernel() -> None:
    # E|F(w n)|^2 is the transform of the autocorrelations of kernel and window (of unit energy), multiplied.
    noise = torch.randn(1, 1, 600, 600, generator=torch.Generator().manual_seed(0))
    sigma = 0.7
    measured = spectrum(DegradationOperator(isotropic_gaussian(sigma, 13), 1)(noise))
    lags = np.arange(-15, 16)
    hann = np.hanning(16)
    window = np.correlate(hann, hann, "full") / (hann**2).sum()
    line = np.exp(-(np.arange(-6, 7) ** 2) / (2 * sigma**2))
    line /= line.sum()
    kernel = np.zeros(31)
    kernel[3:28] = np.correlate(line, line, "full")
    omega = 2 * np.pi * np.fft.fftfreq(16)
    power = np.array([(kernel * window * np.cos(w * lags)).sum() for w in omega])
    expected = torch.from_numpy(np.log(power[:, None] * power[None, :9])).float()
    away = (slice(2, 15), slice(2, 9))  # each block's mean is removed, which the lowest frequencies feel
    torch.testing.assert_close(measured[away], expected[away], atol=0.15, rtol=0)


@pytest.mark.parametrize("sigma", [1.0, 5.0, 15.0])
def test_the_flattest_blocks_show_the_noise(sigma: float) -> None:
    # The window has unit energy, so white noise has its variance at every frequency; the mean of 3 channels, a third.
    y = 0.5 + sigma / 255 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    expected = math.log((sigma / 255) ** 2 / 3 + 1e-8)
    inner = (slice(2, 15), slice(2, 8))
    torch.testing.assert_close(spectrum(y)[inner], torch.full((13, 6), expected), atol=0.25, rtol=0)
    texture = torch.rand(1, 1, 160, 256, generator=torch.Generator().manual_seed(1)) - 0.5
    y[..., :160, :] += 0.7 * texture  # over a part of it, without clipping
    assert float(spectrum(y, WEAKEST)[inner].mean()) == pytest.approx(expected, abs=0.35)


@pytest.mark.parametrize("axis", [2, 3])
def test_mirroring_mirrors_the_spectra(photograph: Tensor, axis: int) -> None:
    # A real image's spectrum is even, so turning either axis round turns the vertical frequencies round.
    rotated = [-i % 16 for i in range(16)]
    for part in (MEAN, SHAPE, STRONGEST, WEAKEST):
        mirrored = spectrum(photograph.flip(axis), part)
        torch.testing.assert_close(mirrored, spectrum(photograph, part)[rotated], atol=1e-2, rtol=1e-3)
    quantiles = spectral_statistics(photograph)[0, QUANTILES].unflatten(0, (4, 5))
    mirrored = spectral_statistics(photograph.flip(axis))[0, QUANTILES].unflatten(0, (4, 5))
    torch.testing.assert_close(mirrored, quantiles[[0, 1, 3, 2]], atol=1e-4, rtol=1e-4)


def test_a_half_turn_changes_nothing(photograph: Tensor) -> None:
    sensible = slice(0, QUANTILES.stop)
    here, rotated = (spectral_statistics(y)[:, sensible] for y in (photograph, photograph.flip(2, 3)))
    torch.testing.assert_close(rotated, here, atol=1e-2, rtol=1e-3)


def test_transposing_swaps_the_axes(photograph: Tensor) -> None:
    here, there = spectrum(photograph), spectrum(photograph.transpose(2, 3))
    torch.testing.assert_close(there[:9], here[:9].T, atol=1e-3, rtol=1e-3)
    quantiles, swapped = (
        spectral_statistics(y)[0, QUANTILES].unflatten(0, (4, 5)) for y in (photograph, photograph.transpose(2, 3))
    )
    torch.testing.assert_close(swapped, quantiles[[1, 0, 2, 3]], atol=1e-4, rtol=1e-4)


def test_blocks_of_eight_pixels_stand_out(photograph: Tensor) -> None:
    # A step between blocks is two second differences side by side, whose fourth harmonic is zero: three are left.
    steps = torch.rand(1, 1, 25, 38, generator=torch.Generator().manual_seed(0)) / 20
    both = 0.7 * photograph + steps.repeat_interleave(8, 2).repeat_interleave(8, 3)
    columns = 0.7 * photograph + steps[:, :, :1].repeat_interleave(8, 3)
    plain, blocky, striped = (
        spectral_statistics(y)[0, HARMONICS].unflatten(0, (2, 4))[:, :3] for y in (photograph, both, columns)
    )
    assert (blocky > plain + 0.1).all()
    assert (striped[1] > plain[1] + 0.1).all(), "steps between columns are seen along the second axis"
    torch.testing.assert_close(striped[0], plain[0], atol=0.05, rtol=0)


def test_a_large_image_is_described_by_its_most_informative_windows(
    photograph: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside much blue sky, the statistics are those of the part that shows something."""
    monkeypatch.setattr("blinddiff.models.statistics.WINDOW", 64)
    monkeypatch.setattr("blinddiff.models.statistics.MAX_WINDOWS", 6)
    part = photograph[..., :128, :192]
    shade = 0.02 * (torch.arange(256)[:, None] / 256 + torch.arange(512) / 512)  # a flat colour would be a frame
    large = (0.6 + shade).expand(2, 3, 256, 512).clone()
    large[0, :, 64:192, 128:320] = part
    large[1, :, :128, 320:] = part.flip(-1)
    alone, within = spectral_statistics(torch.cat([part, part.flip(-1)])), spectral_statistics(large)
    # Blocks over the windows' edges are left out: 294 of 345 count.
    torch.testing.assert_close(within[:, MEAN], alone[:, MEAN], atol=0.5, rtol=0)
    assert (within - alone).abs().mean() < 0.1
    monkeypatch.setattr("blinddiff.models.statistics.MAX_WINDOWS", 100)
    assert (spectral_statistics(large) - alone).abs().mean() > 0.5
    monkeypatch.setattr("blinddiff.models.statistics.MAX_WINDOWS", 2)
    thin = spectral_statistics(photograph[:, :, :30].repeat(1, 1, 1, 5))
    assert torch.isfinite(thin).all()


def test_even_windows_are_a_fair_sample_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is busy: the most informative windows are all there, even ones see both halves as the whole does."""
    image = 0.5 + 0.02 * torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    image[..., 256:] = 0.5 + 0.2 * (image[..., 256:] - 0.5)
    whole = spectral_statistics(image)
    monkeypatch.setattr("blinddiff.models.statistics.MAX_WINDOWS", 8)
    busy, fair = spectral_statistics(image), spectral_statistics(image, windows="even")
    powers = slice(0, 144)
    assert (fair - whole)[0, powers].abs().mean() < 0.15
    assert (busy - whole)[0, powers].mean() > 0.5


def test_gradient_quantiles_are_those_of_numpy(photograph: Tensor) -> None:
    found = spectral_statistics(photograph)[0, QUANTILES].unflatten(0, (4, 5))
    grey = photograph.mean(1)[0].numpy()
    steps = np.abs(grey[:, 1:] - grey[:, :-1])
    expected = np.log(np.quantile(steps, (0.5, 0.9, 0.97, 0.99, 0.999), method="higher") + 1e-4)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-2)
    recorded = spectral_statistics(photograph.clone().requires_grad_()).detach()
    torch.testing.assert_close(recorded[0, QUANTILES], found.flatten())


def clues(y: Tensor) -> Tensor:
    """`Statistics.clues` of one image at the inner frequencies, (NOISE_CLUES, frequencies)."""
    found = estimator_statistics(Observation(y, 1)).clues
    assert found.shape == (1, NOISE_CLUES, 16, 9)
    return found[0, :, 2:7, 2:7].flatten(1)


def test_all_clues_to_white_noise_say_its_level() -> None:
    sigma = 10.0
    noise = sigma / 255 * torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    mean, flattest, chroma, flat_chroma, log_mean, log_half, deviation = clues(0.5 + noise).mean(1).tolist()
    luma = math.log(sigma**2 / 3)
    assert mean == pytest.approx(luma, abs=0.1)
    assert chroma == pytest.approx(math.log(sigma**2), abs=0.1)
    # The logarithm of an exponential variable has the mean -0.577 (Euler's constant) and the deviation pi / sqrt(6).
    assert log_mean == pytest.approx(luma - 0.577, abs=0.1)
    assert deviation == pytest.approx(math.pi / math.sqrt(6), abs=0.1)
    assert mean - 0.7 < flattest < mean, "chosen for little energy"
    assert log_mean - 0.4 < log_half < log_mean
    assert flat_chroma == pytest.approx(chroma, abs=0.15), "chosen by luma"


def test_clues_tell_grain_and_halftone_from_detail(photograph: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    grain = 10 / 255 * torch.randn(1, 1, 200, 304, generator=generator).expand(-1, 3, -1, -1)
    rows, columns = torch.arange(200.0)[:, None], torch.arange(304.0)
    pattern = 20 / 255 * (2 * math.pi * rows / 4).cos() * (2 * math.pi * columns / 4).cos()
    sharp, grainy, printed = (clues(photograph + part) for part in (0 * grain, grain, pattern[None, None]))
    spread, chroma, flattest = 6, 2, 1
    assert sharp[spread].mean() > grainy[spread].mean() + 0.3, "detail is not alike in all blocks"
    assert (grainy[chroma] - sharp[chroma]).abs().max() < 0.1, "grey grain has no chroma"
    peak = 2 * 5 + 2  # a quarter of a cycle per pixel, both ways
    assert int((printed[flattest] - sharp[flattest]).argmax()) == peak
    assert printed[spread, peak] < 0.5
