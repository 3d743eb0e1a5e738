"""Draws kernels, noise spectra, residuals, and the sheet that compares input, bicubic interpolation and result."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from blinddiff.errors import KernelError, ParameterError
from blinddiff.imaging.photograph import to_picture

_NEAREST, _LANCZOS = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
# Black, red, pale yellow: lightness increases evenly, so that the colour map also works in greyscale.
_HEAT = np.array(
    [(0.02, 0.02, 0.07), (0.27, 0.06, 0.40), (0.58, 0.15, 0.40), (0.86, 0.32, 0.22), (0.98, 0.61, 0.08), (1, 1, 0.75)]
)


# For negative values, from -1 to just below 0, with the same lightness.
_COLD = np.array(
    [(0.80, 1, 1), (0.36, 0.82, 0.92), (0.10, 0.60, 0.80), (0.03, 0.42, 0.65), (0.02, 0.28, 0.48), (0.02, 0.15, 0.28)]
)


def heat_colours(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return (H, W, 3) colours of (H, W) values in [-1, 1]."""
    stops = np.concatenate([-np.linspace(1, 0, len(_COLD), endpoint=False), np.linspace(0, 1, len(_HEAT))])
    channels = np.concatenate([_COLD, _HEAT]).T
    colours = np.stack([np.interp(values, stops, channel) for channel in channels], axis=-1)
    return (colours * 255).round().astype(np.uint8)


