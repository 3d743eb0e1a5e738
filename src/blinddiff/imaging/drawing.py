"""A blur kernel as a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from blinddiff.errors import KernelError, ParameterError
from blinddiff.imaging.photograph import to_picture

# Dark to light, evenly rising in lightness, so that it reads the same in grey print.
_HEAT = (
    (0.02, 0.02, 0.07),
    (0.27, 0.06, 0.40),
    (0.58, 0.15, 0.40),
    (0.86, 0.32, 0.22),
    (0.98, 0.61, 0.08),
    (1, 1, 0.75),
)


def kernel_picture(kernel: Tensor, side: int = 240) -> Image.Image:
    """Return `kernel` enlarged to whole blocks of pixels, zero black and its largest entry lightest.

    Colours go from black over red to pale yellow, which shows faint tails.

    Args:
        kernel: (kh, kw), >= 0.
        side: the longer side of the picture in pixels, at most; a kernel larger than that is not reduced.

    Raises:
        KernelError: `kernel` is not (kh, kw), or has negative or non-finite entries, or none above zero.
    """
    if kernel.ndim != 2 or kernel.numel() == 0:
        raise KernelError(f"kernel: shape {tuple(kernel.shape)}; accepted is (kh, kw)")
    values = kernel.detach().cpu().double().numpy()
    if not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise KernelError("kernel: has negative or non-finite entries, or none above zero")
    block = max(1, side // max(values.shape))
    enlarged = np.kron(values / values.max(), np.ones((block, block)))
    return Image.fromarray(heat_colours(enlarged))


def kernel_map_picture(kernels: Tensor, side: int = 124) -> Image.Image:
    """Return kernels of regions, each a `kernel_picture` in its region's place, with white lines between.

    Args:
        kernels: (rows, columns, kh, kw), >= 0.
        side: of each, at most.

    Raises:
        KernelError: as for `kernel_picture`.
    """
    pictures = [[kernel_picture(kernel, side) for kernel in row] for row in kernels]
    width, height = pictures[0][0].size
    sheet = Image.new("RGB", (len(pictures[0]) * (width + 2) - 2, len(pictures) * (height + 2) - 2), "white")
    for row, line in enumerate(pictures):
        for column, picture in enumerate(line):
            sheet.paste(picture, (column * (width + 2), row * (height + 2)))
    return sheet


def heat_colours(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (H, W, 3) colours of values in [0, 1]."""
    stops = np.linspace(0, 1, len(_HEAT))
    channels = [np.interp(values, stops, [colour[channel] for colour in _HEAT]) for channel in range(3)]
    return (np.stack(channels, axis=-1) * 255).round().astype(np.uint8)


def residual_picture(residual: Tensor, side: int) -> tuple[Image.Image, float]:
    """Return a signed residual around mid-grey, its longer side brought to ``side``, and the extent.

    Args:
        residual: (3, h, w) in grey levels.
        side: in pixels.

    Returns:
        The picture, and the grey levels that its black (negative) and its white (positive) stand for.
    """
    levels = residual.detach().cpu().float()
    extent = max(1.0, 4 * float(levels.square().mean().sqrt()))
    picture = to_picture(0.5 + levels / (2 * extent))
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS), extent


_PAPER, _INK, _PALE_INK, _FRAME = "#ffffff", "#1d1d1f", "#6e6e73", "#ffb000"
_MARGIN, _GAP = 28, 16
_TITLE_HEIGHT, _CAPTION_HEIGHT = 52, 34
_PANEL_WIDTH, _PANEL_HEIGHT = 560, 480  # at most
_NARROWEST_PANEL = 320
_EVIDENCE_SIDE = 248  # kernel and residual picture
_ZOOM_SHARE = 0.22  # of the image's width that the zoomed row shows
_LARGEST_ZOOM = 16
_Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class SheetFacts:
    """The figures of one restoration that its sheet states.

    Attributes:
        scale: enlargement, 1 to 4.
        noise_level: standard deviation of the input's noise in grey levels (0..255).
        residual_rms: root mean square of the residual in grey levels.
        kernel_widths: standard deviations of the kernel along and across its main direction, in output pixels.
        kernel_angle: the main direction in degrees from the x axis towards the y axis, clockwise on the screen.
        seconds: time from the input's pixels to the result's.
    """

    scale: int
    noise_level: float
    residual_rms: float
    kernel_widths: tuple[float, float]
    kernel_angle: float
    seconds: float


