"""What a restoration gives back."""

from dataclasses import dataclass
from typing import Any

from diffusers.utils.outputs import BaseOutput
from torch import Tensor


@dataclass
class BlindDiffOutput(BaseOutput):
    """The sharp images, and why to believe them.

    Attributes:
        images: as asked for: a list of PIL images, an array (B, H, W, 3) or a tensor (B, 3, H, W), in [0, 1].
        kernels: the blur kernels, (B, n, m), in pixels of the result; they sum to 1.
        noise_levels: estimated standard deviation of the noise, (B,), grey levels.
        residuals: y - A(x, k), (B, 3, h, w), grey levels: what the result does not explain of the input.
    """

    images: Any
    kernels: Tensor
    noise_levels: Tensor
    residuals: Tensor
