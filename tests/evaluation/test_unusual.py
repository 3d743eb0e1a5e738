"""The protocol `unusual`: each kind of picture is what its label says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator
from blinddiff.evaluation.data import Case
from blinddiff.evaluation.protocols import protocol
from blinddiff.imaging import to_picture


@pytest.fixture(params=[1, 2])
def cases(request: pytest.FixtureRequest, data: Path) -> dict[str, Case]:
    plan = protocol("unusual", request.param)
    return dict(zip(plan.labels, (plan.make(each, 0) for each in plan.references(data, "Set5", 1)), strict=True))


def test_truth_and_input_fit_and_do_not_depend_on_the_order(cases: dict[str, Case], data: Path) -> None:
    for case in cases.values():
        assert case.hr is not None
        assert case.hr.shape[-2:] == tuple(side * case.scale for side in case.y.shape[-2:])
        assert float(case.y.min()) >= 0
        assert float(case.y.max()) <= 1
    plan = protocol("unusual", next(iter(cases.values())).scale)
    for index in (3, 8, 19):
        again = plan.make(plan.references(data, "Set5", 1)[index], 0)
        assert torch.equal(again.y, list(cases.values())[index].y)


def test_noise_and_blur_are_those_of_the_label(cases: dict[str, Case]) -> None:
    for label, level in (("noise 5", 5.0), ("noise 10", 10.0), ("blur 1, noise 10", 10.0), ("disk 4", 1.0)):
        case = cases[label]
        assert case.hr is not None
        assert case.kernel is not None
        clean = DegradationOperator(case.kernel, case.scale)(case.hr[None])[0]
        inside = (clean > 0.15) & (clean < 0.85)  # not clipped by strong noise
        assert float(255 * (case.y - clean)[inside].std()) == pytest.approx(level, rel=0.15, abs=0.1)
        assert case.noise_level == level
    for label, kernel_width in (("straight motion 13", 13), ("straight motion 25", 25)):
        kernel = cases[label].kernel
        assert kernel is not None
        assert int((kernel > 0).sum()) == kernel_width
        assert int((kernel.sum(1) > 0).sum()) == 1


def test_frames_and_drawings_are_the_same_in_truth_and_input(cases: dict[str, Case]) -> None:
    plain = cases["black line"].y.shape
    for label, colour in (("black bars", 0.0), ("white frame", 1.0), ("black line", 0.0), ("cut out", 1.0)):
        case = cases[label]
        assert case.hr is not None
        for image in (case.hr, case.y):
            assert torch.all(image[:, 0] == colour)
            assert torch.all(image[:, -1] == colour)
    assert cases["black bars"].y.shape[-2] > plain[-2]
    assert cases["white frame"].y.shape[-2:] == (plain[-2] + 16, plain[-1] + 16)


def test_enlarged_pictures_have_doubled_pixels_or_less_detail(cases: dict[str, Case]) -> None:
    doubled = cases["enlarged x2, nearest"].y.diff(dim=-1)
    assert float((doubled == 0).all(0).float().mean()) > 0.45
    noisy = cases["noise 5"]
    assert noisy.hr is not None
    assert noisy.kernel is not None
    sharp = _detail(DegradationOperator(noisy.kernel, noisy.scale)(noisy.hr[None])[0])
    for name in ("x2, bilinear", "x2, bicubic", "x2, lanczos", "x3, bicubic"):
        assert _detail(cases[f"enlarged {name}"].y) < 0.92 * sharp


def _detail(image: Tensor) -> float:
    """The mean second difference along rows."""
    return float(image.diff(dim=-1).diff(dim=-1).abs().mean())


def test_lamps_are_clipped_and_dithered_pictures_have_few_colours(cases: dict[str, Case]) -> None:
    assert float((cases["lamps"].y >= 1).all(0).float().mean()) > 0.001
    pixels = np.asarray(to_picture(cases["dithered"].y)).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) <= 16
