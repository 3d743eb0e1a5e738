"""What a kind of noise is: something that can be added to a batch of images at a level for each of them."""

from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """A kind of noise; an instance is one choice of ranges. What `level` means is stated by each kind."""

    @property
    def name(self) -> str:
        """How recipes call it."""
        ...

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) images in [0, 1] with noise of level (B,); the same shape, dtype and device.

        The same generator state gives the same noise. Raises ParameterError for a level that the kind does not accept.
        """
        ...

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """(n,) random levels from the declared range; `device` None means the generator's."""
        ...
