"""What is left out of the statistics: frames, clipped pixels, drawings; and that the kernel no longer depends on it."""

from collections.abc import Callable

import pytest
import skimage.data
import torch
from torch import Tensor

from blinddiff import BlindDiffPipeline
from blinddiff.degradation import DegradationOperator, Observation
from blinddiff.degradation.kernel_measures import widths_and_angle
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models import statistics
from blinddiff.models.photograph_area import EDGE, photograph_area


def textured(height: int, width: int) -> Tensor:
    return 0.2 + 0.6 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_an_image_without_frame_is_all_photograph() -> None:
    assert bool(photograph_area(textured(30, 40)).all())
    assert bool(photograph_area(torch.full((2, 3, 20, 20), 0.5)).all()), "a flat image has no frame"


def test_frames_are_left_out_side_by_side() -> None:
    y = torch.full((1, 3, 60, 80), 0.3)
    y[..., 5:57, 9:80] = textured(52, 71)
    area = photograph_area(y)[0]
    rows, columns = torch.nonzero(area.any(1)).flatten(), torch.nonzero(area.any(0)).flatten()
    assert (int(rows[0]), int(rows[-1])) == (5 + EDGE, 56 - EDGE)
    assert (int(columns[0]), int(columns[-1])) == (9 + EDGE, 79), "there is none on the right"
    assert bool(area[5 + EDGE : 57 - EDGE, 9 + EDGE :].all())


def test_frames_may_have_the_noise_of_compression() -> None:
    y = textured(40, 40)
    y[..., :6, :] = 0.4 + 0.6 / 255 * torch.sign(torch.randn(6, 40, generator=torch.Generator().manual_seed(1)))
    assert not bool(photograph_area(y)[0, :6].any())
    y[..., :6, :] = 0.4 + 4 / 255 * torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    assert bool(photograph_area(y).all()), "a noisy sky is no frame"


def test_clipped_pixels_are_left_out() -> None:
    y = textured(20, 20)
    y[0, 0, 3, 4] = 1.0  # one channel at white
    y[0, :, 5, 6] = 0.0  # all channels at black
    y[0, 1, 7, 8] = 0.0  # one channel at black: a saturated colour
    assert torch.nonzero(~photograph_area(y)[0]).tolist() == [[3, 4], [5, 6]]


def with_bars(y: Tensor) -> Tensor:
    return torch.nn.functional.pad(y, (0, 0, 24, 24))


def with_line(y: Tensor) -> Tensor:
    inner = y[..., 2:-2, 2:-2]
    return torch.nn.functional.pad(inner, (2, 2, 2, 2))


def cut_out(y: Tensor) -> Tensor:
    height, width = y.shape[-2:]
    rows, columns = torch.arange(height)[:, None] - height / 2, torch.arange(width) - width / 2
    inside = (rows / (0.4 * height)).square() + (columns / (0.35 * width)).square() < 1
    return torch.where(inside, y, torch.ones_like(y))


@pytest.mark.parametrize("draw", [with_bars, with_line, cut_out])
def test_what_is_drawn_onto_a_photograph_does_not_decide_its_kernel(
    draw: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.from_numpy(skimage.data.cat()[:288, :432].copy()).permute(2, 0, 1)[None].float() / 255  # type: ignore[no-untyped-call]
    y = 0.02 + 0.9 * DegradationOperator(isotropic_gaussian(torch.tensor([1.8]), 31), 2)(x)
    pipe = BlindDiffPipeline.from_pretrained()

    def width(image: Tensor) -> float:
        major, minor, _ = widths_and_angle(pipe.network.initial_estimate(Observation(image, 2)).kernel[0])
        return float((major + minor) / 2)

    clean, drawn = width(y), width(draw(y))
    assert drawn == pytest.approx(clean, rel=0.12)
    monkeypatch.setattr(statistics, "photograph_area", lambda y: torch.ones_like(y[:, 0], dtype=torch.bool))
    assert width(draw(y)) != pytest.approx(clean, rel=0.12), "without the area, it would"
