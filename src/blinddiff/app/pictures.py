"""Draws what the page displays: the photograph with its crop and region, kernels, and uncertainty."""

import math
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from blinddiff.app.request import Region
from blinddiff.degradation.kernel_measures import centroid, is_round, widths_and_angle
from blinddiff.imaging import OUTPUT_FORMATS, Photograph, encode_image, kernel_map_picture, kernel_picture
from blinddiff.imaging.drawing import heat_colours, residual_picture, spectrum_picture
from blinddiff.imaging.photograph import Planes, resize
from blinddiff.restoring.photograph import Result

LONGEST_SIDE = 1600  # of pictures on the page, in pixels; the file to download keeps its full size
SMALL_SIDE = 372  # of the pictures of kernel, noise and residual, in pixels
_OVERSAMPLING = 2  # the ellipse is drawn at twice the size, then reduced: Pillow's lines are not antialiased
_LINE_COLOUR, CROP_COLOUR, REGION_COLOUR = "#7fe3ff", "#ff4fd8", "#ffb000"


def display_size(pixels: Planes) -> tuple[int, int]:
    """Height and width at which (C, H, W) pixels are displayed: at most `LONGEST_SIDE`."""
    height, width = pixels.shape[-2:]
    factor = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _reduce(pixels: Planes) -> Planes:
    return resize(pixels, display_size(pixels), Image.Resampling.BOX)


def display_jpeg(pixels: Planes, photograph: Photograph) -> bytes:
    """Reduce (3, H, W) pixels to `display_size`. Return a JPEG file with the photograph's profile, without EXIF."""
    return encode_image("picture.jpg", _reduce(pixels), _without_metadata(photograph))


def _without_metadata(photograph: Photograph) -> Photograph:
    return replace(photograph.without_metadata(), alpha=None)


def write_preview(path: Path, pixels: Planes, photograph: Photograph) -> Path:
    """Write `display_jpeg` to a file, and return its path."""
    path.write_bytes(display_jpeg(pixels, photograph))
    return path


def result_pictures(
    result: Result, enlarged: Planes, before: Path, folder: Path
) -> tuple[dict[str, Path], dict[str, float]]:
    """Write the pictures of a result to a folder; return pictures and extents as in `jobs.Restored`.

    ``enlarged`` is the photograph at the size of the result, and ``before`` its preview.
    """
    after = write_preview(folder / "after.jpg", result.pixels, result.photograph)
    files = {"before": before, "after": after, "full_before": before, "full_after": after}
    if LONGEST_SIDE < max(result.pixels.shape[-2:]) <= OUTPUT_FORMATS[".jpg"].longest_side:
        plain = _without_metadata(result.photograph)
        for name, pixels in (("full_before", enlarged), ("full_after", result.pixels)):
            files[name] = folder / f"{name}.jpg"
            files[name].write_bytes(encode_image("picture.jpg", pixels, plain))
    residual, extent = residual_picture(result.residual, SMALL_SIDE)
    pictures, extents = {"kernel": draw_kernel(result.kernel), "residual": residual}, {"residual": extent}
    if result.kernel_map is not None:
        pictures["kernel_map"] = kernel_map_picture(result.kernel_map.kernels.numpy())
    if result.noise_spectrum is not None:
        pictures["noise"] = spectrum_picture(result.noise_spectrum, SMALL_SIDE)
    if result.std is not None:
        pictures["uncertainty"], extents["uncertainty"] = draw_uncertainty(result.std)
    for name, picture in pictures.items():
        files[name] = folder / f"{name}.png"
        picture.save(files[name])
    return files, extents


def draw_preview(
    photograph: Photograph, rectangles: Mapping[str, Region], corner: tuple[int, int] | None = None
) -> Image.Image:
    """The photograph at `display_size`, with a rectangle of each colour, or a cross at the first corner of one.

    The picture's ``info["icc_profile"]`` is its colour profile; ``save`` writes it only if it is an argument.
    """
    # A grey profile cannot describe the coloured lines. If it is dropped, `display_jpeg` writes grey values as sRGB.
    source = replace(photograph, icc_profile=None) if photograph.grey else photograph
    with Image.open(BytesIO(display_jpeg(photograph.pixels, source))) as stored:
        picture = stored.convert("RGB")
    factor = picture.width / photograph.pixels.shape[-1]
    line_width = max(2, round(max(picture.size) / 200))
    draw = ImageDraw.Draw(picture)
    for colour, rectangle in rectangles.items():
        left, top, width, height = (number * factor for number in rectangle)
        draw.rectangle((left, top, left + width - 1, top + height - 1), outline=colour, width=line_width)
    if corner is not None:
        x, y, arm = corner[0] * factor, corner[1] * factor, 5 * line_width
        for line in ((x - arm, y, x + arm, y), (x, y - arm, x, y + arm)):
            draw.line(line, fill=CROP_COLOUR, width=line_width)
    return picture


def draw_kernel(kernel: NDArray[Any]) -> Image.Image:
    """The central part of a kernel (n, m) with an ellipse of its widths, a line along the longer axis and a caption."""
    down, right = (float(value) for value in centroid(kernel))
    major, minor, degrees = (float(value) for value in widths_and_angle(kernel))
    kernel = _crop_to_mass(kernel)
    blocks = kernel_picture(kernel, SMALL_SIDE)
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


def _crop_to_mass(kernel: NDArray[Any]) -> NDArray[Any]:
    """The smallest central square with 99.5 % of a kernel's mass and a border of one entry; at least 9 x 9."""
    row, column = (side // 2 for side in kernel.shape)
    for radius in range(4, (min(kernel.shape) + 1) // 2):
        core = kernel[row - radius : row + radius + 1, column - radius : column + radius + 1]
        if core[1:-1, 1:-1].sum() >= 0.995 * kernel.sum():
            return core
    return kernel


def draw_uncertainty(std: NDArray[Any]) -> tuple[Image.Image, float]:
    """A picture of the standard deviation (3, H, W) in [0, 1], and the grey level shown as the lightest colour."""
    levels = _reduce(255 * np.sqrt(np.square(std).mean(0, keepdims=True)))[0].astype(np.float64)
    extent = max(1.0, float(np.quantile(levels, 0.995)))
    return Image.fromarray(heat_colours(np.clip(levels / extent, 0, 1))), extent
