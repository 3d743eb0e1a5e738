"""What the page displays: the preview, pictures, measurements, messages, and the answer to a request."""

import json
import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torch.nn import functional as F

from blinddiff.app import Limits
from blinddiff.app.request import Region, VisitorFiles, add_corner, parse_region, read_photograph
from blinddiff.degradation.kernel_measures import centroid, is_round, widths_and_angle
from blinddiff.errors import BlindDiffError, ImageError
from blinddiff.imaging import Photograph, encode_image, kernel_picture
from blinddiff.imaging.drawing import heat_colours, residual_picture
from blinddiff.restoring.photograph import Result
from blinddiff.sampling.output import UNRELIABLE_KERNEL_ERROR

PreviewOutputs: TypeAlias = tuple[Any, Any, str, str]
"""The picture below the upload, the picture for selecting a region, the region's text, and the status line."""
LONGEST_SIDE = 1600  # of pictures on the page, in pixels; the file to download keeps its full size
_SMALL_SIDE = 372  # of the pictures of kernel and residual, in pixels
_OVERSAMPLING = 2  # the ellipse is drawn at twice the size, then reduced: Pillow's lines are not antialiased
_LINE_COLOUR, _REGION_COLOUR = "#7fe3ff", "#ffb000"


def status(text: str, progress: float | None = None, is_error: bool = False) -> str:
    """The status line in HTML, announced by screen readers; ``progress``, 0 to 1, is drawn as a bar."""
    bar = "" if progress is None else f"<progress max='1' value='{progress:.3f}' aria-label='work done'></progress>"
    attributes = "class='status wrong' role='alert'" if is_error else "class='status' role='status'"
    return f"<div {attributes} aria-live='polite'>{escape(text)}{bar}</div>"


def page_error(error: Exception) -> gr.Error:
    """An error as one sentence for the page and HTTP; the details of an unexpected error go to the log only."""
    if isinstance(error, BlindDiffError):
        text = " ".join(str(error).split())
        if "." not in text.split(" ")[0]:  # file names keep their case
            text = text[:1].upper() + text[1:]
        text += "" if text.endswith((".", "?", "!")) else "."
    else:
        logging.getLogger("blinddiff.app").error("a request failed", exc_info=error)
        text = "Internal error: your request was not the cause. The server's log has the details."
    return gr.Error(text, print_exception=False, title="Not done")


def measurements_table(facts: Mapping[str, Any], residual_extent: float, uncertainty_extent: float | None) -> str:
    """The measurements of a restoration as an HTML table. ``facts`` is as in `Answer`.

    ``residual_extent``, ``uncertainty_extent`` (None for one sample): values, in grey levels, of the lightest colour.
    """
    major, minor = facts["kernel_widths"]
    angle = f"{facts['kernel_angle']:.0f} degrees, clockwise from the horizontal"
    error, residual, uncertainty = (facts.get(key) for key in ("expected_kernel_error", "residual_rms", "uncertainty"))
    rows = {
        "Size": f"{facts['width']} x {facts['height']} pixels",
        "Kernel widths": f"{major:.2f} x {minor:.2f} pixels of the result",
        "Kernel angle": "none: it is round" if is_round(major, minor) else angle,
        "Kernel from": facts["kernel_from"],
        "Kernel error": None if error is None else kernel_error_text(error),
        "Noise level": f"{facts['noise_level']:.1f} grey levels",
        "Residual": f"{residual:.2f} grey levels (root mean square); in the picture, black is -{residual_extent:.1f} "
        f"and white is +{residual_extent:.1f}",
        "Consistency": f"{facts['consistency']:.2f} ({_consistency_text(facts['consistency'])})",
        "Uncertainty": None
        if uncertainty is None
        else f"{uncertainty:.2f} grey levels over {facts['samples']} samples; in the picture, the darkest colour is 0 "
        f"and the lightest is {uncertainty_extent:.1f}",
        "Notes": "; ".join(facts["notes"]),
        "Seconds": f"{facts['seconds']:.1f}",
        "Seed": str(facts["seed"]),
    }
    cells = [f"<tr><th scope='row'>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items() if text]
    return f"<table class='figures'><caption>What was found</caption>{''.join(cells)}</table>"


def kernel_error_text(expected: float) -> str:
    """The expected error of the kernel, and whether the kernel can be known at all, see `BlindDiffOutput`."""
    note = "it cannot be determined from this image" if expected >= UNRELIABLE_KERNEL_ERROR else "expected"
    return f"{expected:.2f} of 2 ({note})"


def _consistency_text(ratio: float) -> str:
    if ratio > 1.5:
        return "far above 1: kernel or noise level are not quite right"
    if ratio < 0.6:
        return "far below 1: the result repeats the input's noise"
    return "near 1: the result explains the input"


def display_size(pixels: Tensor) -> tuple[int, int]:
    """Height and width at which (C, H, W) pixels are displayed: at most `LONGEST_SIDE`."""
    height, width = pixels.shape[-2:]
    factor = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _reduce(pixels: Tensor) -> Tensor:
    return F.interpolate(pixels[None], display_size(pixels), mode="area")[0]


def display_jpeg(pixels: Tensor, photograph: Photograph) -> bytes:
    """Reduce (3, H, W) pixels to `display_size`. Return a JPEG file with the photograph's profile, without EXIF."""
    return encode_image("picture.jpg", _reduce(pixels), replace(photograph.without_metadata(), alpha=None))


def draw_preview(photograph: Photograph, region: Region | None, corner: tuple[int, int] | None = None) -> Image.Image:
    """The photograph at `display_size`, with a rectangle around the region, or a cross at its first corner.

    The picture's ``info["icc_profile"]`` is its colour profile; ``save`` writes it only if it is an argument.
    """
    # A grey profile cannot describe the coloured lines. If it is dropped, `display_jpeg` writes grey values as sRGB.
    source = replace(photograph, icc_profile=None) if photograph.grey else photograph
    with Image.open(BytesIO(display_jpeg(photograph.pixels, source))) as stored:
        picture = stored.convert("RGB")
    factor = picture.width / photograph.pixels.shape[-1]
    line_width = max(2, round(max(picture.size) / 200))
    draw = ImageDraw.Draw(picture)
    if region is not None:
        left, top, width, height = (number * factor for number in region)
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=_REGION_COLOUR, width=line_width)
    if corner is not None:
        x, y, arm = corner[0] * factor, corner[1] * factor, 5 * line_width
        for line in ((x - arm, y, x + arm, y), (x, y - arm, x, y + arm)):
            draw.line(line, fill=_REGION_COLOUR, width=line_width)
    return picture


