"""Colour profiles: converts between the tone curve of a profile and that of sRGB, on which the network was trained.

A linear or a gamma 1.8 file taken for sRGB looks to the estimator like another blur and another noise; so its curve is
undone before, and applied again after the restoration. The primaries only change the saturation and stay: converting
Display P3 or ProPhoto to sRGB would clip colours. All is computed in floats; Pillow's colour management has 8 bits.
"""

import functools
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blinddiff.errors import ImageError

KNOTS = 4096
STRAIGHT = np.linspace(0, 1, KNOTS)
LEAST_SLOPE = 0.05
"""Share of a straight line in the curve. A pure power law is flat at black: inverted, it would turn half a grey level
of error into five."""


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """A strictly increasing map of [0, 1] onto itself: sRGB values, (KNOTS,), of evenly spaced values of the file."""

    srgb: NDArray[np.float64]

    def to_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert values of the file, (H, W) in [0, 1], to the tone curve of sRGB."""
        return _interpolate(values, STRAIGHT, self.srgb)

    def from_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Invert `to_srgb`, exactly up to float32."""
        return _interpolate(values, self.srgb, STRAIGHT)


def _interpolate(values: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty_like(values)
    for row in range(len(values)):  # numpy computes in 64 bits: a whole image would take twice its memory
        out[row] = np.interp(values[row], x, y)
    return out


@functools.lru_cache(maxsize=8)
def tone_curve(icc_profile: bytes | None, grey: bool) -> ToneCurve | None:
    """Return the tone curve of a colour profile; None if there is nothing to convert.

    That is: no profile, one with the tone curve of sRGB, a damaged one, or one for another kind of pixel (such as CMYK
    in an RGB file, or RGB in a `grey` one). The values are then taken for sRGB, as most viewers do.
    """
    if icc_profile is None:
        return None
    ramp = STRAIGHT.astype(np.float32)[None, :, None]
    try:
        # In floats and without the optimisation for speed, LittleCMS neither rounds nor clips.
        xyz = imagecodecs.cms_transform(
            ramp[..., 0] if grey else np.repeat(ramp, 3, axis=-1),
            icc_profile,
            imagecodecs.cms_profile("xyz"),
            colorspace="gray" if grey else "rgb",
            outcolorspace="xyz",
            outdtype="float32",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
            flags=imagecodecs.CMS.FLAGS.NOOPTIMIZE,
        )
    except (imagecodecs.CmsError, ValueError):
        return None
    luminance = np.asarray(xyz, np.float64).reshape(KNOTS, 3)[:, 1]
    black, white = luminance[0], luminance[-1]
    if not np.isfinite(luminance).all() or white - black < 0.1:
        return None
    light = np.clip((luminance - black) / (white - black), 0, 1)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)
    # Increasing even where a curve from a table has flat or falling parts.
    tone = (1 - LEAST_SLOPE) * np.maximum.accumulate(srgb) + LEAST_SLOPE * STRAIGHT
    tone /= tone[-1]
    return None if np.abs(tone - STRAIGHT).max() < 1 / 1024 else ToneCurve(tone)


# Code points of ITU-T H.273, which AVIF (nclx) and PNG (cICP) use. Chromaticities of red, green, blue and white:
_D65 = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
_PRIMARIES = {
    1: _BT709,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


def declared_profile(file_format: str, data: bytes) -> bytes | None:
    """Return an ICC profile of the colour space that a PNG or AVIF file names by code points; None for sRGB or none.

    Transfer functions of television are taken for sRGB's, as viewers do. Raises ImageError for high dynamic range.
    """
    offset, numbers = -1, ">BB"
    if file_format == "AVIF":
        offset, numbers = data.find(b"colrnclx"), ">HH"
    elif file_format == "PNG":
        offset = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT"))
    if offset < 0:
        return None
    primaries, transfer = struct.unpack_from(numbers, data, offset + 8)
    if kind := _HIGH_DYNAMIC_RANGE.get(transfer):
        raise ImageError(f"is an image of high dynamic range ({kind}), which is not read: save it for ordinary screens")
    if _PRIMARIES.get(primaries, _BT709) is _BT709 and transfer not in _GAMMAS:
        return None
    return _make_profile(primaries, transfer)


@functools.lru_cache(maxsize=8)
def _make_profile(primaries: int, transfer: int) -> bytes:
    *colours, white = _PRIMARIES.get(primaries, _BT709)
    values = np.linspace(0, 1, 1024)
    srgb = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = values ** _GAMMAS[transfer] if transfer in _GAMMAS else srgb
    profile = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[*white, 1.0],
        primaries=[number for x, y in colours for number in (x, y, 1.0)],
        transferfunction=(light * 65535).round().astype(np.uint16),
    )
    # A fixed date in place of the time of day: equal inputs give equal files.
    return profile[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + profile[36:]


def jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the colour profile of a JP2 file; None if there is none. (ISO/IEC 15444-1, annex I.5.3.3.)"""
    header = _find_box(data, 0, len(data), b"jp2h")
    box = None if header is None else _find_box(data, *header, b"colr")
    if box is None or data[box[0]] not in (2, 3):  # 1: an enumerated colour space
        return None
    return data[box[0] + 3 : box[1]]


def _find_box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    """Return start and end of the contents of the first box of a kind."""
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        length = end - start if length == 0 or start + length > end else length  # 0: up to the end
        if length < 8:
            return None
        if name == kind:
            return start + 8, start + length
        start += length
    return None
