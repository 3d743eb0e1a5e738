"""Finds what is no photograph in a picture: frames, bars, the ground of a cut-out, captions, and lamps beyond white.

The edges of what was drawn were never blurred, so that deconvolution rings there and takes them for the sharpness of
the photograph; so does the edge of a clipped lamp. They are found by edges that are harder than blur can make them,
or much harder than those of the rest: a photograph's own white sky ends in a slope. Needs neither torch nor SciPy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blinddiff.imaging.mask import Mask
from blinddiff.imaging.photograph import Planes, enlarge_in_range

SMALLEST_PHOTOGRAPH = 32  # side in pixels; of less, nothing can be estimated
CONSTANT = 1.5
"""Largest difference from its median within a row of a frame, in grey levels, as in `models.photograph_area`."""
MAX_FRAME = 0.45  # share of a side
MIXED = 2  # rows beside a frame that resampling may have mixed with it
HARD = 0.6  # share of a step that lies within one pixel; at the border of a clipped area it is below a third
FRAME_STEP = 6.0  # mean step at a frame, grey levels; a smaller one causes no ringing
SHAPE_STEP = 30.0
SHAPE_SIDE = 5  # of a square of one colour that a flat shape contains
SHAPE_TIPS = 16  # times half that side, by which it may be longer where it is narrower
MIN_SHAPE = 0.002  # share of the pixels
MAX_SHAPES = 4
STROKE = 60
"""Grey levels by which a pixel of a stroke differs from both neighbours."""
STRONG_STROKE = 100
MIN_STRONG = 0.45  # share of the pixels of strokes; among the strongest details of photographs about a quarter
CELL = 8
MIN_STROKES = 30  # pixels of strokes in the 24 x 24 pixels around a cell with text
MAX_OTHERS = 0.001  # share of the pixels elsewhere: a photograph that is so sharp itself is not disturbed by text
MAX_TEXT = 0.22  # share of a picture
MIN_ALIKE = 0.7  # share of the pixels of strokes that have one of two colours
STROKE_REACH = 2  # pixels from the middle of a stroke to its edge
COLOUR_RADIUS = 60  # grey levels
LAMP_STEP = 60  # median step beside clipped pixels, grey levels
LAMP_RATIO = 2.5
"""How much larger it is than the largest steps elsewhere; in photographs without lamps at most as large."""
LARGEST = 0.999  # quantile
LAMP_REACH = 3  # pixels from clipped ones to the end of the slope beside them
MAX_LAMPS = 0.2  # share of the pixels
MARGIN = 1  # pixels beside drawn ones that resampling or antialiasing has mixed with them
MAX_GRAPHIC_COLOURS = 64
LEAST_PHOTOGRAPH = 0.15  # share of the pixels inside a frame; with less, the picture is a drawing

Levels = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is no photograph in a picture.

    Attributes:
        rows, columns: of the photograph inside the frame.
        mask: True where something was drawn over the photograph, or a lamp is clipped; of the size inside the frame.
    """

    rows: slice
    columns: slice
    mask: Mask

    def inside(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The part of (..., h, w) inside the frame."""
        return pixels[..., self.rows, self.columns]

    def paste(self, restored: Planes, pixels: Planes, scale: int) -> Planes:
        """Put the restored photograph, (..., 3, H, W) from `inside`, into the enlarged picture: (..., 3, s*h, s*w).

        pixels: the picture, (3, h, w). Frames keep their hard edges; what was drawn over the photograph is enlarged
        without ringing and blended with it over a pixel.
        """
        frame = pixels.repeat(scale, -2).repeat(scale, -1)
        rows, columns = (slice(each.start * scale, each.stop * scale) for each in (self.rows, self.columns))
        out = np.broadcast_to(frame, (*restored.shape[:-3], *frame.shape)).copy()
        if self.mask.any():
            share = enlarge_in_range(self.mask[None].astype(np.float32), scale)
            restored = restored + share * (enlarge_in_range(self.inside(pixels), scale) - restored)
        out[..., rows, columns] = restored
        return out


def enlarge_alone(pixels: Planes, scale: int) -> Planes:
    """Enlarge a picture (3, h, w) that cannot be restored: without ringing, and if it is a graphic with hard pixels."""
    return pixels.repeat(scale, -2).repeat(scale, -1) if is_graphic(pixels) else enlarge_in_range(pixels, scale)


def is_graphic(pixels: Planes) -> bool:
    """Whether a picture (3, h, w) has so few colours that it is drawn or dithered."""
    levels = np.rint(255 * pixels).astype(np.int32)
    return len(np.unique((levels[0] << 16) + (levels[1] << 8) + levels[2])) <= MAX_GRAPHIC_COLOURS


def find_drawn(pixels: Planes) -> Drawn | None:
    """What is no photograph in a picture (3, h, w) in [0, 1]; None if it is all photograph."""
    levels: Levels = np.rint(255 * pixels).astype(np.int16)
    if min(levels.shape[-2:]) < SMALLEST_PHOTOGRAPH:
        return None
    rows, columns = inside_frame(levels)
    inner = levels[:, rows, columns]
    mask = around(flat_shapes(inner) | text(inner), MARGIN)
    mask |= lamps(inner, mask)
    if mask.mean() > 1 - LEAST_PHOTOGRAPH:
        mask = np.zeros_like(mask)
    if not mask.any() and inner.shape == levels.shape:
        return None
    return Drawn(rows, columns, mask)


def inside_frame(levels: Levels) -> tuple[slice, slice]:
    """Rows and columns inside a frame, or several around each other, of rows and columns of one colour."""
    bounds = [[0, levels.shape[1]], [0, levels.shape[2]]]
    found = True
    while found:
        found = False
        for axis, (start, stop) in enumerate(bounds):
            other = slice(*bounds[1 - axis])
            lines = np.moveaxis(
                levels[:, start:stop, other] if axis == 0 else levels[:, other, start:stop], axis + 1, 0
            )
            width = _frame_width(lines), _frame_width(lines[::-1])
            if sum(width) and len(lines) - sum(width) >= SMALLEST_PHOTOGRAPH:
                bounds[axis] = [start + width[0], stop - width[1]]
                found = True
    return slice(*bounds[0]), slice(*bounds[1])


def _frame_width(lines: Levels) -> int:
    """How many of the first lines (n, 3, m) are a frame, with those that are mixed with it; 0 without a hard edge."""
    width, colour = 0, np.zeros((3, 1))
    for line in lines:
        median = np.median(line, 1, keepdims=True)
        if (abs(line - median) > CONSTANT).mean() > 0.01:
            break
        width, colour = width + 1, median
        if width > MAX_FRAME * len(lines):
            return 0
    if width == 0:
        return 0
    steps = [float(abs(line - colour).mean()) for line in lines[width : width + MIXED + 1]]
    mixed = 0
    while mixed < MIXED and steps[mixed] < HARD * steps[mixed + 1]:
        mixed += 1
    return width + mixed if mixed < MIXED and steps[mixed] >= FRAME_STEP else 0


def flat_shapes(levels: Levels) -> Mask:
    """Where areas of one colour with hard edges are, in (3, h, w): (h, w)."""
    shapes = np.zeros(levels.shape[1:], bool)
    reach = SHAPE_SIDE // 2
    flat = (_extreme(levels, reach, np.maximum) - _extreme(levels, reach, np.minimum)).max(0) <= 2 * CONSTANT
    if flat.sum() < MIN_SHAPE * flat.size:
        return shapes
    code = (levels[0].astype(np.int32) << 16) + (levels[1].astype(np.int32) << 8) + levels[2]
    colours, counts = np.unique(code[flat], return_counts=True)
    for index in np.argsort(-counts)[:MAX_SHAPES]:
        if counts[index] < MIN_SHAPE * flat.size:
            break
        colour = np.array([colours[index] >> 16, colours[index] >> 8 & 255, colours[index] & 255])[:, None, None]
        difference = abs(levels - colour).max(0)
        alike = difference <= 2 * CONSTANT
        shape = flat & alike
        for _ in range(SHAPE_TIPS):  # into narrow tips
            shape = around(shape, reach) & alike
        near, far = around(shape, 1), around(shape, 2)
        first, third = near & ~alike, around(far, 1) & ~far & ~alike
        if not first.any() or not third.any():
            continue
        step = float(difference[first].mean())
        if step >= max(SHAPE_STEP, HARD * float(difference[third].mean())):
            shapes |= shape
    return shapes


def lamps(levels: Levels, drawn: Mask) -> Mask:
    """Where clipped pixels of (3, h, w) and the slopes beside them are, if these are steeper than all else: (h, w).

    drawn: where something else was found, which does not count.
    """
    clipped = (levels >= 255).any(0) & ~drawn
    nothing = np.zeros_like(clipped)
    if not 0 < clipped.mean() <= MAX_LAMPS:
        return nothing
    across, down = (abs(np.diff(levels, axis=axis)).max(0) for axis in (2, 1))
    step = np.zeros(clipped.shape, np.int16)
    for part, steps in ((np.s_[:, 1:], across), (np.s_[:, :-1], across), (np.s_[1:], down), (np.s_[:-1], down)):
        step[part] = np.maximum(step[part], steps)
    beside, found = around(clipped, 1) & ~clipped, around(clipped, LAMP_REACH)
    elsewhere = step[~around(found | drawn, 1)]
    if not beside.any() or elsewhere.size < clipped.size / 2:
        return nothing
    median = float(np.median(step[beside]))
    return found if median >= max(LAMP_STEP, LAMP_RATIO * float(np.quantile(elsewhere, LARGEST))) else nothing


def text(levels: Levels) -> Mask:
    """Where thin strokes of one or two colours are dense, and rare elsewhere, in (3, h, w): (h, w)."""
    strength = stroke_strength(levels)
    strokes = strength >= STROKE
    nothing = np.zeros_like(strokes)
    if strokes.sum() < MIN_STROKES:
        return nothing
    height, width = strokes.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    cells = np.pad(strokes, ((0, rows * CELL - height), (0, columns * CELL - width)))
    counts = np.pad(cells.reshape(rows, CELL, columns, CELL).sum((1, 3)), 1)
    sums = np.lib.stride_tricks.sliding_window_view(counts, (3, 3)).sum((-2, -1))
    dense = (sums >= MIN_STROKES) & (counts[1:-1, 1:-1] > 0)
    region = dense.repeat(CELL, 0).repeat(CELL, 1)[:height, :width]
    found = strokes & region
    if not (
        0 < region.mean() <= MAX_TEXT
        and (strokes & ~region).sum() <= MAX_OTHERS * (~region).sum()
        and (strength[found] >= STRONG_STROKE).mean() >= MIN_STRONG
        and colour_share(levels[:, found]) >= MIN_ALIKE
    ):
        return nothing
    return around((strength >= STROKE / 2) & around(region, CELL // 2), STROKE_REACH)


def stroke_strength(levels: Levels) -> Levels:
    """By how much pixels of (3, h, w) differ from both neighbours in a direction, to the same side: (h, w).

    The largest of all directions and channels, in grey levels.
    """
    height, width = levels.shape[-2:]
    padded = np.pad(levels, ((0, 0), (1, 1), (1, 1)), "edge")
    strength: Levels = np.zeros((height, width), np.int16)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        one, two = (
            levels - padded[:, 1 + sign * down : 1 + sign * down + height, 1 + sign * right : 1 + sign * right + width]
            for sign in (1, -1)
        )
        strength = np.maximum(strength, np.maximum(np.minimum(one, two), np.minimum(-one, -two)).max(0))
    return strength


def colour_share(colours: Levels) -> float:
    """Share of colours (3, n) within `COLOUR_RADIUS` of the two most frequent ones."""
    left, share = colours, 0.0
    for _ in range(2):
        bins = left // 32
        code = (bins[0].astype(np.int32) << 6) + (bins[1] << 3) + bins[2]
        values, counts = np.unique(code, return_counts=True)
        if not len(counts):
            break
        middle = left[:, code == values[counts.argmax()]].mean(1, keepdims=True)
        near = abs(left - middle).max(0) <= COLOUR_RADIUS
        share += near.sum() / colours.shape[1]
        left = left[:, ~near]
    return share


def around(mask: Mask, reach: int) -> Mask:
    """Dilate (..., h, w) by a square of 2 * reach + 1 pixels."""
    return _extreme(mask, reach, np.logical_or)


def _extreme(planes: NDArray[Any], reach: int, combine: Any) -> NDArray[Any]:
    """The maximum or minimum over squares of 2 * reach + 1 pixels of (..., h, w)."""
    for axis in (-1, -2):
        out = planes.copy()
        for shift in range(1, min(reach, planes.shape[axis] - 1) + 1):
            before, after = [slice(None)] * planes.ndim, [slice(None)] * planes.ndim
            before[axis], after[axis] = slice(None, -shift), slice(shift, None)
            one, two = tuple(before), tuple(after)
            out[one] = combine(out[one], planes[two])
            out[two] = combine(out[two], planes[one])
        planes = out
    return planes
