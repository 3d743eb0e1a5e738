"""One photograph, with its transparency, through the pipeline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation import bicubic_upsample
from blinddiff.errors import ImageError, KernelError
from blinddiff.imaging import Photograph, visible_colours
from blinddiff.sampling.memory import is_lack_of_memory
from blinddiff.upscaling.settings import UpscaleSettings

if TYPE_CHECKING:
    from blinddiff.sampling.output import BlindDiffOutput
    from blinddiff.sampling.pipeline import BlindDiffPipeline


@dataclass(frozen=True, eq=False)
class Upscaled:
    """A restored photograph, to be written with `write_image(..., like=photograph)`.

    Attributes:
        pixels: (3, H, W) in [0, 1].
        alpha: (1, H, W) in [0, 1], or None.
        kernel: (n, m), in pixels of the result.
        noise_level: in grey levels.
        residual_rms: of the input minus what the result explains of it, in grey levels.
        consistency: the same over the noise level and rounding; near 1 is right.
        expected_kernel_error: see `BlindDiffOutput`; None where the kernel was given.
        seconds: that it took.
    """

    pixels: Tensor
    alpha: Tensor | None
    kernel: Tensor
    noise_level: float
    residual_rms: float
    consistency: float
    expected_kernel_error: float | None
    seconds: float


def upscale_photograph(
    pipeline: "BlindDiffPipeline",
    photograph: Photograph,
    settings: UpscaleSettings,
    kernel: Tensor | None = None,
    on_step: Callable[[], object] | None = None,
) -> Upscaled:
    """Restore a photograph; colours under its transparency do not show in what is visible.

    Args:
        pipeline: holds the weights that the settings name.
        photograph: as read.
        settings: scale, mode, steps, seed, noise level, memory.
        kernel: the contents of the settings' kernel file.
        on_step: called after each step.

    Raises:
        ImageError: the photograph is too small, or does not fit the memory even in the smallest tiles.
        KernelError: the kernel does not fit the photograph.
        ParameterError: a setting outside its range.
    """
    started = time.perf_counter()
    pixels = visible_colours(photograph)
    try:
        out = pipeline(
            pixels,
            scale=settings.scale,
            mode=settings.mode,
            num_inference_steps=settings.steps,
            kernel=kernel,
            noise_level=settings.noise_level,
            generator=torch.Generator().manual_seed(settings.seed),
            output_type="pt",
            max_memory=settings.max_memory,
            callback_on_step_end=None if on_step is None else lambda *_: (on_step(), None)[1],
        )
    except KernelError as error:
        raise KernelError(f"{settings.kernel}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        height, width = pixels.shape[-2:]
        raise ImageError(f"{width} x {height} pixels times {settings.scale} do not fit the memory") from error
    return upscaled_of(out, photograph.alpha, settings.scale, started)


def upscaled_of(out: "BlindDiffOutput", alpha: Tensor | None, scale: int, started: float) -> Upscaled:
    """The one photograph that the pipeline restored, as tensors, with its transparency.

    Args:
        out: of one image, made with ``output_type="pt"``.
        alpha: (1, h, w), as read; None where there is none.
        scale: of the restoration.
        started: when it began, by `time.perf_counter`.
    """
    return Upscaled(
        pixels=out.images[0],
        alpha=None if alpha is None else upscale_alpha(alpha, scale),
        kernel=out.kernels[0],
        noise_level=float(out.noise_levels[0]),
        residual_rms=float(out.residuals[0].square().mean().sqrt()),
        consistency=float(out.consistency[0]),
        expected_kernel_error=None if out.expected_kernel_errors is None else float(out.expected_kernel_errors[0]),
        seconds=time.perf_counter() - started,
    )


def upscale_alpha(alpha: Tensor, scale: int) -> Tensor:
    """Enlarge transparency (1, h, w): bicubic, kept between the least and the most of the 3 x 3 pixels around.

    So a clean edge stays one: bicubic alone overshoots beside it, and draws a faint outline.
    """
    if scale == 1:
        return alpha
    most, least = (sign * F.max_pool2d(sign * alpha, 3, stride=1, padding=1) for sign in (1, -1))
    high, low = (bound.repeat_interleave(scale, -2).repeat_interleave(scale, -1) for bound in (most, least))
    return bicubic_upsample(alpha, scale).clamp(low, high)
