"""Checks of noise levels that every kind of noise shares."""

import torch
from torch import Tensor

from blinddiff.errors import ParameterError


def check_noise_level(noise_level: float) -> None:
    """Raise ParameterError if a noise level that is said to be known, in grey levels, is not one."""
    if not 0 <= noise_level <= 255:
        raise ParameterError(f"a noise level of {noise_level} is not between 0 and 255 grey levels")


def level_for(y: Tensor, level: Tensor, name: str, low: float, high: float = float("inf")) -> Tensor:
    """The level as (B, 1, 1, 1) beside images (B, C, H, W), or ParameterError if a shape or value is not accepted."""
    if y.ndim != 4:
        raise ParameterError(f"image batch of shape {tuple(y.shape)}: (B, C, H, W) is accepted")
    if level.shape != y.shape[:1]:
        raise ParameterError(
            f"{name} of shape {tuple(level.shape)}: one value for each of the {len(y)} images is accepted"
        )
    if not bool((torch.isfinite(level) & (level >= low) & (level <= high)).all()):
        upper = "" if high == float("inf") else f" and at most {high:g}"
        raise ParameterError(f"{name} {level.tolist()}: must be finite, at least {low:g}{upper}")
    return level.to(device=y.device, dtype=y.dtype)[:, None, None, None]
