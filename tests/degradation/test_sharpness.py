"""MTF50, overshoot and the kind of noise, against closed formulas, a slanted edge and made noise."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff.degradation import NOISES, DegradationOperator
from blinddiff.degradation.kernels import isotropic_gaussian, unsharp_mask
from blinddiff.degradation.sharpness import noise_in_words, sharpness_of
from blinddiff.models.statistics import full_spectrum, noise_spectrum

SCRIPTS = Path(__file__).parents[2] / "scripts"


def gaussian(width: float, size: int = 31) -> Tensor:
    return isotropic_gaussian(torch.tensor([width], dtype=torch.float64), size)[0]


@pytest.mark.parametrize("width", [1.0, 1.6, 3.0])
def test_mtf50_of_a_gaussian(width: float) -> None:
    # exp(-2 pi^2 w^2 f^2) = 1/2
    expected = math.sqrt(math.log(2) / 2) / (math.pi * width)
    found = sharpness_of(gaussian(width), 1)
    assert found.mtf50 == pytest.approx((expected, expected), rel=2e-3)
    assert found.overshoot == pytest.approx(0, abs=1e-9)
    assert not found.sharpened


def test_directions_are_told_apart() -> None:
    row = gaussian(2.0).sum(0)[None]  # blurs along the rows only
    across, down = sharpness_of(row, 1).mtf50
    assert across == pytest.approx(math.sqrt(math.log(2) / 2) / (2 * math.pi), rel=2e-3)
    assert down is None


def test_a_point_is_limited_by_the_antialiasing_alone() -> None:
    point = torch.ones(1, 1)
    assert sharpness_of(point, 1).mtf50 == (None, None)
    across, _ = sharpness_of(point, 4).mtf50
    assert across is not None
    assert 0.4 < across < 0.6, "Keys' cubic is about 1/2 at the Nyquist frequency of y"


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_an_unsharp_mask_overshoots(strength: float) -> None:
    strengths, widths = torch.tensor([strength], dtype=torch.float64), torch.tensor([3.0], dtype=torch.float64)
    kernel = unsharp_mask(gaussian(1.0, 41)[None], strengths, widths)[0]
    found = sharpness_of(kernel, 1)
    assert found.sharpened
    # On the grid, the edge response is the cumulative sum of the line spread function.
    edge = np.cumsum(kernel.numpy().sum(0))
    assert found.overshoot == pytest.approx(max(edge.max() - 1, -edge.min()), rel=1e-6)
    assert found.facts()["sharpened"] is True


@pytest.mark.parametrize(("width", "scale"), [(2.0, 1), (1.6, 2), (3.0, 4)])
def test_mtf50_agrees_with_a_slanted_edge(width: float, scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method of ISO 12233, which knows only the picture of the edge."""
    monkeypatch.syspath_prepend(SCRIPTS)
    chart = importlib.import_module("measure_mtf")
    kernel = gaussian(width).float()
    edge = DegradationOperator(kernel[None], scale)(chart.slanted_edge(128 * scale)[None])[0, 0]
    measured = chart.slanted_edge_mtf50(edge.double().numpy())
    assert sharpness_of(kernel, scale).mtf50[0] == pytest.approx(measured, rel=0.05)


def made(name: str, level: float, **options: float) -> Tensor:
    """The relative spectrum of made noise, (16, 16)."""
    noise = type(NOISES[name])(**options)  # type: ignore[arg-type]
    y = torch.full((1, 3, 160, 160), 0.5)
    n = 255 * (noise.apply(y, torch.tensor([level]), torch.Generator().manual_seed(1)) - y)
    power = full_spectrum(noise_spectrum(n))[0]
    return power / power.mean()


@pytest.mark.parametrize("period", [2.5, 3.0, 4.3])
def test_a_screen_is_named_with_its_period(period: float) -> None:
    # The product of two cosines of a period P at right angles has waves of period P / sqrt(2) along both diagonals.
    spectrum = made("halftone", 10, min_period=period, max_period=period, max_angle=0.0, inks=0.0, toned=0.0)
    assert noise_in_words(10, spectrum) == f"printed screen of {period / math.sqrt(2):.1f} px"


def test_kinds_of_noise_in_words() -> None:
    white = made("gaussian", 10)
    grain = made("grain", 10, min_width=0.8, max_width=0.8)
    assert noise_in_words(10, white) == "white noise"
    assert noise_in_words(10, None) == "white noise"
    assert noise_in_words(10, grain) == "grain"
    assert noise_in_words(0.8, grain) == "none"
    assert noise_in_words(4, grain, jpeg_step=9.0) == "JPEG blocks"
    screen = made("halftone", 10, min_period=4.0, max_period=4.0, max_angle=0.0, inks=0.0, toned=0.0)
    assert noise_in_words(4, screen, jpeg_step=9.0) == "printed screen of 2.8 px and JPEG blocks"
    frequency = torch.fft.fftfreq(16)
    blue = 0.1 + torch.hypot(frequency[:, None], frequency).square()
    assert noise_in_words(4, blue / blue.mean()) == "fine noise"
