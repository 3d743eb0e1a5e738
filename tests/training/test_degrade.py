"""Training pairs made on the fly."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator, bicubic_upsample
from blinddiff.training.data import MARGIN, MAX_KERNEL_SIZE, Pairs, aligned, degrade, draw_scale
from blinddiff.training.recipe import DegradationRecipe

SCALES = [1, 2, 3, 4]
Degrade: TypeAlias = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """(4, 3, 144, 144) uint8: 96 and the margins."""
    coffee = skimage.data.coffee()  # type: ignore[no-untyped-call]
    pixels = torch.from_numpy(coffee.copy()).permute(2, 0, 1)
    return torch.stack(
        [pixels[:, top : top + 144, left : left + 144] for top, left in ((0, 0), (150, 60), (80, 300), (200, 400))]
    )


def make(photographs: Tensor, scale: int, seed: int = 0, **mixtures: dict[str, float] | float) -> Pairs:
    recipe = DegradationRecipe(**{"kernels": {"isotropic": 1.0}, "noise": {"none": 1.0}, **mixtures})  # type: ignore[arg-type]
    return degrade(photographs, scale, 31, recipe, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", SCALES)
def test_shapes_and_ranges(photographs: Tensor, scale: int) -> None:
    pairs = make(photographs, scale, noise={"gaussian": 1.0})
    assert pairs.x.shape == (4, 3, 96, 96)
    assert pairs.y.shape == (4, 3, 96 // scale, 96 // scale)
    assert pairs.kernel.shape == (4, 31, 31)
    assert pairs.noise_level.shape == (4,)
    assert pairs.scale == scale
    torch.testing.assert_close(pairs.kernel.sum((1, 2)), torch.ones(4))
    torch.testing.assert_close(pairs.x, photographs[..., MARGIN:-MARGIN, MARGIN:-MARGIN] / 255)
    for image in (pairs.x, pairs.y):
        assert image.min() >= 0
        assert image.max() <= 1
        torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kernels", ["isotropic", "motion", "line_motion"])
@pytest.mark.parametrize("scale", SCALES)
def test_y_is_the_degraded_photograph_and_nothing_wraps_round(photographs: Tensor, scale: int, kernels: str) -> None:
    pairs = make(photographs, scale, kernels={kernels: 1.0})
    whole = DegradationOperator(pairs.kernel, scale)(photographs.float() / 255)  # reflect: circular is cut off
    margin = MARGIN // scale
    expected = whole[..., margin:-margin, margin:-margin]
    assert (pairs.y - expected).abs().max() < 0.51 / 255, "but for rounding to 8 bits"


def reaches_across(size: int) -> bool:
    """Whether the last column of a photograph, blurred by the widest kernel of a size, wraps round into y."""
    photograph = torch.zeros(1, 1, 96, 96, dtype=torch.float64)
    photograph[..., -1] = 1
    kernel = torch.full((1, size, size), 1 / size**2, dtype=torch.float64)
    y = DegradationOperator(kernel, 4, boundary="circular")(photograph)
    return bool(y[..., MARGIN // 4].abs().max() > 1e-9)


def test_the_margin_holds_the_largest_kernel() -> None:
    assert not reaches_across(MAX_KERNEL_SIZE)
    assert reaches_across(MAX_KERNEL_SIZE + 2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_decimated_images_are_made_as_div2krk_was(photographs: Tensor, scale: int, div2krk_degrade: Degrade) -> None:
    pairs = make(photographs, scale, kernels={"anisotropic": 1.0}, decimated=1.0)
    margin = MARGIN // scale
    for photograph, kernel, y in zip(photographs, pairs.kernel, pairs.y, strict=True):
        # The set's recipe correlates, where we convolve.
        expected = div2krk_degrade(photograph.permute(1, 2, 0).numpy(), kernel.flip(0, 1).double().numpy(), scale)
        difference = 255 * y.permute(1, 2, 0) - torch.from_numpy(expected[margin:-margin, margin:-margin]).float()
        assert difference.abs().mean() < 0.7, "it truncates, where we round: half a grey level"
        assert difference.abs().max() < 4


def test_decimated_images_have_a_share(photographs: Tensor) -> None:
    many = photographs.repeat(8, 1, 1, 1)
    pairs = make(many, 4, decimated=0.5)
    clean = DegradationOperator(pairs.kernel, 4)(many.float() / 255)[..., 6:-6, 6:-6]
    as_bicubic = ((pairs.y - clean).abs().amax((1, 2, 3)) < 0.51 / 255).sum()
    assert 6 < as_bicubic < 26


@pytest.mark.parametrize("scale", SCALES)
def test_x_and_y_are_aligned(photographs: Tensor, scale: int) -> None:
    pairs = make(photographs, scale)
    blurred = DegradationOperator(pairs.kernel, scale).blur(pairs.x)
    enlarged = bicubic_upsample(pairs.y, scale)
    inner = slice(20, -20)

    def difference(down: int, right: int) -> float:
        return float((enlarged.roll((down, right), (2, 3)) - blurred)[..., inner, inner].square().mean().sqrt())

    here = difference(0, 0)
    assert here < 0.04
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert difference(*shift) > 1.3 * here, f"{shift} is no better"


@pytest.mark.parametrize("scale", SCALES)
def test_gaussian_noise_level_is_the_noise_that_came_out(photographs: Tensor, scale: int) -> None:
    grey = (photographs.float() * 0.4 + 75).to(torch.uint8)  # away from black and white: nothing is clipped
    pairs = make(grey.repeat(4, 1, 1, 1), scale, noise={"gaussian": 1.0})
    margin = -(-24 // scale)
    residual = (pairs.y - DegradationOperator(pairs.kernel, scale)(pairs.x))[..., margin:-margin, margin:-margin]
    measured = 255 * residual.square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(pairs.noise_level, measured, atol=0.05, rtol=0.12)
    assert pairs.noise_level.max() < 25.5
    assert pairs.noise_level.max() > 2 * pairs.noise_level.min(), "levels differ within a batch"


def test_noise_level_of_flat_grey_is_the_standard_deviation() -> None:
    flat = torch.full((6, 3, 304, 304), 128, dtype=torch.uint8)
    pairs = make(flat, 2, noise={"gaussian": 1.0})
    spread = 255 * pairs.y.flatten(1).std(1)
    torch.testing.assert_close(pairs.noise_level, spread, atol=0.02, rtol=0.01)


def test_without_noise_only_rounding_is_left(photographs: Tensor) -> None:
    pairs = make(photographs, 2)
    torch.testing.assert_close(pairs.noise_level, torch.full((4,), 12**-0.5), atol=0.03, rtol=0)


def test_black_and_white_images_have_a_share(photographs: Tensor) -> None:
    pairs = make(photographs.repeat(16, 1, 1, 1), 4, noise={"none": 1.0}, grey=0.5)
    grey_x, grey_y = ((each - each[:, :1]).abs().amax((1, 2, 3)) < 1e-6 for each in (pairs.x, pairs.y))
    assert torch.equal(grey_x, grey_y)
    assert 0.2 < float(grey_x.float().mean()) < 0.8
    coloured = make(photographs, 4, noise={"none": 1.0}).x
    assert float((coloured - coloured[:, :1]).abs().max()) > 0.1


def test_mixtures_are_drawn_for_each_image(photographs: Tensor) -> None:
    pairs = make(photographs.repeat(8, 1, 1, 1), 2, noise={"none": 0.5, "gaussian": 0.5})
    silent = (pairs.noise_level < 0.35).sum()
    assert 6 < silent < 26
    assert len({float(k.max()) for k in pairs.kernel}) > 16


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "jpeg", "correlated"])
def test_the_same_generator_gives_the_same_pairs(photographs: Tensor, noise: str) -> None:
    first, again, other = (make(photographs, 4, seed, noise={noise: 1.0}) for seed in (3, 3, 4))
    for name in ("x", "y", "kernel", "noise_level"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.y, other.y)
    assert not torch.equal(first.kernel, other.kernel)
    assert (first.noise_level > 0.3).all()


@pytest.mark.parametrize("scale", SCALES)
def test_patches_of_x_and_y_show_the_same(photographs: Tensor, scale: int) -> None:
    pairs = make(photographs, scale)
    generator = torch.Generator().manual_seed(0)
    side, corners = 48, set()
    for _ in range(60):
        rows, columns, small_rows, small_columns = pairs.patch(side, generator)
        x, y = pairs.x[..., rows, columns], pairs.y[..., small_rows, small_columns]
        assert x.shape == (4, 3, side, side)
        assert y.shape == (4, 3, side // scale, side // scale)
        assert (rows.start, columns.start) == (scale * small_rows.start, scale * small_columns.start)
        corners.add((rows.start, columns.start))
    assert len(corners) > 20
    assert max(row for row, _ in corners) > 30
    rows, *_ = pairs.patch(96, generator)
    assert (rows.start, rows.stop) == (0, 96)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", [16, 32, 64, 100, 128, 192, 256])
def test_aligned_sides_are_divided_by_scale_and_network(side: int, scale: int) -> None:
    result = aligned(side, scale)
    assert result > 0
    assert result % scale == 0
    assert result % 16 == 0
    assert abs(result - side) <= 32


def test_scales_are_drawn_by_their_shares() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_scale(DegradationRecipe(scales={1: 0.0, 2: 1.0, 4: 3.0}), generator) for _ in range(400)]
    assert set(drawn) == {2, 4}
    assert drawn.count(4) / 400 == pytest.approx(0.75, abs=0.07)
