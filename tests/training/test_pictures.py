"""Made-up pictures for the classifier: each is of the kind that its name says."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.models.picture_kind import PICTURE_KINDS
from blinddiff.training.pictures import FACTOR_RANGE, dithered, drawing, enlarged, gradient, make_picture


def photograph(height: int = 60, width: int = 84) -> Tensor:
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(4))
    return F.avg_pool2d(x, 3, 1, 1)[0]


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_pictures_keep_the_size_and_depend_on_the_generator_alone(kind: str) -> None:
    for seed in range(6):
        picture, factor = make_picture(kind, photograph(), np.random.default_rng(seed))
        again, _ = make_picture(kind, photograph(), np.random.default_rng(seed))
        assert picture.shape == photograph().shape
        assert torch.equal(picture, again)
        assert 0 <= float(picture.min()) <= float(picture.max()) <= 1
        assert (factor > 1) == (kind == "enlarged")


def test_enlarged_pictures_have_no_detail_above_their_own_nyquist_frequency() -> None:
    spectrum = _share_above(photograph(), 0.5)
    for seed in range(20):
        picture, factor = enlarged(photograph(), np.random.default_rng(seed))
        assert FACTOR_RANGE[0] <= factor <= FACTOR_RANGE[1]
        assert _share_above(picture, 0.5 * 1.2 / factor) < max(0.35, 0.9 * spectrum)


def _share_above(image: Tensor, frequency: float) -> float:
    power = torch.fft.fft2(image - image.mean((-2, -1), keepdim=True)).abs().square().sum(0)
    rows, columns = (torch.fft.fftfreq(side).abs() for side in image.shape[-2:])
    high = torch.maximum(rows[:, None].expand_as(power), columns.expand_as(power)) > frequency
    return float(power[high].sum() / power.sum())


def test_dithered_pictures_have_few_colours_and_keep_the_mean_of_their_channels() -> None:
    for seed in range(12):
        picture = dithered(photograph(), np.random.default_rng(seed))
        colours = (255 * picture).round().flatten(1).unique(dim=1).shape[1]
        assert 1 < colours <= 16


def test_drawings_are_flat_and_differ() -> None:
    drawings = [drawing(64, 96, np.random.default_rng(seed)) for seed in range(8)]
    for picture in drawings:
        steps = picture.diff(dim=-1).abs().amax(0)
        assert float((steps <= 2 / 255).float().mean()) > 0.5
    assert len({picture.numpy().tobytes() for picture in drawings}) == len(drawings)


def test_a_gradient_is_linear() -> None:
    picture = gradient(20, 30, np.random.default_rng(0))
    assert float(picture.diff(dim=-1).diff(dim=-1).abs().max()) < 1e-5
    assert float(picture.diff(dim=-2).diff(dim=-2).abs().max()) < 1e-5
