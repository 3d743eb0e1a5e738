"""The eight views, against NumPy's turns and against a network that is shown turned inputs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blinddiff.degradation.kernels import anisotropic_gaussian
from blinddiff.models.dihedral import VIEWS, turned, turned_back
from blinddiff.models.mcformer import MCFormer


def by_hand(image: np.ndarray, view: int) -> np.ndarray:
    return np.rot90(np.fliplr(image) if view >= 4 else image, view % 4)


@pytest.mark.parametrize("view", range(VIEWS))
def test_against_numpy(view: int) -> None:
    image = torch.arange(15.0).view(3, 5)
    assert np.array_equal(turned(image, view).numpy(), by_hand(image.numpy(), view))
    assert torch.equal(turned_back(turned(image, view), view), image)


def test_all_eight_differ() -> None:
    image = torch.arange(9.0).view(3, 3)
    assert len({tuple(turned(image, view).flatten().tolist()) for view in range(VIEWS)}) == VIEWS


@pytest.mark.parametrize("prediction", ["residual", "noise"])
@pytest.mark.parametrize("view", range(VIEWS))
def test_a_view_is_what_the_network_makes_of_everything_turned(view: int, prediction: Any) -> None:
    torch.manual_seed(0)
    model = MCFormer(dim=8, num_blocks=(1, 1), heads=(1, 2), embedding_dim=16, prediction=prediction).eval()
    generator = torch.Generator().manual_seed(1)
    y = torch.rand(2, 3, 12, 18, generator=generator)
    x_t = torch.randn(2, 3, 48, 72, generator=generator)
    kernel = anisotropic_gaussian(torch.tensor([4.0, 2.0]), torch.tensor([1.5, 3.0]), torch.tensor([0.6, 0.2]), 31)
    told = torch.tensor([900, 400]), 4, torch.tensor([2.0, 5.0])

    def x0_hat(x_t: Tensor, y: Tensor, kernel: Tensor, view: int) -> Tensor:
        t, scale, noise_level = told
        with torch.no_grad():
            return model(x_t, t, y, scale, kernel, noise_level, view=view, correct_kernel=False).x0_hat

    seen = turned_back(x0_hat(turned(x_t, view), turned(y, view), turned(kernel, view), 0), view)
    assert torch.allclose(x0_hat(x_t, y, kernel, view), seen, atol=1e-4)
    if view:
        assert (x0_hat(x_t, y, kernel, 0) - seen).abs().max() > 1e-2


@pytest.mark.parametrize("view", range(VIEWS))
def test_the_estimate_turns_with_the_picture(view: int) -> None:
    torch.manual_seed(0)
    model = MCFormer(dim=8, num_blocks=(1, 1), heads=(1, 2), embedding_dim=16, estimator_hidden=32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        # Of period 8, as the blocks and the lattice of the statistics are: every view has the same ones, turned.
        y = torch.rand(2, 3, 8, 8, generator=generator).repeat(1, 1, 4, 5)
        plain, seen = model.estimate(y, 4), model.estimate(turned(y, view), 4)
    torch.testing.assert_close(turned_back(seen.kernel, view), plain.kernel, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(seen.noise_level, plain.noise_level)
    if view % 4 in (1, 3) or view == 4:
        assert (seen.kernel - plain.kernel).abs().max() > 1e-5  # the kernel has a direction to turn
