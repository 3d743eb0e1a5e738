"""One photograph through the pipeline, for the page."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blinddiff.app.asked import Asked, kernel_of, region_of
from blinddiff.app.limits import Limits
from blinddiff.app.stopping import check_stop
from blinddiff.degradation import bicubic_upsample
from blinddiff.errors import ImageError
from blinddiff.imaging import Photograph, check_format, visible_colours, written_bit_depth
from blinddiff.restoring.photograph import facts_of, upscaled_of
from blinddiff.sampling.memory import is_lack_of_memory
from blinddiff.sampling.modes import MODES
from blinddiff.sampling.output import BlindDiffOutput, read_restorable
from blinddiff.sampling.pipeline import BlindDiffPipeline


@dataclass(frozen=True, eq=False)
class Step:
    """What is there after one step.

    Attributes:
        number, steps: of how many it is which.
        image: (3, H, W) in [0, 1].
        before, photograph: as of `Restoration`.
    """

    number: int
    steps: int
    image: Tensor
    before: Tensor
    photograph: Photograph


@dataclass(frozen=True, eq=False)
class Restoration:
    """All that the page shows of a restored photograph.

    Attributes:
        photograph: as read.
        before: (3, H, W) in [0, 1]: bicubic interpolation.
        pixels: (3, H, W) in [0, 1].
        alpha: (1, H, W), or None.
        out: what the pipeline returned.
        facts: for programs.
    """

    photograph: Photograph
    before: Tensor
    pixels: Tensor
    alpha: Tensor | None
    out: BlindDiffOutput
    facts: dict[str, Any]


def read_photograph(path: Path, max_pixels: int) -> Photograph:
    """An uploaded photograph that can be restored.

    Raises:
        ImageError: it cannot; the file is named as the visitor knows it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: is no longer here; choose it again") from error
    return read_restorable(data, max_pixels, path.name)


def restore(
    pipeline: BlindDiffPipeline, asked: Asked, limits: Limits, on_step: Callable[[Step], object]
) -> Restoration:
    """Do what was asked.

    Raises:
        BlindDiffError: it cannot be done.
        Stopped: it was given up, see `stoppable`.
    """
    name = asked.photograph.name
    photograph = read_photograph(asked.photograph, limits.pixels)
    height, width = photograph.pixels.shape[-2:]
    limits.check(name, width, height, asked.scale, asked.samples)
    result = Path(name).with_suffix(f".{asked.file_format}")
    check_format(result, photograph, (width * asked.scale, height * asked.scale))
    kernel = kernel_of(asked)
    region = region_of(asked.region, width, height)

    check_stop()
    started = time.perf_counter()
    y = visible_colours(photograph)
    if region is not None:
        part = y[:, region.top : region.top + region.height, region.left : region.left + region.width]
        kernel = pipeline.estimate(part, asked.scale).kernel[0]
    before = bicubic_upsample(y, asked.scale).clamp(0, 1)
    steps = asked.steps or MODES[asked.mode].num_inference_steps
    done = 0

    def after_step(_index: int, _t: int, _x_t: Tensor, x0_hat: Tensor, _k_t: Tensor) -> None:
        nonlocal done
        check_stop()
        done += 1
        image = x0_hat.detach().mean(0).clamp(0, 1).cpu()
        on_step(Step(done, max(steps, done), image, before, photograph))

    try:
        out = pipeline(
            y,
            scale=asked.scale,
            mode=asked.mode,
            num_inference_steps=asked.steps,
            num_samples=asked.samples,
            kernel=kernel,
            noise_level=asked.noise_level,
            generator=torch.Generator().manual_seed(asked.seed),
            output_type="pt",
            on_step=after_step,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise ImageError(
            f"{name}: {width} x {height} pixels times {asked.scale} do not fit the machine's memory"
        ) from error
    check_stop()
    upscaled = upscaled_of(out, photograph.alpha, asked.scale, started)
    facts = {
        "photograph": name,
        "scale": asked.scale,
        "restoration_mode": asked.mode,
        "steps": steps,
        "samples": asked.samples,
        "seed": asked.seed,
        "kernel_from": _origin(asked),
        **facts_of(photograph, upscaled, written_bit_depth(result, photograph)),
    }
    if out.std is not None:
        facts["uncertainty"] = 255 * float(out.std[0].square().mean().sqrt())
    return Restoration(photograph, before, upscaled.pixels, upscaled.alpha, out, facts)


def _origin(asked: Asked) -> str:
    if asked.kernel_file is not None or asked.kernel_numbers.strip():
        return "given"
    return f"region {asked.region.strip()}" if asked.region.strip() else "photograph"
