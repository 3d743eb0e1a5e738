"""Never worse than what came in: enlarged pictures, milder restorations, and what is accepted."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.models.picture_kind import PICTURE_KINDS, PictureKind
from blinddiff.sampling.decision import AS_ESTIMATED, FALLBACKS, INTERPOLATED, halved, keeps_colours
from blinddiff.sampling.output import BlindDiffOutput
from blinddiff.sampling.safety import is_acceptable, restore_at_working_scales, restore_inside, restore_safely

LIMITS = torch.tensor([4.0, 2.0, 0.05])


def picture(height: int = 24, width: int = 32, batch: int = 1) -> Tensor:
    x = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    return 0.2 + 0.6 * F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def kind(*kinds: str, factor: float = 2.0, probability: float = 0.9) -> PictureKind:
    rest = (1 - probability) / (len(PICTURE_KINDS) - 1)
    rows = [[probability if name == each else rest for name in PICTURE_KINDS] for each in kinds]
    return PictureKind(torch.tensor(rows), torch.full((len(kinds),), factor), LIMITS)


def estimate(batch: int = 1, width: float = 2.0) -> Degradation:
    kernel = isotropic_gaussian(width, 31).expand(batch, -1, -1)
    return Degradation(kernel, torch.full((batch,), 1.5), torch.zeros(batch))


class Recorder:
    """Bicubic interpolation as a restoration; its results agree with y from the call `good` on."""

    def __init__(self, good: int = 0) -> None:
        self.good = good
        self.calls: list[tuple[Observation, Degradation | None, list[int]]] = []

    def __call__(
        self, observation: Observation, degradation: Degradation | None, images: Sequence[int]
    ) -> BlindDiffOutput:
        bad = len(self.calls) < self.good
        self.calls.append((observation, degradation, list(images)))
        batch = len(observation)
        x = F.interpolate(observation.y, observation.hr_size, mode="bicubic", antialias=True).clamp(0, 1)
        kernels = (degradation or estimate(batch)).kernel
        return BlindDiffOutput(
            images=(x + 0.1).clamp(0, 1) if bad else x,
            kernels=kernels,
            noise_levels=torch.ones(batch),
            residuals=torch.full_like(observation.y, 9.0 if bad else 1.0),
            consistency=torch.full((batch,), 9.0 if bad else 1.0),
            kernel_trajectory=kernels.expand(2, -1, -1, -1),
            kernel_spread=torch.zeros(batch),
        )


def test_a_photograph_whose_result_agrees_is_restored_once() -> None:
    restore = Recorder()
    out = restore_safely(restore, kind("photograph"), Observation(picture(), 2), estimate())
    assert len(restore.calls) == 1
    assert out.decisions is not None
    [decision] = out.decisions
    assert (decision.kind, decision.factor, decision.fallback) == ("photograph", 1, AS_ESTIMATED)
    assert decision.sentence == ""
    assert decision.probability == pytest.approx(0.9)


@pytest.mark.parametrize("good", [1, 2, 3, 9])
def test_a_result_that_does_not_agree_is_replaced_step_by_step(good: int) -> None:
    restore = Recorder(good)
    given = estimate()
    out = restore_safely(restore, kind("photograph"), Observation(picture(), 2), given)
    tried = min(good, len(FALLBACKS))
    assert len(restore.calls) == 1 + tried
    assert out.decisions is not None
    assert out.decisions[0].fallback == list(FALLBACKS)[tried - 1]
    assert out.decisions[0].fallback in out.decisions[0].sentence
    degradations = [call[1] for call in restore.calls]
    widths = [_width(degradation.kernel[0]) for degradation in degradations if degradation is not None]
    levels = [float(degradation.noise_level[0]) for degradation in degradations if degradation is not None]
    assert levels[1] == 18.0  # twice the residual
    expected = [2.0, 2.0, 1.0, 0.0][: 1 + tried]
    assert widths == pytest.approx(expected, abs=0.2)


def test_the_residual_behind_a_milder_data_term_is_that_of_the_believed_pixels() -> None:
    restore = Recorder(good=1)
    believed = torch.ones(1, 1, 24, 32, dtype=torch.bool)
    believed[..., :24] = False

    def masked(observation: Observation, *rest: Any) -> BlindDiffOutput:
        out = restore(observation, *rest)
        out.residuals = out.residuals * believed
        return out

    restore_safely(masked, kind("photograph"), Observation(picture(), 2, mask=believed), estimate())
    [milder] = [call[1] for call in restore.calls[1:]]
    assert milder is not None
    assert float(milder.noise_level[0]) == pytest.approx(18.0)  # twice the residual of a quarter of the pixels


def _width(kernel: Tensor) -> float:
    offset = torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2
    return float((kernel.sum(0) * offset**2).sum().sqrt())


def test_halving_keeps_the_sum_and_the_centre_of_any_shape() -> None:
    kernel = torch.rand(2, 15, 9, generator=torch.Generator().manual_seed(3))
    kernel = kernel / kernel.sum((-2, -1), keepdim=True)
    half = halved(kernel)
    torch.testing.assert_close(half.sum((-2, -1)), torch.ones(2))
    for axis, n in ((0, 15), (1, 9)):
        offset = (torch.arange(n) - n // 2).float()
        before, after = (each.sum(2 - axis) @ offset for each in (kernel, half))
        torch.testing.assert_close(after, before / 2)


@pytest.mark.parametrize(("scale", "factor", "own"), [(1, 2.0, 2), (2, 2.0, 4), (1, 3.0, 3), (2, 1.5, 3), (4, 2.0, 4)])
def test_an_enlarged_picture_is_restored_from_its_own_size(scale: int, factor: float, own: int) -> None:
    small = picture()
    y = F.interpolate(small, scale_factor=factor, mode="bicubic", antialias=True).clamp(0, 1)
    restore = Recorder()
    out = restore_safely(restore, kind("enlarged", factor=factor), Observation(y, scale), estimate())
    ((seen, degradation, images),) = restore.calls
    assert (seen.y.shape, seen.scale, degradation, images) == (small.shape, own, None, [0])
    assert float((seen.y - small).abs().mean()) < 0.01
    assert out.images.shape == (1, 3, y.shape[-2] * scale, y.shape[-1] * scale)
    assert out.residuals.shape == y.shape
    assert out.decisions is not None
    assert out.decisions[0].factor == factor
    assert f"{factor:.1f} times" in out.decisions[0].sentence


def test_a_picture_that_is_hardly_enlarged_or_not_certainly_is_restored_as_it_is() -> None:
    for uncertain in (kind("enlarged", factor=1.2), kind("enlarged", probability=0.7)):
        restore = Recorder()
        restore_safely(restore, uncertain, Observation(picture(), 1), estimate())
        assert restore.calls[0][0].y.shape == picture().shape


def test_a_batch_keeps_its_order_and_photographs_stay_together() -> None:
    y = picture(batch=3)
    restore = Recorder()
    out = restore_safely(restore, kind("photograph", "enlarged", "drawing"), Observation(y, 2), estimate(3))
    assert [call[2] for call in restore.calls] == [[0, 2], [1]]
    alone = [
        restore_safely(Recorder(), kind(each), Observation(y[index : index + 1], 2), estimate())
        for index, each in enumerate(("photograph", "enlarged", "drawing"))
    ]
    torch.testing.assert_close(out.images, torch.cat([each.images for each in alone]))
    assert out.kernel_trajectory.shape == (2, 3, 31, 31)
    assert out.decisions is not None
    assert [decision.kind for decision in out.decisions] == ["photograph", "enlarged", "drawing"]


@pytest.mark.parametrize("fault", ["consistency", "colour", "contrast"])
def test_what_is_not_accepted(fault: str) -> None:
    observation = Observation(picture(), 2)
    out = Recorder()(observation, estimate(), [0])
    assert is_acceptable(observation, out, LIMITS)
    if fault == "consistency":
        out.consistency[:] = 5.0
    elif fault == "colour":
        out.images[:, 1] += 4 / 255
    else:
        out.images[..., :20, :10] = 0.0
        out.images[..., :20, -10:] = 1.0
    assert not is_acceptable(observation, out, LIMITS)


def test_at_scale_1_only_wide_kernels_are_restored_at_scale_1() -> None:
    widths = (0.6, 4.0, 0.8)
    kernels = torch.cat([estimate(width=width).kernel for width in widths])

    class Run(Recorder):
        def initial(self, observation: Observation) -> Degradation:
            assert len(observation) in (2, 3)
            return Degradation(kernels[: len(observation)], torch.ones(len(observation)), torch.zeros(len(observation)))

    def picture_kind(observation: Observation) -> PictureKind:
        return kind(*len(observation) * ["photograph"])

    run, y = Run(), picture(batch=3)
    network = SimpleNamespace(config=SimpleNamespace(scales=(1, 2, 3, 4)), picture_kind=picture_kind)
    out = restore_at_working_scales(run, network, Observation(y, 1), [4, 5, 6])  # type: ignore[arg-type]
    assert [(call[0].scale, call[2]) for call in run.calls] == [(2, [4, 6]), (1, [5])]
    assert out.images.shape == y.shape
    for index in range(3):
        assert float((out.images[index] - y[index]).abs().mean()) < 0.02
    assert out.decisions is not None
    assert len(out.decisions) == 3
    assert _width(out.kernels[1]) == pytest.approx(4.0, abs=0.1)
    assert _width(out.kernels[0]) < 0.5  # reduced with the result; interpolation widens it a little


class Photographs:
    """`restore_safely` with a `Recorder` for a batch of photographs."""

    def __init__(self, good: int = 0) -> None:
        self.recorder = Recorder(good)

    def __call__(self, observation: Observation, images: Sequence[int]) -> BlindDiffOutput:
        count = len(observation)
        self.images = list(images)
        return restore_safely(self.recorder, kind(*count * ["photograph"]), observation, estimate(count))


def test_a_framed_photograph_of_a_batch_is_restored_as_without_its_frame() -> None:
    inner, plain = picture(40, 48), picture(56, 64)
    framed = F.pad(inner, (8, 8, 8, 8), value=1.0)
    restore = Photographs()
    out = restore_inside(restore, Observation(torch.cat([plain, framed]), 2))
    seen = [call[0].y for call in restore.recorder.calls]
    assert torch.equal(seen[0], plain)
    assert torch.equal(seen[1], inner)
    assert restore.images == [1]
    assert torch.equal(out.images[:1], restore_inside(Photographs(), Observation(plain, 2)).images)
    alone = restore_inside(Photographs(), Observation(inner, 2))
    assert torch.equal(out.images[1:, :, 16:-16, 16:-16], alone.images)
    assert bool((out.images[1, :, :16] == 1).all())
    assert torch.equal(out.residuals[1:, :, 8:-8, 8:-8], alone.residuals)
    assert not out.residuals[1, :, :8].any()
    assert out.decisions is not None
    assert [decision.fallback for decision in out.decisions] == [AS_ESTIMATED, AS_ESTIMATED]


def test_a_graphic_whose_colour_would_move_is_only_enlarged() -> None:
    y = (torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    out = restore_inside(Photographs(99), Observation(y, 2))
    assert torch.equal(out.images, y.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert out.decisions is not None
    assert out.decisions[0].fallback == INTERPOLATED


def test_clipped_noise_may_have_moved_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.full((1, 3, 64, 64), 0.02)
    y = (x + 25 / 255 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    assert keeps_colours(x.numpy(), y.numpy(), 25.0)
    assert not keeps_colours(x.numpy(), y.numpy(), 1.0)
    assert not keeps_colours(x.numpy() + 0.3, y.numpy(), 25.0)
