"""Pictures that are not photographs at their own size: enlarged ones, drawings, dithered ones. Made for training."""

import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from blinddiff.degradation import NOISES
from blinddiff.imaging import from_picture, to_picture

Random = np.random.Generator
Colour = tuple[int, int, int]

FACTORS = (1.5, 2.0, 3.0, 4.0)
"""Usual factors of enlargement."""
FACTOR_RANGE = (1.35, 4.5)
OTHER_FACTORS = 0.3  # share of enlarged pictures with any factor of the range
FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
COMPRESSED = 0.3  # share of pictures that are JPEG files in the end
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16


def tensor_of(picture: Image.Image) -> Tensor:
    """The colours of a picture, (3, H, W), see `from_picture`."""
    return torch.from_numpy(from_picture(picture)[0])


def make_picture(kind: str, photograph: Tensor, rng: Random) -> tuple[Tensor, float]:
    """A picture of one of `PICTURE_KINDS`, of the size of a photograph (3, h, w); and its enlargement, or 1."""
    if kind == "photograph":
        return photograph, 1.0
    height, width = photograph.shape[-2:]
    factor = 1.0
    if kind == "enlarged":
        picture, factor = enlarged(photograph, rng)
    else:
        picture = drawing(height, width, rng) if kind == "drawing" else dithered(photograph, rng)
    compress = kind != "dithered" and rng.random() < COMPRESSED
    return (compressed(picture, rng) if compress else picture), factor


