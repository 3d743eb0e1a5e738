"""A degradation in the terms of imaging engineers: MTF50 and overshoot of the blur, the kind of noise in words.

The modulation transfer function (MTF) is that of ISO 12233: the modulus of the Fourier transform of the line spread
function, which is the kernel summed along an edge. Blur and antialiased downsampling together give that of y.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blinddiff.degradation.model import downsampling_taps

MTF_POINTS = 1024  # frequencies at which the MTF is computed, up to the Nyquist frequency of the HR grid
SHARPENED = 0.02
"""Overshoot from which a photograph counts as sharpened; less is within the error of the estimate."""
NO_NOISE = 1.0  # grey levels; below it, the spectrum is hardly more than that of rounding
PEAK_SHARE = 0.25  # share of the noise's power in one peak, from which it is a printed screen
COARSE = 2.0  # ratio of low to high frequencies' power, from which noise is grain
BLOCKY_STEP = 3.0  # mean step of a JPEG table from which its blocks can be seen


@dataclass(frozen=True)
class Sharpness:
    """What a kernel does to an edge.

    Attributes:
        mtf50: frequency at which the MTF of y falls to one half, across vertical and horizontal edges, in cycles per
            pixel of y; None where it does not fall so far below the Nyquist frequency of the HR grid.
        overshoot: how far an edge blurred by the kernel exceeds its brighter side, as a share of its contrast; 0
            without negative entries.
    """

    mtf50: tuple[float | None, float | None]
    overshoot: float

    @property
    def sharpened(self) -> bool:
        """Whether the overshoot is beyond the error of an estimate."""
        return self.overshoot >= SHARPENED

    def facts(self) -> dict[str, Any]:
        """The values for JSON."""
        rounded = [None if value is None else round(value, 4) for value in self.mtf50]
        return {"mtf50": rounded, "overshoot": round(self.overshoot, 4), "sharpened": self.sharpened}


def sharpness_of(kernel: ArrayLike, scale: int) -> Sharpness:
    """`Sharpness` of a kernel (n, m), HR pixels, of sum 1, at a scale."""
    spreads = [np.asarray(kernel, np.float64).sum(axis) for axis in (0, 1)]
    across, down = (mtf50(*mtf(spread, scale)) for spread in spreads)
    overshoot = max(max(float(edge.max()) - 1, -float(edge.min())) for edge in (part.cumsum(0) for part in spreads))
    return Sharpness((across, down), max(overshoot, 0.0))


def mtf(line_spread: ArrayLike, scale: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies, in cycles per pixel of y, and the MTF of y there, from a kernel's line spread function (n,)."""
    taps, _ = downsampling_taps(scale)
    frequency = np.linspace(0, 0.5, MTF_POINTS)  # cycles per HR pixel
    transfer = np.ones_like(frequency)
    for part in (np.asarray(line_spread, np.float64), taps):
        phase = -2j * math.pi * frequency[:, None] * np.arange(len(part))
        transfer = transfer * abs(np.exp(phase) @ part)
    return frequency * scale, transfer


def mtf50(frequency: NDArray[np.float64], transfer: NDArray[np.float64]) -> float | None:
    """The lowest frequency at which the MTF falls to 0.5, by linear interpolation; None if it does not."""
    below = np.flatnonzero(transfer < 0.5)
    if not len(below):
        return None
    last = int(below[0])  # at least 1: the MTF is 1 at 0
    before, after = float(transfer[last - 1]), float(transfer[last])
    start, end = float(frequency[last - 1]), float(frequency[last])
    return start + (end - start) * (before - 0.5) / (before - after)


def mtf50_in_words(mtf50: Sequence[float | None]) -> str:
    """The values of `Sharpness.mtf50`: "0.21 across, 0.20 down"."""
    across, down = ("above Nyquist" if value is None else f"{value:.2f}" for value in mtf50)
    return f"{across} across, {down} down"


def noise_in_words(level: float, spectrum: ArrayLike | None, jpeg_step: float = 0.0) -> str:
    """The kind of noise: "none", "white noise", "grain", "printed screen of 3.0 px", "fine noise", "JPEG blocks".

    level: grey levels. spectrum: relative power (n, n) at the frequencies of `numpy.fft.fftfreq`, or None for white.
    jpeg_step: see `Observation`. A screen is a peak away from the origin; its period is that of its lines.
    """
    if level < NO_NOISE:
        return "none"
    kind = "white noise" if spectrum is None else _kind(np.asarray(spectrum, np.float64))
    if jpeg_step >= BLOCKY_STEP:
        return f"{kind} and JPEG blocks" if kind.startswith("printed") else "JPEG blocks"
    return kind


def _kind(spectrum: NDArray[np.float64]) -> str:
    n = spectrum.shape[-1]
    frequency = np.fft.fftfreq(n)
    radius = np.hypot(frequency[:, None], frequency)
    # A peak spreads over its neighbours, and has a mirror image at the negative frequency. On a toroidal grid:
    around = np.sum([np.roll(spectrum, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
    around -= 9 * _median(spectrum)
    peak = int(np.where(radius > 1.5 / n, around, 0).argmax())
    period = 1 / _refined(spectrum, peak // n, peak % n)
    if 2 * float(around.flatten()[peak]) >= PEAK_SHARE * float(spectrum.sum()) and period < n / 2:
        return f"printed screen of {period:.1f} px"
    low, high = spectrum[(radius > 0) & (radius <= 0.2)].mean(), spectrum[radius >= 0.35].mean()
    ratio = float(low / high)
    return "grain" if ratio >= COARSE else "fine noise" if ratio <= 1 / COARSE else "white noise"


def _median(spectrum: NDArray[np.float64]) -> float:
    """The lower of the two values in the middle."""
    return float(np.quantile(spectrum, 0.5, method="lower"))


def _refined(spectrum: NDArray[np.float64], row: int, column: int) -> float:
    """The length of the frequency of a peak, cycles per pixel, as the centroid of the 3 x 3 entries around it."""
    n = spectrum.shape[-1]
    near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    power = np.array([spectrum[(row + i) % n, (column + j) % n] for i, j in near]) - _median(spectrum)
    weight = power.clip(0) / max(power.clip(0).sum(), 1e-30)
    signed = [(k + n // 2) % n - n // 2 for k in (row, column)]
    centre = [
        sum(float(w) * (k + step[axis]) for w, step in zip(weight, near, strict=True)) for axis, k in enumerate(signed)
    ]
    return max(math.hypot(*centre) / n, 1e-6)
