"""Replacing the colours under transparent parts."""

import numpy as np
import pytest

from blinddiff.imaging.photograph import spread_colours


def disc(h, w, radius):
    row, column = np.mgrid[:h, :w]
    return (np.hypot(row - h / 2, column - w / 2) < radius).astype(np.float32)[None]


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def test_visible_colours_stay_and_hidden_ones_follow_them():
    pixels = random(3, 40, 60)
    alpha = disc(40, 60, 12)
    spread = spread_colours(pixels, alpha)
    visible = np.broadcast_to(alpha, pixels.shape) > 0
    assert np.array_equal(spread[visible], pixels[visible])
    low, high = pixels[visible].min(), pixels[visible].max()
    assert low - 1e-5 <= spread.min()
    assert spread.max() <= high + 1e-5


def test_nothing_hidden_has_any_influence():
    pixels, alpha = random(3, 37, 23, seed=1), disc(37, 23, 9)
    other = np.where(alpha > 0, pixels, random(3, 37, 23, seed=2))
    assert np.array_equal(spread_colours(pixels, alpha), spread_colours(other, alpha))


def test_one_colour_fills_everything():
    alpha = np.zeros((1, 33, 50), np.float32)
    alpha[0, 5, 7] = 1
    pixels = random(3, 33, 50)
    pixels[:, 5, 7] = 0.2, 0.4, 0.6
    expected = np.broadcast_to(np.array([0.2, 0.4, 0.6])[:, None, None], (3, 33, 50))
    np.testing.assert_allclose(spread_colours(pixels, alpha), expected, atol=1e-5)


def test_the_nearest_colour_counts_most():
    pixels, alpha = np.zeros((3, 8, 64), np.float32), np.zeros((1, 8, 64), np.float32)
    alpha[..., :4], alpha[..., -4:] = 1, 1
    pixels[..., -4:] = 1
    across = spread_colours(pixels, alpha)[0, 4]
    assert across[8] < 0.1
    assert across[-9] > 0.9
    assert (np.diff(across) > -0.05).all()


def test_half_transparent_colours_count_as_they_are():
    pixels = random(3, 20, 20)
    assert np.array_equal(spread_colours(pixels, np.full((1, 20, 20), 0.5, np.float32)), pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 1), (2, 3), (5, 1000)])
def test_any_size(size):
    pixels = random(3, *size)
    alpha = (random(1, *size, seed=1) > 0.7).astype(np.float32)
    spread = spread_colours(pixels, alpha)
    assert spread.shape == pixels.shape
    assert np.isfinite(spread).all()
    assert np.array_equal(spread_colours(pixels, np.zeros((1, *size), np.float32)), pixels)
