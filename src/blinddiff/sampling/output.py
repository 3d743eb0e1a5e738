"""What a restoration gives back."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from blinddiff.degradation import DegradationOperator
from blinddiff.sampling.images import OutputType, from_batch
from blinddiff.sampling.loop import Restored

ROUNDING = 12**-0.5  # RMS of rounding to whole grey levels
UNKNOWABLE = 0.75
"""Expected sum |k_hat - k| from which on a kernel is called unknown: about that of a kernel guessed without looking."""


@dataclass
class BlindDiffOutput(BaseOutput):
    """The sharp images, and why to believe them.

    Attributes:
        images: as asked for: a list of PIL images, an array (B, H, W, 3) or a tensor (B, 3, H, W), in [0, 1]; with
            several samples, their mean.
        kernels: the blur kernels, (B, n, m), in pixels of the result; they sum to 1. Means over the steps.
        noise_levels: standard deviation of the noise, (B,), grey levels.
        residuals: y - A(x, k), (B, 3, h, w), grey levels: what the result does not explain of the input.
        consistency: RMS of the residual over the noise level and rounding, (B,): near 1 is right; far above, the result
            contradicts the input, or the kernel is wrong; far below, it repeats the input's noise.
        kernel_trajectory: the kernel after each step, (steps, B, n, m).
        kernel_spread: mean L1 distance of the steps' kernels from their mean, (B,): 0 where they agree, 2 at most.
        expected_kernel_errors: what sum |k_hat - k| will be on average for the first estimate from images like these,
            (B,), 0 to 2; `UNKNOWABLE` or more says that the kernel cannot be known. None where the kernel was given, or
            the network has no estimate from y.
        samples: every sample, (B, K, 3, H, W), in [0, 1]; None for one sample.
        std: standard deviation over the samples, (B, 3, H, W), in [0, 1]; None for one sample.
    """

    images: Any
    kernels: Tensor
    noise_levels: Tensor
    residuals: Tensor
    consistency: Tensor
    kernel_trajectory: Tensor
    kernel_spread: Tensor
    expected_kernel_errors: Tensor | None = None
    samples: Tensor | None = None
    std: Tensor | None = None


def make_output(
    y: Tensor, scale: int, restored: Restored, num_samples: int, output_type: OutputType
) -> BlindDiffOutput:
    """Put the samples of each image together, and say what speaks for them."""

    def apart(value: Tensor) -> Tensor:
        return value.unflatten(0, (len(y), num_samples))

    several = num_samples > 1
    samples = apart(restored.image.clamp_(0, 1))
    x = samples.mean(1) if several else samples[:, 0]
    trajectory = torch.stack([apart(state.kernel).mean(1) for state in restored.states])
    kernels = trajectory.mean(0)
    noise_levels = apart(restored.states[-1].noise_level).mean(1)
    residuals = 255 * (y - DegradationOperator(kernels, scale)(x))
    expected = (noise_levels**2 + ROUNDING**2).sqrt()
    return BlindDiffOutput(
        images=from_batch(x, output_type),
        kernels=kernels.cpu(),
        noise_levels=noise_levels.cpu(),
        residuals=residuals.cpu(),
        consistency=(residuals.square().mean((1, 2, 3)).sqrt() / expected).cpu(),
        kernel_trajectory=trajectory.cpu(),
        kernel_spread=(trajectory - kernels).abs().sum((-2, -1)).mean(0).cpu(),
        samples=samples.cpu() if several else None,
        std=samples.std(1).cpu() if several else None,
    )
