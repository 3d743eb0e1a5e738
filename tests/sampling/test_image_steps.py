"""What each image step does to x0_hat and x_t, whatever the image's size, the batch and the number of steps."""

from typing import Any

import pytest
import torch
from torch import Tensor

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.sampling.image_steps import IMAGE_STEPS, ImageStepOutput
from blinddiff.sampling.pipeline import BlindDiffPipeline

SCALE = 4


def texture(repeats: int) -> tuple[Tensor, Tensor]:
    """A periodic texture, 64 px a period, repeated; and its degraded version with a wrong brightness pattern."""
    generator = torch.Generator().manual_seed(1)
    tile = torch.rand(1, 3, 64, 64, generator=generator)
    x = tile.repeat(1, 1, repeats, repeats)
    kernel = isotropic_gaussian(2.0, 21)[None]
    error = torch.rand(1, 3, 16, 16, generator=generator).repeat(1, 1, repeats, repeats) / 10
    return x, DegradationOperator(kernel, SCALE)(x) + error


def correct(name: str, x: Tensor, y: Tensor) -> ImageStepOutput:
    """The step's correction where x0_hat is x_t itself."""
    kernel = isotropic_gaussian(2.0, 21).expand(len(x), -1, -1)
    known = Degradation(kernel, torch.full((len(x),), 1.0))
    x_t = x.clone().requires_grad_()
    return IMAGE_STEPS[name](x_t, x_t * 1.0, Observation(y, SCALE), known, 0.03)


def size_of(correction: ImageStepOutput, x: Tensor) -> float:
    """RMS per pixel of all that a step changes, away from the border."""
    x0_hat, shift = correction
    change = (x0_hat - x + shift).detach()[..., 20:-20, 20:-20]
    return float(change.square().mean().sqrt())


@pytest.mark.parametrize("name", ["proximal", "gradient"])
def test_strength_does_not_depend_on_the_images_size(name: str) -> None:
    small, large = (size_of(correct(name, *pair), pair[0]) for pair in (texture(1), texture(4)))
    assert large == pytest.approx(small, rel=0.1)
    assert small > 0


def test_strength_of_the_published_guidance_does_depend_on_it() -> None:
    small, large = (correct("published", *texture(repeats))[1] for repeats in (1, 4))
    assert isinstance(small, Tensor)
    assert isinstance(large, Tensor)
    assert float(large.square().mean()) < 0.1 * float(small.square().mean())


@pytest.mark.parametrize("name", ["proximal", "gradient", "published", "none"])
def test_an_image_is_corrected_alike_in_any_batch(name: str) -> None:
    x, y = texture(1)
    alone = correct(name, x, y)
    beside = correct(name, torch.cat([x, 0 * x]), torch.cat([y, 0 * y]))
    torch.testing.assert_close(beside[0][:1], alone[0], atol=1e-5, rtol=0)
    if isinstance(alone[1], Tensor):
        assert isinstance(beside[1], Tensor)
        torch.testing.assert_close(beside[1][:1], alone[1], atol=1e-5, rtol=0)


def test_the_gradient_is_that_of_the_energy() -> None:
    """Against a finite difference in float64, along a random direction."""
    x, y = (part.double() for part in texture(1))
    kernel = isotropic_gaussian(2.0, 21)[None].double()

    def energy(image: Tensor) -> float:
        return float(SCALE**2 / 2 * (y - DegradationOperator(kernel, SCALE)(image)).square().sum())

    _, shift = correct("gradient", x, y)
    assert isinstance(shift, Tensor)
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    slope = (energy(x + 1e-5 * direction) - energy(x - 1e-5 * direction)) / 2e-5
    assert float(-(shift * direction).sum()) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("name", ["proximal", "gradient"])
def test_a_step_leaves_less_of_y_unexplained(name: str) -> None:
    x, y = texture(1)
    kernel = isotropic_gaussian(2.0, 21)[None]
    x0_hat, shift = correct(name, x, y)
    after = (x0_hat + shift).detach()
    before, later = ((y - DegradationOperator(kernel, SCALE)(image)).square().sum() for image in (x, after))
    assert float(later) < 0.6 * float(before)


def test_steps_that_need_no_gradient_record_none(tiny_pipeline: BlindDiffPipeline) -> None:
    seen: list[bool] = []

    def note(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(output.x0_hat.requires_grad)

    hook = tiny_pipeline.network.register_forward_hook(note)
    try:
        for name in ("proximal", "gradient"):
            tiny_pipeline(torch.rand(1, 3, 16, 16), scale=2, num_inference_steps=1, image_step=name)
    finally:
        hook.remove()
    assert seen == [False, True]
