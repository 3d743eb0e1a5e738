"""The mean profiles of edges: line spread functions of made edges, sharpening, mirrored and transposed images."""

import math

import pytest
import torch
from torch import Tensor

from blinddiff.models.edge_profiles import LENGTH, REACH, edge_profiles

ACROSS, DOWN = 0, 1  # directions


def windows(luma: Tensor, area: Tensor | None = None) -> Tensor:
    """The profiles of one image (h, w): (directions, counts, features)."""
    area = torch.ones_like(luma, dtype=torch.bool) if area is None else area
    return edge_profiles(luma[None, None], area[None, None])[0]


def step(sigma: float, height: int = 64, width: int = 96) -> Tensor:
    """A vertical edge, a step from 0.2 to 0.8 blurred with a Gaussian, between two pixels."""
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    row = 0.2 + 0.6 * 0.5 * (1 + torch.erf(x / (sigma * math.sqrt(2))))
    return row.expand(height, -1).float()


@pytest.mark.parametrize("sigma", [0.7, 1.2, 2.5])
def test_the_profile_of_a_blurred_step_is_its_line_spread_function(sigma: float) -> None:
    profile = windows(step(sigma))[ACROSS, 0, :LENGTH]
    ends = torch.arange(LENGTH + 1, dtype=torch.float64) - REACH - 0.5
    expected = torch.erf(ends / (sigma * math.sqrt(2))).diff()
    torch.testing.assert_close(profile, (expected / expected.max()).float(), atol=1e-4, rtol=1e-3)
    assert not windows(step(sigma))[DOWN].any()  # no edges along the other axis


def test_falling_edges_have_the_same_profile() -> None:
    rising, falling = step(1.2), 1 - step(1.2)
    torch.testing.assert_close(windows(rising), windows(falling), atol=1e-4, rtol=1e-3)


def test_sharpening_shows_as_negative_lobes() -> None:
    sharpened = 2 * step(1.0) - step(math.sqrt(2.0))  # an unsharp mask of width 1 after a blur of width 1
    ends = torch.arange(LENGTH + 1, dtype=torch.float64) - REACH - 0.5
    spread = 2 * torch.erf(ends / math.sqrt(2)).diff() - torch.erf(ends / 2).diff()
    lobes = (spread / spread.max()).clamp(max=0).float()
    assert float(lobes.min()) < -0.03
    torch.testing.assert_close(windows(sharpened)[ACROSS, 0, LENGTH : 2 * LENGTH], lobes, atol=1e-3, rtol=1e-3)


def test_edges_outside_the_area_do_not_count() -> None:
    sharp, blurred = step(0.3), step(2.0)
    both = torch.cat([sharp, blurred])
    area = torch.ones_like(both, dtype=torch.bool)
    area[: len(sharp)] = False
    torch.testing.assert_close(windows(both, area)[ACROSS], windows(blurred)[ACROSS], atol=1e-4, rtol=1e-3)


def test_mirrored_and_transposed_images() -> None:
    torch.manual_seed(0)
    luma = torch.nn.functional.avg_pool2d(torch.rand(1, 62, 78), 3, 1)[0]
    here = windows(luma)
    turned = here[:, :, :-1].unflatten(-1, (2, LENGTH)).flip(-1).flatten(-2)
    backwards = torch.cat([turned, here[:, :, -1:]], -1)
    mirrored, transposed = windows(luma.flip(-1)), windows(luma.mT.contiguous())
    expected = torch.stack([backwards[0], here[1], here[3], here[2]])
    torch.testing.assert_close(mirrored, expected, atol=1e-4, rtol=1e-3)
    expected = torch.stack([here[1], here[0], here[2], backwards[3]])
    torch.testing.assert_close(transposed, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (17, 33)])
def test_small_and_flat_images_give_finite_profiles(size: tuple[int, int]) -> None:
    assert not windows(torch.full(size, 0.5)).any()
    assert windows(torch.rand(size)).isfinite().all()