def kernel_picture(kernel: ArrayLike, side: int = 240) -> Image.Image:
    """Return a picture of `kernel`, (kh, kw): one square per entry, black at 0 and lightest at the maximum.

    Negative entries are in shades of blue. The longer side is at most `side` pixels, or one pixel per entry. Raises
    KernelError for any other array.
    """
    values = np.asarray(kernel, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise KernelError(f"kernel: shape {values.shape}; it must be (kh, kw)")
    if not np.isfinite(values).all() or values.max() <= 0:
        raise KernelError("kernel: has entries that are not finite, or no entry above zero")
    block = max(1, side // max(values.shape))
    return Image.fromarray(heat_colours(np.kron(values / values.max(), np.ones((block, block)))))


def kernel_map_picture(kernels: NDArray[Any], side: int = 124) -> Image.Image:
    """Return the kernels of regions, (rows, columns, kh, kw), as a grid of `kernel_picture` with white lines."""
    lines = (0, 0, 2, 2)  # on the right and at the bottom
    tiles = [[np.asarray(ImageOps.expand(kernel_picture(k, side), lines, "white")) for k in row] for row in kernels]
    return Image.fromarray(np.vstack([np.hstack(row) for row in tiles])[:-2, :-2])


SPECTRUM_RANGE = 20.0
"""Decibels above and below white noise that `spectrum_picture` distinguishes."""


def spectrum_picture(spectrum: ArrayLike, side: int = 240) -> Image.Image:
    """Return a picture of a noise spectrum, (n, n), at the frequencies of `numpy.fft.fftfreq`, in decibels.

    Its centre is frequency 0, its edges are 0.5 cycles per pixel. A power of 1, that of white noise, has the middle
    colour. The side is at most `side` pixels, or one pixel per frequency.
    """
    decibels = 10 * np.log10(np.asarray(spectrum, np.float64).clip(1e-12))
    values = np.fft.fftshift(0.5 + decibels / (2 * SPECTRUM_RANGE)).clip(0, 1)
    block = max(1, side // len(values))
    return Image.fromarray(heat_colours(np.kron(values, np.ones((block, block)))))


def residual_picture(residual: NDArray[Any], side: int) -> tuple[Image.Image, float]:
    """Return a picture of a signed residual, (3, h, w) in grey levels, with 0 as mid-grey, and its range.

    The longer side has `side` pixels. A range of r means that -r is black and +r is white, in grey levels.
    """
    extent = max(1.0, 4 * float(np.sqrt(np.square(residual).mean())))
    picture = to_picture(0.5 + residual / (2 * extent))
    method = _NEAREST if side >= max(picture.size) else _LANCZOS
    return picture.resize(_fit(picture.size, side, side), method), extent


_PAPER, _INK, _PALE_INK, _FRAME = "#ffffff", "#1d1d1f", "#6e6e73", "#ffb000"
_MARGIN, _GAP, _TITLE_HEIGHT, _CAPTION_HEIGHT = 28, 16, 52, 34
_SMALL_PANEL = 248  # side of the pictures of kernel, spectrum and residual
_SMALLEST_COLUMN = 440  # with three columns of this width, numbers fit beside the small panels


@dataclass(frozen=True)
class SheetFacts:
    """The numbers on a comparison sheet.

    The noise level (standard deviation) and the residual's RMS are in grey levels (0..255). `noise_kind` is in words.
    The kernel's widths are its standard deviations along and across its main axis, in output pixels; its angle is that
    of the main axis, in degrees, clockwise from the x axis on the screen. `mtf50` is in words too, in cycles per input
    pixel.
    """

    scale: float
    noise_level: float
    noise_kind: str
    residual_rms: float
    kernel_widths: tuple[float, float]
    kernel_angle: float
    mtf50: str
    seconds: float


def comparison_sheet(
    low: ArrayLike,
    bicubic: ArrayLike,
    result: ArrayLike,
    kernel: ArrayLike,
    noise_spectrum: ArrayLike | None,
    residual: ArrayLike,
    facts: SheetFacts,
    title: str = "BlindDiff",
) -> Image.Image:
    """Return a sheet of three rows: input, bicubic and result; a magnified crop of each; the degradation in numbers.

    The crop shows where the result differs most from bicubic. The input `low` is (3, h, w) in [0, 1], `bicubic` and
    `result` are (3, H, W), `kernel` is the estimate (kh, kw) in output pixels, `noise_spectrum` is (n, n), see
    `spectrum_picture`, or None, and `residual` is y - A(x, k), (3, h, w) in the units of `low`. Characters of `title`
    outside Latin-1 become "?". Raises ParameterError for other shapes.
    """
    low, bicubic, result, kernel, residual = (np.asarray(each) for each in (low, bicubic, result, kernel, residual))
    if low.ndim != 3 or low.shape != residual.shape:
        raise ParameterError(f"residual: shape {residual.shape}, but the input has {low.shape}")
    if result.ndim != 3 or bicubic.shape != result.shape:
        raise ParameterError(f"bicubic: shape {bicubic.shape}, but the result has {result.shape}")
    full = result.shape[-1], result.shape[-2]
    pictures = [to_picture(low).resize(full, _NEAREST), to_picture(bicubic), to_picture(result)]
    sizes = [f"{picture.shape[-1]} x {picture.shape[-2]}" for picture in (low, result)]
    captions = (f"input, {sizes[0]}", f"bicubic x{facts.scale:.3g}", f"result, {sizes[1]}")
    size = _fit(full, 560, 480)
    width = max(size[0], _SMALLEST_COLUMN)
    zoom = min(16, max(1, round(width / (0.22 * full[0]))))  # the magnified row shows 22 % of the image's width
    box = _most_different_box(bicubic, result, width // zoom, width * 3 // 5 // zoom)
    zoomed = (box[2] - box[0]) * zoom, (box[3] - box[1]) * zoom
    magnified = [picture.crop(box).resize(zoomed, _NEAREST) for picture in pictures]
    top = _MARGIN + _TITLE_HEIGHT
    magnified_top = top + size[1] + _CAPTION_HEIGHT + _GAP
    last_top = magnified_top + magnified[0].height + _CAPTION_HEIGHT + _GAP
    height = last_top + _SMALL_PANEL + _CAPTION_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (2 * _MARGIN + 3 * width + 2 * _GAP, height), _PAPER)
    _text(sheet, (_MARGIN, _MARGIN - 6), title, 30)
    for column, (picture, detail, caption) in enumerate(zip(pictures, magnified, captions, strict=True)):
        left = _MARGIN + column * (width + _GAP)
        _panel(sheet, _with_frame(picture, box, size), (left, top), caption)
        _panel(sheet, detail, (left, magnified_top), f"magnified {zoom} times" if zoom > 1 else "pixel for pixel")
    _last_row(sheet, last_top, kernel, noise_spectrum, residual, facts)
    return sheet


def _fit(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Return the largest size of the same aspect ratio that fits into width x height."""
    factor = min(width / size[0], height / size[1])
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _most_different_box(
    bicubic: NDArray[Any], result: NDArray[Any], width: int, height: int
) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the window of width x height with the largest squared difference."""
    height, width = min(height, result.shape[-2]), min(width, result.shape[-1])
    energy = np.square((result - bicubic).astype(np.float64)).sum(0)
    # The integral image gives the sum over every window.
    integral = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    columns = integral[:, width:] - integral[:, :-width]
    sums = columns[height:] - columns[:-height]
    top, left = (int(i) for i in np.unravel_index(int(sums.argmax()), sums.shape))
    return left, top, left + width, top + height


def _with_frame(picture: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """Return `picture` resized to `size`, with a frame around `box`, which is in pixels of `picture`."""
    panel = picture.resize(size, _LANCZOS)
    scaled = [round(edge * size[i % 2] / picture.size[i % 2]) for i, edge in enumerate(box)]
    scaled[2], scaled[3] = max(scaled[0], scaled[2] - 1), max(scaled[1], scaled[3] - 1)
    ImageDraw.Draw(panel).rectangle(scaled, outline=_FRAME, width=2)
    return panel


def _last_row(
    sheet: Image.Image,
    top: int,
    kernel: NDArray[Any],
    noise_spectrum: ArrayLike | None,
    residual: NDArray[Any],
    facts: SheetFacts,
) -> None:
    """Draw kernel, noise spectrum, residual and numbers."""
    panels = [(kernel_picture(kernel, _SMALL_PANEL), f"kernel, {kernel.shape[1]} x {kernel.shape[0]} pixels")]
    if noise_spectrum is not None:
        panels.append((spectrum_picture(noise_spectrum, _SMALL_PANEL), f"noise, ±{SPECTRUM_RANGE:.0f} dB"))
    picture, extent = residual_picture(residual * 255, _SMALL_PANEL)
    panels.append((picture, f"residual, ±{extent:.1f} levels"))
    left = _MARGIN
    for picture, caption in panels:
        _panel(sheet, picture, (left, top), caption)
        left += max(picture.width, _SMALL_PANEL) + _GAP
    left += 2 * _GAP
    lines = (
        ("noise", facts.noise_kind),
        ("noise level", f"{facts.noise_level:.1f} grey levels"),
        ("residual, RMS", f"{facts.residual_rms:.2f} grey levels"),
        ("kernel widths", "{:.2f} and {:.2f} pixels".format(*facts.kernel_widths)),
        ("kernel angle", f"{facts.kernel_angle:.0f}°"),
        ("MTF50", facts.mtf50),
        ("time", f"{facts.seconds:.1f} s"),
    )
    for number, (name, value) in enumerate(lines):
        _text(sheet, (left, top + 2 + number * 36), name, 22, _PALE_INK)
        _text(sheet, (left + 170, top + 2 + number * 36), value, 22)


def _panel(sheet: Image.Image, picture: Image.Image, corner: tuple[int, int], caption: str) -> None:
    sheet.paste(picture, corner)
    _text(sheet, (corner[0], corner[1] + picture.height + 5), caption, 20, _PALE_INK)


def _text(sheet: Image.Image, corner: tuple[int, int], text: str, size: int, colour: str = _INK) -> None:
    # Pillow's default font shows a box for most characters outside Latin-1.
    drawn = text.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(sheet).text(corner, drawn, fill=colour, font=ImageFont.load_default(size=size))
