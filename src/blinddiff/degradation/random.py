"""Random numbers from a seeded generator, on whichever device they are wanted.

Numbers are drawn where the generator lives and then moved, so that a seed means the same degradations on every device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_uniform(
    shape: int | Sequence[int],
    low: float,
    high: float,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Independent values, uniform in [low, high], of the given shape; `device` None means the generator's."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    unit = torch.rand(shape, generator=generator, device=generator.device)
    return (low + (high - low) * unit).to(device=device, dtype=dtype)


def draw_normal(
    shape: int | Sequence[int],
    generator: torch.Generator,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Independent standard normal values of the given shape; `device` None means the generator's."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return torch.randn(shape, generator=generator, device=generator.device).to(device=device, dtype=dtype)