def comparison_sheet(
    low: Tensor,
    bicubic: Tensor,
    result: Tensor,
    kernel: Tensor,
    residual: Tensor,
    facts: SheetFacts,
    title: str = "BlindDiff",
) -> Image.Image:
    """Return input, bicubic and result side by side, the same magnified, kernel, residual and figures.

    The magnified row shows the place where the result differs most from bicubic, as whole blocks of pixels.

    Args:
        low: (3, h, w) in [0, 1], the input y.
        bicubic: (3, H, W) in [0, 1], the input enlarged by bicubic interpolation.
        result: (3, H, W) in [0, 1].
        kernel: (kh, kw), the estimated blur kernel in output pixels.
        residual: (3, h, w), y - A(x, k) in the units of `low`, signed.
        facts: the figures.
        title: heading, such as the input's file name; signs beyond Latin-1 are shown as "?".

    Raises:
        ParameterError: the shapes do not belong together.
    """
    _check_shapes(low, bicubic, result, residual)
    pictures = [
        _nearest(to_picture(low), (result.shape[-1], result.shape[-2])),
        to_picture(bicubic),
        to_picture(result),
    ]
    size = _fit(pictures[0].size)
    width = max(size[0], _NARROWEST_PANEL)
    zoom = min(_LARGEST_ZOOM, max(1, round(width / (_ZOOM_SHARE * pictures[0].width))))
    box = _telling_box(bicubic, result, width // zoom, width * 3 // 5 // zoom)
    captions = (
        f"input, {low.shape[-1]} x {low.shape[-2]}",
        f"bicubic x{facts.scale}",
        f"result, {result.shape[-1]} x {result.shape[-2]}",
    )

    zoomed = [_nearest(p.crop(box), ((box[2] - box[0]) * zoom, (box[3] - box[1]) * zoom)) for p in pictures]
    tops = [_MARGIN + _TITLE_HEIGHT]  # of the three rows
    tops.append(tops[0] + size[1] + _CAPTION_HEIGHT + _GAP)
    tops.append(tops[1] + zoomed[0].height + _CAPTION_HEIGHT + _GAP)
    sheet = Image.new(
        "RGB",
        (2 * _MARGIN + 3 * width + 2 * _GAP, tops[2] + _EVIDENCE_SIDE + _CAPTION_HEIGHT + _MARGIN),
        _PAPER,
    )
    _text(sheet, (_MARGIN, _MARGIN - 6), title, 30)
    for column, (picture, magnified, caption) in enumerate(zip(pictures, zoomed, captions, strict=True)):
        left = _MARGIN + column * (width + _GAP)
        _panel(sheet, _framed(picture, box, size), (left, tops[0]), caption)
        _panel(sheet, magnified, (left, tops[1]), f"magnified {zoom} times" if zoom > 1 else "pixel for pixel")
    _evidence(sheet, tops[2], kernel, residual, facts)
    return sheet


def _check_shapes(low: Tensor, bicubic: Tensor, result: Tensor, residual: Tensor) -> None:
    if low.ndim != 3 or low.shape != residual.shape:
        raise ParameterError(f"residual: shape {tuple(residual.shape)}; accepted is the input's, {tuple(low.shape)}")
    if result.ndim != 3 or bicubic.shape != result.shape:
        raise ParameterError(f"bicubic: shape {tuple(bicubic.shape)}; accepted is the result's, {tuple(result.shape)}")


def _nearest(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture.resize(size, Image.Resampling.NEAREST)


def _fit(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a panel: the image's shape, as large as the sheet gives it room."""
    factor = min(_PANEL_WIDTH / size[0], _PANEL_HEIGHT / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _telling_box(bicubic: Tensor, result: Tensor, width: int, height: int) -> _Box:
    """Return the window of at most width x height where result and bicubic differ most in mean square."""
    height, width = min(height, result.shape[-2]), min(width, result.shape[-1])
    energy = (result - bicubic).detach().cpu().double().square().sum(dim=0).numpy()
    # the sum over every window, from the integral image
    integral = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    columns = integral[:, width:] - integral[:, :-width]
    sums = columns[height:] - columns[:-height]
    top, left = (int(i) for i in np.unravel_index(int(sums.argmax()), sums.shape))
    return left, top, left + width, top + height


def _framed(picture: Image.Image, box: _Box, size: tuple[int, int]) -> Image.Image:
    """Return `picture` at the panel's size with `box`, given in its pixels, drawn on it."""
    panel = picture.resize(size, Image.Resampling.LANCZOS)
    scaled = [round(edge * size[i % 2] / picture.size[i % 2]) for i, edge in enumerate(box)]
    scaled[2], scaled[3] = max(scaled[0], scaled[2] - 1), max(scaled[1], scaled[3] - 1)
    ImageDraw.Draw(panel).rectangle(scaled, outline=_FRAME, width=2)
    return panel


def _evidence(sheet: Image.Image, top: int, kernel: Tensor, residual: Tensor, facts: SheetFacts) -> None:
    """Draw the last row: kernel, residual, figures."""
    drawn_kernel = kernel_picture(kernel, _EVIDENCE_SIDE)
    rows, columns = kernel.shape
    _panel(sheet, drawn_kernel, (_MARGIN, top), f"blur kernel, {columns} x {rows} pixels")
    left = _MARGIN + max(drawn_kernel.width, _EVIDENCE_SIDE) + _GAP
    drawn_residual, extent = residual_picture(residual * 255, _EVIDENCE_SIDE)
    _panel(sheet, drawn_residual, (left, top), f"residual, ±{extent:.1f} levels")
    left += _EVIDENCE_SIDE + 3 * _GAP
    broad, narrow = facts.kernel_widths
    lines = (
        ("noise level", f"{facts.noise_level:.1f} grey levels"),
        ("residual, RMS", f"{facts.residual_rms:.2f} grey levels"),
        ("kernel widths", f"{broad:.2f} and {narrow:.2f} pixels"),
        ("kernel angle", f"{facts.kernel_angle:.0f}°"),
        ("time", f"{facts.seconds:.1f} s"),
    )
    for number, (name, value) in enumerate(lines):
        height = top + 4 + number * 46
        _text(sheet, (left, height), name, 24, _PALE_INK)
        _text(sheet, (left + 190, height), value, 24)


def _panel(sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], caption: str) -> None:
    sheet.paste(picture, corner)
    _text(sheet, (corner[0], corner[1] + picture.height + 5), caption, 20, _PALE_INK)


def _text(sheet: Image.Image, corner: tuple[int, int], text: str, size: int, colour: str = _INK) -> None:
    # Pillow's own font has few signs beyond Latin-1, and a box for the others
    shown = text.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(sheet).text(corner, shown, fill=colour, font=ImageFont.load_default(size=size))