def draw_kernel(kernel: Tensor) -> Image.Image:
    """The central part of a kernel (n, m) with an ellipse of its widths, a line along the longer axis and a caption."""
    down, right = (float(value) for value in centroid(kernel))
    major, minor, degrees = (float(value) for value in widths_and_angle(kernel))
    kernel = _crop_to_mass(kernel)
    blocks = kernel_picture(kernel, _SMALL_SIDE)
    picture = ImageOps.scale(blocks, _OVERSAMPLING, Image.Resampling.NEAREST)
    block = picture.width / kernel.shape[-1]
    # The centroid is relative to the middle of the central entry, (n // 2, m // 2).
    centre = block * (np.array(kernel.shape[::-1]) // 2 + 0.5 + (right, down))
    angle, t = math.radians(degrees), np.linspace(0, 2 * math.pi, 73)[:, None]
    direction = np.array([math.cos(angle), math.sin(angle)])
    major_axis, minor_axis = block * major * direction, block * minor * direction[::-1] * (-1, 1)
    ellipse = centre + np.cos(t) * major_axis + np.sin(t) * minor_axis
    draw = ImageDraw.Draw(picture)
    draw.line(ellipse.ravel().tolist(), _LINE_COLOUR, 2 * _OVERSAMPLING)
    draw.line([*(centre - major_axis).tolist(), *(centre + major_axis).tolist()], _LINE_COLOUR, _OVERSAMPLING)
    picture = picture.resize(blocks.size, Image.Resampling.LANCZOS)
    captioned = ImageOps.expand(picture, (0, 0, 0, 32), "#ffffff")
    text = f"{major:.2f} x {minor:.2f} pixels, " + ("round" if is_round(major, minor) else f"{degrees:.0f}\u00b0")
    ImageDraw.Draw(captioned).text((6, blocks.height + 4), text, fill="#1d1d1f", font_size=20)
    return captioned


def _crop_to_mass(kernel: Tensor) -> Tensor:
    """The smallest central square with 99.5 % of a kernel's mass and a border of one entry; at least 9 x 9."""
    row, column = (side // 2 for side in kernel.shape)
    for radius in range(4, (min(kernel.shape) + 1) // 2):
        core = kernel[row - radius : row + radius + 1, column - radius : column + radius + 1]
        if core[1:-1, 1:-1].sum() >= 0.995 * kernel.sum():
            return core
    return kernel


def draw_uncertainty(std: Tensor) -> tuple[Image.Image, float]:
    """A picture of the standard deviation (3, H, W) in [0, 1], and the grey level shown as the lightest colour."""
    levels = _reduce(255 * std.square().mean(0, keepdim=True).sqrt())[0].cpu().double().numpy()
    extent = max(1.0, float(np.quantile(levels, 0.995)))
    return Image.fromarray(heat_colours(np.clip(levels / extent, 0, 1))), extent


class Answer(NamedTuple):
    """The outputs of the page, in order; skipped ones keep their content.

    ``status`` and ``figures`` are HTML; ``facts`` is a dict with the keys in docs/guides/http.md. All others are paths
    of files: ``slider`` has two, before and after; ``estimate`` is a JSON file with the facts.
    """

    status: Any
    slider: Any = gr.skip()
    figures: Any = gr.skip()
    kernel: Any = gr.skip()
    residual: Any = gr.skip()
    uncertainty: Any = gr.skip()
    result: Any = gr.skip()
    estimate: Any = gr.skip()
    facts: Any = gr.skip()


def result_answer(result: Result, facts: dict[str, Any], before: Path, output: Path) -> Answer:
    """The final answer. Writes the result to ``output``, and all other files to the same folder."""
    output.write_bytes(encode_image(output, result.pixels, result.photograph, result.alpha))
    facts_file = output.with_suffix(".json")
    facts_file.write_text(json.dumps(facts), encoding="utf-8")
    after = output.with_name("after.jpg")
    after.write_bytes(display_jpeg(result.pixels, result.photograph))
    residual, residual_extent = residual_picture(result.residual, _SMALL_SIDE)
    uncertainty, uncertainty_extent = (None, None) if result.std is None else draw_uncertainty(result.std)
    pictures = {"kernel": draw_kernel(result.kernel), "residual": residual, "uncertainty": uncertainty}
    files: dict[str, str | None] = dict.fromkeys(pictures)
    for name, picture in pictures.items():
        if picture is not None:
            files[name] = file = str(output.with_name(f"{name}.png"))
            picture.save(file)
    return Answer(
        status(f"Done in {facts['seconds']:.1f} seconds", 1),
        (str(before), str(after)),
        measurements_table(facts, residual_extent, uncertainty_extent),
        **files,
        result=str(output),
        estimate=str(facts_file),
        facts=facts,
    )


class Preview:
    """Displays the uploaded photograph, and the region that the visitor selects by two clicks on it."""

    def __init__(self, limits: Limits, files: VisitorFiles) -> None:
        self._limits, self._files = limits, files
        self._lock = threading.Lock()  # one photograph in memory at a time

    def upload(self, photograph: str | None, request: gr.Request) -> PreviewOutputs:
        """Display a new photograph, and clear the region."""
        if photograph is None:
            return gr.update(value=None, visible=False), None, "", status("")
        return self._draw(Path(photograph), "", None, request)

    def click(self, photograph: str | None, region: str, event: gr.SelectData, request: gr.Request) -> PreviewOutputs:
        """Handle a click on the picture for selecting: the first sets a corner, the second the opposite one."""
        if photograph is None:
            raise page_error(ImageError("choose a photograph first"))
        return self._draw(Path(photograph), region, (int(event.index[0]), int(event.index[1])), request)

    def _draw(self, path: Path, region_text: str, click: tuple[int, int] | None, request: gr.Request) -> PreviewOutputs:
        visitor = str(request.session_hash)
        self._files.keep_upload(visitor, path)
        try:
            with self._lock:
                photograph = read_photograph(path, self._limits)
                height, width = photograph.pixels.shape[-2:]
                corner, region = None, None
                if click is not None:
                    factor = width / display_size(photograph.pixels)[1]
                    x, y = (round(position * factor) for position in click)
                    corner, region_text = add_corner(region_text, min(x, width), min(y, height))
                if corner is None:
                    region = parse_region(region_text, width, height)
                file = self._files.new_folder(visitor) / "preview.jpg"
                picture = draw_preview(photograph, region, corner)
                picture.save(file, quality=90, icc_profile=picture.info.get("icc_profile"))
        except Exception as error:  # noqa: BLE001  # logged, and reported to the visitor
            raise page_error(error) from None
        chosen = gr.update(value=str(file), visible=True) if click is None else gr.skip()
        line = "; ".join([f"{path.name}: {width} x {height} pixels", *photograph.notes])
        return chosen, str(file), region_text, status(line)
