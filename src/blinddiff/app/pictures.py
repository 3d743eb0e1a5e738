"""What the page draws: previews, the kernel with its ellipse, the residual, the uncertainty."""

import math
from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from blinddiff.app.asked import Region
from blinddiff.degradation.kernel_measures import centroid, is_round, widths_and_angle
from blinddiff.imaging import Photograph, encode_image, heat_colours, kernel_picture

LONGEST_SIDE = 1600
"""Of pictures on the page, in pixels; the file to download is whole."""
_DRAWN_TWICE = 2  # lines and ellipses are drawn at twice the size, then reduced: Pillow's have steps
_LINE, _MARK = "#7fe3ff", "#ffb000"
_CAPTION = 32  # height of a line of text
_LEAST_REACH, _SHOWN_MASS = 4, 0.995  # of a kernel: entries around the middle one, and the share of its mass


def shown_size(pixels: Tensor) -> tuple[int, int]:
    """Width and height at which (3, H, W) pixels are shown."""
    height, width = pixels.shape[-2:]
    factor = min(1, LONGEST_SIDE / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def shown(pixels: Tensor, photograph: Photograph) -> bytes:
    """A JPEG file of pixels in the colours of ``photograph``'s profile, without what else it says."""
    width, height = shown_size(pixels)
    if (height, width) != pixels.shape[-2:]:
        pixels = F.interpolate(pixels[None], (height, width), mode="area")[0]
    return encode_image("shown.jpg", pixels, replace(photograph, alpha=None, exif=None, xmp=None))


def preview(photograph: Photograph, region: Region | None, corner: tuple[int, int] | None = None) -> Image.Image:
    """The photograph, with the region's rectangle on it, or the corner that has been chosen of it.

    Its colour profile, if it has one, is ``info["icc_profile"]``, which has to be named when the picture is saved.
    """
    # It is drawn on in colour, which a profile for grey does not describe: without one, it is shown in sRGB's tone.
    like = replace(photograph, icc_profile=None) if photograph.grey else photograph
    with Image.open(BytesIO(shown(photograph.pixels, like))) as stored:
        picture = stored.convert("RGB")
    factor = picture.width / photograph.pixels.shape[-1]
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 200))
    if region is not None:
        left, top = region.left * factor, region.top * factor
        right, bottom = left + region.width * factor - 1, top + region.height * factor - 1
        draw.rectangle((left, top, right, bottom), outline=_MARK, width=width)
    if corner is not None:
        x, y = (position * factor for position in corner)
        draw.line((x - 5 * width, y, x + 5 * width, y), fill=_MARK, width=width)
        draw.line((x, y - 5 * width, x, y + 5 * width), fill=_MARK, width=width)
    return picture


def drawn_kernel(kernel: Tensor, side: int = 372) -> Image.Image:
    """The kernel, where its mass is, with the ellipse of its widths and its longer axis drawn, and both in words."""
    down, across = (float(value) for value in centroid(kernel))
    major, minor, degrees = (float(value) for value in widths_and_angle(kernel))
    kernel = _core(kernel)
    blocks = kernel_picture(kernel, side).convert("RGB")
    picture = blocks.resize((_DRAWN_TWICE * blocks.width, _DRAWN_TWICE * blocks.height), Image.Resampling.NEAREST)
    block = picture.width / kernel.shape[-1]
    # The middle of the "no shift" entry, moved by the centroid
    y, x = (kernel.shape[-2] // 2 + 0.5 + down) * block, (kernel.shape[-1] // 2 + 0.5 + across) * block
    turn = math.radians(degrees)
    along, aside = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
    ellipse = [
        (
            x + block * (major * math.cos(a) * along[0] + minor * math.sin(a) * aside[0]),
            y + block * (major * math.cos(a) * along[1] + minor * math.sin(a) * aside[1]),
        )
        for a in np.linspace(0, 2 * math.pi, 73)
    ]
    draw = ImageDraw.Draw(picture)
    draw.line(ellipse, fill=_LINE, width=2 * _DRAWN_TWICE)
    reach = block * major
    draw.line(
        (x - reach * along[0], y - reach * along[1], x + reach * along[0], y + reach * along[1]), _LINE, _DRAWN_TWICE
    )
    drawn = Image.new("RGB", (blocks.width, blocks.height + _CAPTION), "#ffffff")
    drawn.paste(picture.resize(blocks.size, Image.Resampling.LANCZOS))
    direction = "round" if is_round(major, minor) else f"{degrees:.0f}\u00b0"
    words = f"{major:.2f} x {minor:.2f} pixels, {direction}"
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(drawn).text((6, blocks.height + 4), words, fill="#1d1d1f", font=font)
    return drawn


def _core(kernel: Tensor) -> Tensor:
    """The middle of a kernel, as large as it takes to hold nearly all of its mass, and a rim of one entry."""
    rows, columns = kernel.shape
    total = kernel.sum()
    for reach in range(_LEAST_REACH, max(rows, columns)):
        top, left = max(0, rows // 2 - reach), max(0, columns // 2 - reach)
        core = kernel[top : rows // 2 + reach + 1, left : columns // 2 + reach + 1]
        # Cut evenly on both sides, so that its "no shift" entry stays the middle one
        whole_circle = core.shape == (2 * reach + 1, 2 * reach + 1)
        if whole_circle and core[1:-1, 1:-1].sum() >= _SHOWN_MASS * total:
            return core
    return kernel


def drawn_uncertainty(std: Tensor) -> tuple[Image.Image, float]:
    """A map of where the samples disagree, dark to light, and the grey levels that its lightest colour stands for.

    Args:
        std: standard deviation over the samples, (3, H, W), in [0, 1].
    """
    levels = 255 * std.square().mean(0, keepdim=True).sqrt()
    width, height = shown_size(levels)
    reduced = F.interpolate(levels[None], (height, width), mode="area")[0, 0].cpu().double().numpy()
    extent = max(1.0, float(np.quantile(reduced, 0.995)))
    return Image.fromarray(heat_colours(np.clip(reduced / extent, 0, 1))), extent
