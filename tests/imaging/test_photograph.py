"""Replacing the colours under transparent parts."""

import pytest
import torch

from blinddiff.imaging.photograph import spread_colours


def disc(h, w, radius):
    row, column = torch.meshgrid(torch.arange(h) - h / 2, torch.arange(w) - w / 2, indexing="ij")
    return (((row**2 + column**2).sqrt() < radius).float())[None]


def test_visible_colours_stay_and_hidden_ones_follow_them():
    pixels = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    alpha = disc(40, 60, 12)
    spread = spread_colours(pixels, alpha)
    visible = alpha.expand(3, -1, -1) > 0
    assert torch.equal(spread[visible], pixels[visible])
    low, high = pixels[visible].min(), pixels[visible].max()
    assert low - 1e-5 <= spread.min()
    assert spread.max() <= high + 1e-5


def test_nothing_hidden_has_any_influence():
    generator = torch.Generator().manual_seed(1)
    pixels, alpha = torch.rand(3, 37, 23, generator=generator), disc(37, 23, 9)
    other = torch.where(alpha > 0, pixels, torch.rand(3, 37, 23, generator=generator))
    assert torch.equal(spread_colours(pixels, alpha), spread_colours(other, alpha))


def test_one_colour_fills_everything():
    alpha = torch.zeros(1, 33, 50)
    alpha[0, 5, 7] = 1
    pixels = torch.rand(3, 33, 50)
    pixels[:, 5, 7] = torch.tensor([0.2, 0.4, 0.6])
    torch.testing.assert_close(
        spread_colours(pixels, alpha), torch.tensor([0.2, 0.4, 0.6])[:, None, None].expand(3, 33, 50)
    )


def test_the_nearest_colour_counts_most():
    pixels, alpha = torch.zeros(3, 8, 64), torch.zeros(1, 8, 64)
    alpha[..., :4], alpha[..., -4:] = 1, 1
    pixels[..., -4:] = 1
    across = spread_colours(pixels, alpha)[0, 4]
    assert across[8] < 0.1
    assert across[-9] > 0.9
    assert (across.diff() > -0.05).all()


def test_half_transparent_colours_count_as_they_are():
    pixels = torch.rand(3, 20, 20)
    assert torch.equal(spread_colours(pixels, torch.full((1, 20, 20), 0.5)), pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 1), (2, 3), (5, 1000)])
def test_any_size(size):
    pixels = torch.rand(3, *size)
    alpha = (torch.rand(1, *size) > 0.7).float()
    spread = spread_colours(pixels, alpha)
    assert spread.shape == pixels.shape
    assert torch.isfinite(spread).all()
    assert torch.equal(spread_colours(pixels, torch.zeros(1, *size)), pixels)
