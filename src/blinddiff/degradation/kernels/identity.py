"""The identity kernel: no blur beyond the resampling."""

from dataclasses import dataclass

import torch
from torch import Tensor


def identity(size: int) -> Tensor:
    """(size, size), 1 at the centre and 0 elsewhere."""
    kernel = torch.zeros(size, size)
    kernel[size // 2, size // 2] = 1
    return kernel


@dataclass(frozen=True)
class Identity:
    """Always the identity: sharp photographs are the ones that a blind method most easily spoils."""

    name: str = "identity"

    def sample(
        self,
        n: int,
        scale: int,
        size: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `KernelFamily.sample`."""
        device = generator.device if device is None else device
        return identity(size).to(device, dtype).expand(n, -1, -1).clone()
