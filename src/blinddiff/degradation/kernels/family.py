"""What a family of blur kernels is: something that draws random members of itself."""

from typing import Protocol

import torch
from torch import Tensor


class KernelFamily(Protocol):
    """A kind of blur with declared parameter ranges; an instance is one choice of ranges."""

    @property
    def name(self) -> str:
        """How mixtures and recipes call the family."""
        ...

    def sample(
        self,
        n: int,
        scale: int,
        size: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n, size, size) random kernels in HR pixels, non-negative, each of sum 1.

        `scale` in {1, 2, 3, 4} chooses the parameter ranges; `device` None means the generator's. The same generator
        state gives the same kernels. Raises ParameterError for another scale or a size below 1.
        """
        ...