def enlarged(image: Tensor, rng: Random) -> tuple[Tensor, float]:
    """The middle of an image (3, h, w), enlarged to the same size; and the factor. It may be compressed before."""
    height, width = image.shape[-2:]
    if rng.random() < OTHER_FACTORS:
        factor = math.exp(rng.uniform(math.log(FACTOR_RANGE[0]), math.log(FACTOR_RANGE[1])))
    else:
        factor = float(rng.choice(FACTORS))
    small = [max(8, math.ceil(side / factor)) for side in (height, width)]
    top, left = ((side - part) // 2 for side, part in zip((height, width), small, strict=True))
    part = image[:, top : top + small[0], left : left + small[1]]
    if rng.random() < COMPRESSED / 2:
        part = compressed(part, rng)
    size = round(small[1] * factor), round(small[0] * factor)
    picture = to_picture(part).resize(size, FILTERS[rng.integers(len(FILTERS))])
    return tensor_of(picture)[:, :height, :width], factor


def dithered(image: Tensor, rng: Random) -> Tensor:
    """An image (3, h, w), or a gradient, in a few colours: error diffusion or an ordered pattern."""
    height, width = image.shape[-2:]
    if rng.random() < 0.3:
        image = gradient(height, width, rng)
    picture = to_picture(image)
    kind = rng.integers(3)
    if kind == 0:
        return tensor_of(picture.convert("1").convert("RGB"))
    if kind == 1:
        palette = picture.quantize(int(rng.integers(2, 17)), dither=Image.Dither.NONE)
        return tensor_of(picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))
    tiles = np.tile(_BAYER, (height // 4 + 1, width // 4 + 1))[:height, :width]
    above = image.mean(0).numpy() > tiles
    pair = [np.array(colour)[:, None, None] for colour in (rng.random(3), rng.random(3))]
    return torch.from_numpy(np.where(above, *pair).astype(np.float32))


def gradient(height: int, width: int, rng: Random) -> Tensor:
    """A linear gradient between two colours: (3, height, width)."""
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[:height, :width]
    along = math.cos(angle) * columns / width + math.sin(angle) * rows / height
    along = (along - along.min()) / (along.max() - along.min())
    first, last = (rng.random(3)[:, None, None] for _ in range(2))
    return torch.from_numpy((first + (last - first) * along).astype(np.float32))


def drawing(height: int, width: int, rng: Random) -> Tensor:
    """A drawing or screenshot: flat shapes, lines and text, with or without antialiasing: (3, height, width)."""
    oversampling = int(rng.choice((1, 2, 3)))
    size = width * oversampling, height * oversampling
    picture = Image.new("RGB", size, _background(rng))
    if rng.random() < 0.2:
        picture = to_picture(gradient(size[1], size[0], rng))
    draw = ImageDraw.Draw(picture)
    palette = [_colour(rng) for _ in range(int(rng.integers(2, 7)))]
    outline = (0, 0, 0) if rng.random() < 0.5 else None
    for _ in range(int(rng.integers(3, 40))):
        _shape(draw, size, palette, outline, oversampling, rng)
    if rng.random() < 0.6:
        _text(draw, size, oversampling, rng)
    return tensor_of(picture.resize((width, height), Image.Resampling.BOX))


def compressed(image: Tensor, rng: Random) -> Tensor:
    """An image (3, h, w) after JPEG at a quality from 50 to 95."""
    quality = torch.tensor([rng.uniform(50, 95)])
    return NOISES["jpeg"].apply(image[None], quality, torch.Generator())[0]


def _background(rng: Random) -> Colour:
    return (255, 255, 255) if rng.random() < 0.4 else _colour(rng)


def _colour(rng: Random) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return (red, red, red) if rng.random() < 0.2 else (red, green, blue)


def _shape(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    palette: list[Colour],
    outline: Colour | None,
    pen: int,
    rng: Random,
) -> None:
    """One rectangle, ellipse, polygon or line of random size."""
    extent = max(size) * math.exp(rng.uniform(math.log(0.04), math.log(0.5)))
    centre: npt.NDArray[np.float64] = rng.uniform(0, size)
    radii = extent * rng.uniform(0.3, 1, 2) / 2
    box = [*(centre - radii).tolist(), *(centre + radii).tolist()]
    fill, width = palette[rng.integers(len(palette))], pen * int(rng.integers(1, 4))
    kind = rng.integers(4)
    if kind == 0:
        draw.rectangle(box, fill, outline, width)
    elif kind == 1:
        draw.ellipse(box, fill, outline, width)
    elif kind == 2:
        corners = centre + rng.uniform(-1, 1, (int(rng.integers(3, 7)), 2)) * radii
        draw.polygon(corners.ravel().tolist(), fill, outline, width)
    else:
        draw.line((centre + rng.uniform(-1, 1, (4, 2)) * radii).ravel().tolist(), fill, width, joint="curve")


def _text(draw: ImageDraw.ImageDraw, size: tuple[int, int], pen: int, rng: Random) -> None:
    """Lines of random letters, as on a screenshot."""
    letters = list("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ 0123456789 .,:;")
    height = pen * int(rng.integers(8, 25))
    font = ImageFont.load_default(size=height)
    colour, left = _colour(rng) if rng.random() < 0.5 else (0, 0, 0), rng.uniform(0, size[0] / 2)
    top = rng.uniform(0, size[1] / 2)
    for line in range(int(rng.integers(1, 9))):
        words = "".join(rng.choice(letters, int(rng.integers(5, 40))))
        draw.text((left, top + line * 1.3 * height), words, fill=colour, font=font)


def dead_leaves(height: int, width: int, rng: Random, smallest: float = 2.0) -> Tensor:
    """Overlapping ellipses and polygons of all sizes, shaded: (3, height, width), without noise.

    The number of radii r falls with r^-3, as in natural scenes (A. B. Lee et al., "Occlusion models for natural
    images", 2001). smallest: shortest radius in pixels.
    """
    picture = Image.new("RGB", (2 * width, 2 * height), _colour(rng))
    draw = ImageDraw.Draw(picture)
    count = round(0.25 * height * width / smallest**2)
    largest = 0.3 * max(height, width)
    radii = (smallest**-2 + rng.random(count) * (largest**-2 - smallest**-2)) ** -0.5
    for radius in 2 * np.sort(radii * rng.uniform(0.5, 1.5, count))[::-1]:
        centre, fill = rng.uniform(0, (2 * width, 2 * height)), _colour(rng)
        extent = radius * rng.uniform(0.4, 1, 2)
        if rng.random() < 0.6:
            draw.ellipse([*(centre - extent), *(centre + extent)], fill)
        else:
            corners = centre + rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2)) * extent
            draw.polygon(corners.ravel().tolist(), fill)
    image = tensor_of(picture.resize((width, height), Image.Resampling.BOX))
    shading = 0.6 + 0.4 * gradient(height, width, rng)
    return (image * shading * rng.uniform(0.5, 1)).clamp(0, 1)
