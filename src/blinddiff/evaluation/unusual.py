"""The protocol `unusual`: pictures that are no plain photographs, and unusual blurs and noise."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.kernels import disk, identity, isotropic_gaussian
from blinddiff.degradation.noise import GaussianNoise
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.evaluation.data import Case, CaseReference, crop_to_multiple, read_pixels, to_8bit
from blinddiff.evaluation.protocol import Protocol
from blinddiff.imaging import to_picture
from blinddiff.training.pictures import dithered, drawing, tensor_of

SIZE = 31
LAMPS = 14
Pair = tuple[Tensor, Tensor]
Change = Callable[[Pair, int, np.random.Generator], Pair]
"""Changes (HR image, LR image), (3, H, W) each, at a scale."""


class Kind(NamedTuple):
    """One kind of picture: blur, noise in grey levels, what happens before the blur, and what happens afterwards."""

    label: str
    kernel: Tensor
    noise: float = 0.0
    before: Callable[[Tensor, np.random.Generator], Tensor] | None = None
    after: Change | None = None


def line(length: int) -> Tensor:
    """Horizontal motion over an odd number of pixels, (31, 31), of sum 1."""
    kernel = torch.zeros(SIZE, SIZE)
    kernel[SIZE // 2, (SIZE - length) // 2 : (SIZE + length) // 2] = 1 / length
    return kernel


def with_lamps(x: Tensor, rng: np.random.Generator) -> Tensor:
    """A dark scene (3, H, W) with lamps 4 to 25 times as bright as white."""
    height, width = x.shape[-2:]
    rows, columns = np.mgrid[:height, :width]
    x = 0.25 * x
    for _ in range(LAMPS):
        row, column, radius = rng.uniform(8, height - 8), rng.uniform(8, width - 8), rng.uniform(1, 3.5)
        inside = torch.from_numpy(np.clip(radius + 0.5 - np.hypot(rows - row, columns - column), 0, 1)).float()
        x = x * (1 - inside) + inside * float(rng.uniform(4, 25))
    return x


def black_bars(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """Bars above and below, of an eighth of the height each."""
    bar = pair[1].shape[-2] // 8
    return _padded(pair, scale, (0, 0, bar, bar), 0.0)


def white_frame(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """A frame of 8 LR pixels."""
    return _padded(pair, scale, (8, 8, 8, 8), 1.0)


def _padded(pair: Pair, scale: int, sides: Sequence[int], value: float) -> Pair:
    x, y = pair
    return F.pad(x, [scale * side for side in sides], value=value), F.pad(y, list(sides), value=value)


def black_line(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """A line of 2 LR pixels around the picture."""

    def frame(draw: ImageDraw.ImageDraw, width: int, height: int, pen: int) -> None:
        draw.rectangle((0, 0, width - 1, height - 1), outline=(0, 0, 0), width=2 * pen)

    return _drawn(pair, scale, frame)


def subtitle(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """White letters with a black outline at the bottom."""

    def text(draw: ImageDraw.ImageDraw, _: int, height: int, pen: int) -> None:
        font = ImageFont.load_default(size=13 * pen)
        place, white = (8 * pen, height - 20 * pen), (255, 255, 255)
        draw.text(place, "It was never so.", fill=white, font=font, stroke_width=pen, stroke_fill=(0, 0, 0))

    return _drawn(pair, scale, text)


def _drawn(pair: Pair, scale: int, paint: Callable[[ImageDraw.ImageDraw, int, int, int], object]) -> Pair:
    """Both images with the same drawing, `paint(draw, width, height, pixels of an LR pixel)`."""
    pictures = [to_picture(image) for image in pair]
    for picture, pen in zip(pictures, (scale, 1), strict=True):
        paint(ImageDraw.Draw(picture), picture.width, picture.height, pen)
    x, y = map(tensor_of, pictures)
    return x, y


def cut_out(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """An ellipse of the picture on white."""
    out = []
    for image in pair:
        height, width = image.shape[-2:]
        rows, columns = (torch.linspace(-1, 1, side) for side in (height, width))
        inside = ((rows[:, None] / 0.8) ** 2 + (columns / 0.7) ** 2 < 1).float()
        out.append(image * inside + 1 - inside)
    return out[0], out[1]


def enlarged_by(factor: float, resampling: Image.Resampling) -> Change:
    """Reduced by a factor, and enlarged again by another program."""

    def change(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
        picture = to_picture(pair[1])
        small = picture.resize([round(side / factor) for side in picture.size], Image.Resampling.BICUBIC)
        return pair[0], tensor_of(small.resize(picture.size, resampling))

    return change


def drawn_instead(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:
    """A drawing of the same size."""
    height, width = pair[0].shape[-2:]
    x = drawing(height, width, rng)
    return x, to_8bit(DegradationOperator(identity(SIZE), scale).forward(x[None])[0])


def dithered_instead(pair: Pair, scale: int, rng: np.random.Generator) -> Pair:  # noqa: ARG001
    """In a few colours."""
    return pair[0], dithered(pair[1], rng)


_RESAMPLING = Image.Resampling
KINDS = (
    *(Kind(f"noise {sigma:g}", identity(SIZE), sigma) for sigma in (5.0, 10.0, 25.0, 50.0)),
    Kind("blur 1, noise 10", isotropic_gaussian(1.0, SIZE), 10.0),
    Kind("disk 4", disk(4.0, SIZE), 1.0),
    Kind("straight motion 13", line(13), 1.0),
    Kind("straight motion 25", line(25), 1.0),
    Kind("lamps", isotropic_gaussian(1.6, SIZE), 3.0, with_lamps),
    *(
        Kind(change.__name__.replace("_", " "), isotropic_gaussian(1.6, SIZE), 2.0, after=change)
        for change in (black_bars, white_frame, black_line, subtitle, cut_out)
    ),
    *(
        Kind(f"enlarged x2, {resampling.name.lower()}", identity(SIZE), after=enlarged_by(2, resampling))
        for resampling in (_RESAMPLING.NEAREST, _RESAMPLING.BILINEAR, _RESAMPLING.BICUBIC, _RESAMPLING.LANCZOS)
    ),
    Kind("enlarged x3, bicubic", identity(SIZE), after=enlarged_by(3, _RESAMPLING.BICUBIC)),
    Kind("drawing", identity(SIZE), after=drawn_instead),
    Kind("dithered", identity(SIZE), after=dithered_instead),
)


class UnusualProtocol(Protocol):
    """What is no plain photograph, and blur and noise at the edges. Truth and input have the same frame or drawing."""

    labels = tuple(kind.label for kind in KINDS)

    def make(self, reference: CaseReference, seed: int) -> Case:
        kind = KINDS[reference.id.parameter]
        number = self.random_seed(reference, seed, "noise")
        generator, rng = torch.Generator().manual_seed(number), np.random.default_rng(number)
        hr = crop_to_multiple(read_pixels(reference.source), self.scale)
        x = hr if kind.before is None else kind.before(hr, rng)
        y = DegradationOperator(kind.kernel, self.scale).forward(x[None])
        y = to_8bit(GaussianNoise().apply(y, torch.tensor([kind.noise]), generator)[0])
        pair = x.clamp(0, 1), y
        if kind.after is not None:
            pair = kind.after(pair, self.scale, rng)
        known = kind.after is None
        seed = self.random_seed(reference, seed, "method")
        return Case(
            reference.id, self.scale, *pair, kind.kernel if known else None, kind.noise if known else None, seed
        )
