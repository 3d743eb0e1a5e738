"""Where the sampler's random numbers come from."""

from collections.abc import Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None


class NoiseSource:
    """Draws standard normal noise for a batch: from one generator, or from one for each image.

    With a generator for each image, an image's noise does not depend on what else is in the batch. Numbers are drawn
    where their generator lives, so that a seed gives the same image on every device.

    Args:
        shape: of the noise, (B, 3, H, W).
        generator: one, a list of B, or None for the global one.
    """

    def __init__(self, shape: tuple[int, int, int, int], generator: Generators, device: torch.device) -> None:
        self.generators = list(generator) if isinstance(generator, Sequence) else generator
        self._shape, self._device = shape, device

    def __call__(self) -> Tensor:
        """(B, 3, H, W) of new noise."""
        if isinstance(self.generators, list):
            return torch.cat([self._draw((1, *self._shape[1:]), each) for each in self.generators])
        return self._draw(self._shape, self.generators)

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        home = "cpu" if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=home).to(self._device)
