"""Converts pixels between the tone curve of a colour profile and the one of sRGB, which the network was trained on.

The tone curve changes the apparent blur and noise, so it is converted to sRGB before the restoration and back
afterwards. The primaries are kept: they only affect the saturation, and converting Display P3 or ProPhoto to sRGB would
clip colours. imagecodecs runs LittleCMS on floats; Pillow's ImageCms is limited to 8 bits.
"""

import functools
import struct
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blinddiff.errors import ImageError

GRID = np.linspace(0, 1, 4096)
MIN_SLOPE = 0.05
"""Minimum slope of a curve. A power law is flat at black, and its inverse would amplify rounding errors tenfold."""


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """A strictly increasing map of [0, 1] onto itself. `srgb`, (4096,), has the sRGB value of each value in `GRID`."""

    srgb: NDArray[np.float64]

    def to_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert values of the file, (H, W) in [0, 1], to the tone curve of sRGB."""
        return _interpolate(values, GRID, self.srgb)

    def from_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Invert `to_srgb`, up to float32 rounding."""
        return _interpolate(values, self.srgb, GRID)


def _interpolate(values: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    out = np.empty_like(values)
    for row in range(len(values)):  # by row, because np.interp returns float64, which needs much memory
        out[row] = np.interp(values[row], x, y)
    return out


@functools.lru_cache(maxsize=8)
def tone_curve(icc_profile: bytes | None, grey: bool) -> ToneCurve | None:
    """Return the tone curve of a colour profile; None if the pixels are used as sRGB without conversion.

    The result is None without a profile, and if the profile has the tone curve of sRGB, is damaged, or is for another
    kind of pixel (such as CMYK in an RGB file, or RGB in a `grey` file). Most viewers do the same.
    """
    if icc_profile is None:
        return None
    ramp = GRID.astype(np.float32)[None, :, None]
    try:
        # With floats and NOOPTIMIZE, LittleCMS neither rounds nor clips.
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
    luminance = np.asarray(xyz, np.float64).reshape(-1, 3)[:, 1]
    black, white = luminance[0], luminance[-1]
    if not np.isfinite(luminance).all() or white - black < 0.1:
        return None
    linear = np.clip((luminance - black) / (white - black), 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)
    # Tables may have flat or decreasing parts; the running maximum and the straight line make the curve invertible.
    tone = (1 - MIN_SLOPE) * np.maximum.accumulate(srgb) + MIN_SLOPE * GRID
    tone /= tone[-1]
    return None if np.abs(tone - GRID).max() < 1 / 1024 else ToneCurve(tone)


# Code points of ITU-T H.273, used in AVIF (nclx) and PNG (cICP), with (x, y) of red, green, blue and white.
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
    """Return an ICC profile for the code points of a PNG or AVIF file; None for sRGB, or without code points.

    The transfer functions of television count as that of sRGB, as in viewers. Raises ImageError for high dynamic range.
    """
    offset, layout = -1, ">BB"
    if file_format == "AVIF":
        offset, layout = data.find(b"colrnclx"), ">HH"
    elif file_format == "PNG":
        offset = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT"))
    if offset < 0:
        return None
    primaries, transfer = struct.unpack_from(layout, data, offset + 8)
    if kind := _HIGH_DYNAMIC_RANGE.get(transfer):
        raise ImageError(f"has a high dynamic range ({kind}), which is not supported: save it as an sRGB image first")
    if _PRIMARIES.get(primaries, _BT709) is _BT709 and transfer not in _GAMMAS:
        return None
    return _make_profile(primaries, transfer)


@functools.lru_cache(maxsize=8)
def _make_profile(primaries: int, transfer: int) -> bytes:
    *colours, white = _PRIMARIES.get(primaries, _BT709)
    values = np.linspace(0, 1, 1024)
    srgb = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = values ** _GAMMAS[transfer] if transfer in _GAMMAS else srgb
    profile = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[*white, 1.0],
        primaries=[number for x, y in colours for number in (x, y, 1.0)],
        transferfunction=(linear * 65535).round().astype(np.uint16),
    )
    # Set a fixed creation date, so that equal inputs give equal files.
    return profile[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + profile[36:]


def jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a JP2 file, which Pillow does not read; None if absent. (ISO/IEC 15444-1, I.5.3.3.)"""
    header = _find_box(data, 0, len(data), b"jp2h")
    box = None if header is None else _find_box(data, *header, b"colr")
    if box is None or data[box[0]] not in (2, 3):  # 1: an enumerated colour space
        return None
    return data[box[0] + 3 : box[1]]


def _find_box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    """Return the start and end of the contents of the first box of a kind; None if there is none."""
    while start + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, start)
        length = end - start if length == 0 or start + length > end else length  # 0 means up to the end
        if length < 8:
            return None
        if name == kind:
            return start + 8, start + length
        start += length
    return None
