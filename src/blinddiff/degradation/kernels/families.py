"""The kernel families that mixtures and recipes can name, and random batches drawn from several of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from blinddiff.degradation.kernels.disk import Disk
from blinddiff.degradation.kernels.family import KernelFamily
from blinddiff.degradation.kernels.gaussian import AnisotropicGaussian, IsotropicGaussian
from blinddiff.degradation.kernels.generalized_gaussian import GeneralizedGaussian
from blinddiff.degradation.kernels.identity import Identity
from blinddiff.degradation.kernels.motion import CameraShake, LineMotion
from blinddiff.degradation.kernels.plateau import Plateau
from blinddiff.errors import ParameterError

_ALL: tuple[KernelFamily, ...] = (
    Identity(),
    IsotropicGaussian(),
    AnisotropicGaussian(),
    AnisotropicGaussian(name="rough_anisotropic", roughness=0.25),
    GeneralizedGaussian(),
    Plateau(),
    CameraShake(),
    LineMotion(),
    Disk(),
)
FAMILIES: dict[str, KernelFamily] = {family.name: family for family in _ALL}


def sample_kernels(
    mixture: Mapping[str, float],
    n: int,
    scale: int,
    size: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(n, size, size) random kernels, each from a family of `FAMILIES` drawn with the mixture's weights.

    mixture: family name -> weight >= 0; weights need not sum to 1. scale in {1, 2, 3, 4}; `device` None means the
    generator's. The same generator state gives the same batch. Raises ParameterError for an unknown family, a mixture
    without a positive weight, and what the families refuse.
    """
    weights = _checked_weights(mixture).to(generator.device)
    if n < 0:
        raise ParameterError(f"n {n}: a batch has at least 0 kernels")
    device = generator.device if device is None else device
    kernels = torch.empty((n, size, size), device=device, dtype=dtype)
    if n == 0:
        return kernels
    choice = torch.multinomial(weights, n, replacement=True, generator=generator)
    for index, name in enumerate(mixture):
        chosen = torch.nonzero(choice == index).flatten()
        if len(chosen):
            kernels[chosen.to(device)] = FAMILIES[name].sample(len(chosen), scale, size, generator, device, dtype)
    return kernels


def _checked_weights(mixture: Mapping[str, float]) -> Tensor:
    for name, weight in mixture.items():
        if name not in FAMILIES:
            raise ParameterError(f"kernel family '{name}': one of {', '.join(FAMILIES)} is accepted")
        if not 0 <= weight < float("inf"):
            raise ParameterError(f"weight {weight} of kernel family '{name}': must be a finite number, at least 0")
    if not any(mixture.values()):
        raise ParameterError(f"kernel mixture {dict(mixture)}: needs a family with a weight above 0")
    return torch.tensor(list(mixture.values()), dtype=torch.float32)
