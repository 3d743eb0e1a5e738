"""What a residual says of the kernel."""

import pytest
import torch
from torch import Tensor

from blinddiff.degradation import DegradationOperator
from blinddiff.degradation.kernel_fit import FLOORS, kernel_error_map
from blinddiff.degradation.kernel_tensors import resize_support, shift_kernel
from blinddiff.degradation.kernels import anisotropic_gaussian, isotropic_gaussian

SIZE = 21


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.fixture
def texture(generator: torch.Generator) -> Tensor:
    """White noise, (1, 3, 192, 240): all frequencies are present."""
    return torch.rand(1, 3, 192, 240, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_without_an_error_it_is_zero(photograph: Tensor, scale: int) -> None:
    kernel = isotropic_gaussian(2.0, SIZE).double()[None]
    x = photograph[..., :144, :192]
    shown = kernel_error_map(DegradationOperator(kernel, scale)(x), x, kernel, scale, SIZE)
    assert shown.shape == (1, len(FLOORS), SIZE, SIZE)
    assert shown.abs().max() < 1e-9


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("wrong", ["wider", "rotated", "moved"])
def test_with_the_true_image_it_points_to_the_true_kernel(texture: Tensor, scale: int, wrong: str) -> None:
    # Widths in HR pixels that the LR grid can tell apart at every scale.
    true = anisotropic_gaussian(1.5 * scale, 0.8 * scale, 0.5, SIZE).double()[None]
    believed = {
        "wider": anisotropic_gaussian(1.8 * scale, 1.0 * scale, 0.5, SIZE).double()[None],
        "rotated": true.flip(1),
        "moved": shift_kernel(true, torch.tensor([0.0]), torch.tensor([0.5 * scale])),
    }[wrong]
    y = DegradationOperator(true, scale)(texture)
    shown = kernel_error_map(y, texture, believed, scale, SIZE)[0]
    for answer in shown:
        # The mean of x is taken off, so that a constant added to every entry cannot be determined.
        assert cosine(answer - answer.mean(), (true - believed)[0]) > 0.7


def test_a_step_along_it_mends_the_kernel(texture: Tensor) -> None:
    true, believed = (isotropic_gaussian(sigma, SIZE).double()[None] for sigma in (1.6, 2.4))
    y = DegradationOperator(true, 2)(texture)
    step = kernel_error_map(y, texture, believed, 2, SIZE)[:, 0]
    before = (true - believed).abs().sum()
    assert (true - (believed + step)).abs().sum() < 0.7 * before


def test_batch_equals_single(photograph: Tensor) -> None:
    x = torch.cat([photograph[..., :96, :120], photograph[..., 100:196, 100:220]])
    y = DegradationOperator(isotropic_gaussian(2.0, SIZE).double(), 4)(x)
    kernels = torch.stack([isotropic_gaussian(s, SIZE) for s in (1.5, 3.0)]).double()
    both = kernel_error_map(y, x, kernels, 4, SIZE)
    for i in range(2):
        one = slice(i, i + 1)
        torch.testing.assert_close(both[one], kernel_error_map(y[one], x[one], kernels[one], 4, SIZE))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 7)])
def test_any_size_gives_finite_answers(generator: torch.Generator, scale: int, size: tuple[int, int]) -> None:
    y = torch.rand(2, 3, *size, generator=generator)
    x = torch.rand(2, 3, size[0] * scale, size[1] * scale, generator=generator)
    shown = kernel_error_map(y, x, isotropic_gaussian(2.0, 31).expand(2, -1, -1), scale, 31)
    assert shown.shape == (2, len(FLOORS), 31, 31)
    assert torch.isfinite(shown).all()
    flat = kernel_error_map(
        torch.full_like(y, 0.5), torch.full_like(x, 0.5), isotropic_gaussian(2.0, 31)[None], scale, 31
    )
    assert torch.isfinite(flat).all()


def test_the_kernel_may_be_of_another_size(photograph: Tensor) -> None:
    x = photograph[..., :96, :120]
    y = DegradationOperator(isotropic_gaussian(1.6, SIZE).double(), 2)(x)
    small = isotropic_gaussian(2.0, 15).double()[None]
    torch.testing.assert_close(
        kernel_error_map(y, x, small, 2, 31),
        kernel_error_map(y, x, resize_support(small, 31), 2, 31),
        atol=1e-9,
        rtol=0,
    )
