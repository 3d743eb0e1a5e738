"""One restoration or estimate, as it runs in a thread: reads the files of a request, and writes those of the result."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from blinddiff.app import Limits
from blinddiff.app.pictures import result_pictures, write_preview
from blinddiff.app.request import Request, cropped, parse_crop, parse_region, read_photograph
from blinddiff.app.threads import check_stop, releasing_memory
from blinddiff.errors import ImageError
from blinddiff.imaging import check_format, encode_image, resample, visible_colours
from blinddiff.restoring.photograph import estimate_facts, restore_photograph
from blinddiff.sampling.pipeline import BlindDiffPipeline

_REPORT_SECONDS = 0.25  # between reports of progress within a step


@dataclass(frozen=True)
class Progress:
    """A report: what is done, its share of the work, and after a step files of the photograph and the estimate."""

    text: str
    share: float = 0.0
    pictures: tuple[str, str] | None = None


@dataclass(frozen=True)
class Restored:
    """A finished restoration: its measurements, see docs/guides/http.md, and its files; ``estimate`` has the facts.

    ``pictures`` are before, after, full_before, full_after, kernel, residual, for several samples uncertainty, and for
    blur that varies kernel_map;
    ``extents`` the grey levels of the lightest colour in the pictures of residual and uncertainty. Both are empty
    without `Request.pictures`.
    """

    facts: dict[str, Any]
    result: Path
    estimate: Path
    pictures: dict[str, Path]
    extents: dict[str, float]


@releasing_memory()
def restore(
    pipeline: BlindDiffPipeline, request: Request, limits: Limits, folder: Path, send: Callable[[Progress], None]
) -> Restored:
    """Restore the photograph of a request, and ``send`` the progress.

    All files are written to ``folder``. Raises BlindDiffError if the request cannot be fulfilled, or `Stopped`.
    """
    name, settings = request.photograph.name, request.settings
    pipeline.check_mode(settings.mode)
    photograph = read_photograph(request.photograph, limits, request.page)
    height, width = photograph.pixels.shape[-2:]
    region, crop = parse_region(request.region, width, height), parse_crop(request.crop, width, height)
    y = visible_colours(photograph)
    part = None if region is None else y[:, region.rows, region.columns]
    mask = request.read_mask(height, width, limits)
    if crop is not None:
        mask = None if mask is None else mask[crop.rows, crop.columns]
        photograph, (height, width) = cropped(photograph, crop), (crop.height, crop.width)
        y = visible_colours(photograph)
    passes = settings.passes(height, width, pipeline)
    limits.check(name, width, height, math.prod(passes), settings.samples)
    size = settings.result_size(height, width)
    output = folder / f"{Path(name).stem}-{settings.size_label(height, width)}.{request.file_format}"
    check_format(Path(output.name), photograph, (size[1], size[0]))
    kernel = request.read_kernel()
    kernel_from = "photograph" if kernel is None else "given"
    check_stop()
    if part is not None:
        kernel = pipeline.estimate(part, passes[0], photograph.jpeg_step).kernel[0].numpy()
        kernel_from = f"region {region}"
    send(Progress("Estimating blur and noise"))
    before = folder / "before.jpg"
    if request.pictures:
        write_preview(before, resample(y, size), photograph)
    steps, done, share, reported = settings.number_of_steps * len(passes), 0, 0.0, 0.0

    def on_progress(now: float) -> None:
        nonlocal share, reported
        check_stop()
        share = now
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            send(Progress(f"Step {min(done + 1, steps)} of {steps}", share))

    def on_step(number: int, x0_hat: Tensor) -> None:
        nonlocal done
        check_stop()
        done = number
        if not request.pictures:
            return
        # a new name for each step, because browsers cache pictures by name
        estimate = x0_hat.detach().mean(0).clamp(0, 1).cpu().numpy()
        after = write_preview(folder / f"step-{number}.jpg", estimate, photograph)
        send(Progress(f"Step {number} of {max(steps, number)}", share, (str(before), str(after))))

    try:
        result = restore_photograph(pipeline, photograph, settings, kernel, on_step, on_progress, mask)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    check_stop()
    facts = {
        "photograph": name,
        "scale": settings.scale if settings.is_scaled else settings.factor(height, width),
        "restoration_mode": settings.mode,
        "steps": settings.number_of_steps,
        "samples": settings.samples,
        "seed": settings.seed,
        "kernel_from": kernel_from,
        **({} if request.page is None else {"page": request.page}),
        **({} if crop is None else {"crop": list(crop)}),
        **result.facts(output),
    }
    output.write_bytes(encode_image(output, result.pixels, result.photograph, result.alpha))
    estimate = output.with_suffix(".json")
    estimate.write_text(json.dumps(facts), encoding="utf-8")
    pictures, extents = result_pictures(result, resample(y, size), before, folder) if request.pictures else ({}, {})
    return Restored(facts, output, estimate, pictures, extents)


@releasing_memory()
def estimate_kernel(pipeline: BlindDiffPipeline, request: Request, limits: Limits) -> dict[str, Any]:
    """The kernel and the noise of the photograph of a request, or of its region, for the request's scale.

    Returns `estimate_facts` with the names of photograph and region, the scale and the notes. Raises BlindDiffError if
    the request cannot be fulfilled, or `Stopped`.
    """
    photograph, scale = read_photograph(request.photograph, limits, request.page), int(request.settings.scale)
    y = visible_colours(photograph)
    region = parse_region(request.region, y.shape[-1], y.shape[-2])
    if region is not None:
        y = y[:, region.rows, region.columns]
    check_stop()
    found = pipeline.estimate(y, scale, photograph.jpeg_step)
    spectrum = None if found.noise_spectrum is None else found.noise_spectrum[0].numpy()
    error = None if found.expected_kernel_error is None else float(found.expected_kernel_error[0])
    return {
        "photograph": request.photograph.name,
        "scale": scale,
        "kernel_from": "photograph" if region is None else f"region {region}",
        **({} if request.page is None else {"page": request.page}),
        **estimate_facts(found.kernel[0].numpy(), scale, float(found.noise_level[0]), spectrum, photograph.jpeg_step),
        "expected_kernel_error": error,
        "notes": list(photograph.notes),
    }
