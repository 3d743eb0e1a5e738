"""One photograph through the pipeline, for the page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from blinddiff.app.asked import Asked, kernel_of, region_of
from blinddiff.app.limits import Limits
from blinddiff.app.stopping import check_stop
from blinddiff.degradation import bicubic_upsample
from blinddiff.errors import ImageError
from blinddiff.imaging import Photograph, check_format, visible_colours
from blinddiff.restoring.photograph import RestoreSettings, Result, restore_photograph
from blinddiff.sampling.output import read_restorable
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
        result: the restored photograph.
        facts: for programs.
    """

    photograph: Photograph
    before: Tensor
    result: Result
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
    output = Path(name).with_suffix(f".{asked.file_format}")
    check_format(output, photograph, (width * asked.scale, height * asked.scale))
    kernel = kernel_of(asked)
    region = region_of(asked.region, width, height)

    check_stop()
    y = visible_colours(photograph)
    if region is not None:
        part = y[:, region.top : region.top + region.height, region.left : region.left + region.width]
        kernel = pipeline.estimate(part, asked.scale).kernel[0]
    before = bicubic_upsample(y, asked.scale).clamp(0, 1)
    settings = RestoreSettings(
        scale=asked.scale,
        mode=asked.mode,
        steps=asked.steps,
        samples=asked.samples,
        seed=asked.seed,
        noise_level=asked.noise_level,
    )
    steps = settings.number_of_steps

    def after_step(done: int, x0_hat: Tensor) -> None:
        check_stop()
        image = x0_hat.detach().mean(0).clamp(0, 1).cpu()
        on_step(Step(done, max(steps, done), image, before, photograph))

    try:
        result = restore_photograph(pipeline, photograph, settings, kernel, after_step)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    check_stop()
    facts = {
        "photograph": name,
        "scale": asked.scale,
        "restoration_mode": asked.mode,
        "steps": steps,
        "samples": asked.samples,
        "seed": asked.seed,
        "kernel_from": _origin(asked),
        **result.facts(output),
    }
    if result.uncertainty is not None:
        facts["uncertainty"] = result.uncertainty
    return Restoration(photograph, before, result, facts)


def _origin(asked: Asked) -> str:
    if asked.kernel_file is not None or asked.kernel_numbers.strip():
        return "given"
    return f"region {asked.region.strip()}" if asked.region.strip() else "photograph"
