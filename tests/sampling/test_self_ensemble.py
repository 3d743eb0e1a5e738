"""The self-ensemble: dihedral transforms of all inputs, against a network that is given transformed inputs."""

from typing import Any

import pytest
import torch
from torch import Tensor

from blinddiff.degradation import Degradation, Observation
from blinddiff.degradation.kernels import anisotropic_gaussian
from blinddiff.degradation.observation import N_TRANSFORMS, dihedral, dihedral_inverse
from blinddiff.models.mcformer import MCFormer
from blinddiff.published.network import PublishedMCFormer
from blinddiff.sampling.wrappers import SelfEnsemble

TINY: dict[str, Any] = {"dim": 8, "num_blocks": (1, 1), "heads": (1, 2), "embedding_dim": 16, "kernel_size": 31}


def model_of(kind: type[MCFormer] | type[PublishedMCFormer]) -> Any:
    torch.manual_seed(0)
    return kind(**TINY, num_refinement_blocks=0).eval()


@pytest.mark.parametrize("kind", [MCFormer, PublishedMCFormer])
@pytest.mark.parametrize("transform", range(N_TRANSFORMS))
def test_a_transform_is_the_network_on_transformed_inputs(transform: int, kind: Any) -> None:
    model = model_of(kind)
    generator = torch.Generator().manual_seed(1)
    y = torch.rand(2, 3, 12, 18, generator=generator)
    x_t = torch.randn(2, 3, 48, 72, generator=generator)
    kernel = anisotropic_gaussian(torch.tensor([4.0, 2.0]), torch.tensor([1.5, 3.0]), torch.tensor([0.6, 0.2]), 31)
    t, noise_level = torch.tensor([900, 400]), torch.tensor([2.0, 5.0])

    def x0_hat(x_t: Tensor, y: Tensor, kernel: Tensor, transform: int) -> Tensor:
        with torch.no_grad():
            known = Degradation(kernel, noise_level)
            return model(x_t, t, Observation(y, 4), known, transform=transform).x0_hat

    transformed = x0_hat(dihedral(x_t, transform), dihedral(y, transform), dihedral(kernel, transform), 0)
    expected = dihedral_inverse(transformed, transform)
    assert torch.allclose(x0_hat(x_t, y, kernel, transform), expected, atol=1e-4)
    if transform:
        assert (x0_hat(x_t, y, kernel, 0) - expected).abs().max() > 1e-2


def test_each_call_takes_the_next_transform() -> None:
    model = model_of(MCFormer)
    observation, t = Observation(torch.rand(1, 3, 12, 12), 2), torch.tensor([999])
    x_t = torch.randn(1, 3, 24, 24)
    ensemble = SelfEnsemble(model)
    with torch.no_grad():
        known = model.initial_estimate(observation)
        for call in range(N_TRANSFORMS + 2):
            expected = model(x_t, t, observation, known, transform=call % N_TRANSFORMS).x0_hat
            assert torch.equal(ensemble(x_t, t, observation, known).x0_hat, expected)


@pytest.mark.parametrize("transform", range(N_TRANSFORMS))
def test_the_initial_estimate_is_equivariant(transform: int) -> None:
    torch.manual_seed(0)
    model = MCFormer(dim=8, num_blocks=(1, 1), heads=(1, 2), embedding_dim=16, estimator_hidden=32).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        # Of period 8, as the blocks and the lattice of the statistics: all transforms have the same ones, transformed.
        y = torch.rand(2, 3, 8, 8, generator=generator).repeat(1, 1, 8, 9)
        plain = model.initial_estimate(Observation(y, 4))
        transformed = model.initial_estimate(Observation(dihedral(y, transform), 4))
    kernel = dihedral_inverse(transformed.kernel, transform)
    torch.testing.assert_close(kernel, plain.kernel, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(transformed.noise_level, plain.noise_level, atol=1e-4, rtol=3e-3)
    if transform % 4 in (1, 3) or transform == 4:
        assert (transformed.kernel - plain.kernel).abs().max() > 1e-5  # the kernel has a direction to rotate
