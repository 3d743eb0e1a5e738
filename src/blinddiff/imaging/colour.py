"""Converts pixels between the tone curve of a colour profile and the one of sRGB, which the network was trained on.

The tone curve changes the apparent blur and noise, so it is converted to sRGB before the restoration and back
afterwards. The primaries are kept: they only affect the saturation, and converting Display P3 or ProPhoto to sRGB would
clip colours. imagecodecs runs LittleCMS on floats; Pillow's ImageCms is limited to 8 bits.
"""

import functools
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from blinddiff.errors import ImageError
from blinddiff.imaging.formats import iso_boxes
from blinddiff.imaging.png import png_chunks

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


def srgb_to_linear(values: NDArray[Any]) -> NDArray[Any]:
    """Linear light, in [0, 1], of values with the tone curve of sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `srgb_to_linear`."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * np.maximum(values, 1e-12) ** (1 / 2.4) - 0.055)


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
    srgb = linear_to_srgb(linear)
    # Tables may have flat or decreasing parts; the running maximum and the straight line make the curve invertible.
    tone = (1 - MIN_SLOPE) * np.maximum.accumulate(srgb) + MIN_SLOPE * GRID
    tone /= tone[-1]
    return None if np.abs(tone - GRID).max() < 1 / 1024 else ToneCurve(tone)


# Code points of ITU-T H.273, used in AVIF and HEIC (nclx), PNG (cICP) and, nearly the same, JPEG XL
Primaries: TypeAlias = tuple[tuple[float, float], ...]
"""The (x, y) of red, green, blue and white."""
D65 = (0.3127, 0.3290)
BT709: Primaries = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), D65)
PRIMARIES: dict[int, Primaries] = {
    1: BT709,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65),  # Display P3
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}


def declared_profile(file_format: str, data: bytes, grey: bool = False) -> bytes | None:
    """Return an ICC profile for what an AVIF, HEIC or PNG file declares without one; None for sRGB or no declaration.

    In PNG, cICP takes precedence over sRGB, and sRGB over gAMA and cHRM, as in its third edition. Raises ImageError for
    high dynamic range.
    """
    if file_format in ("AVIF", "HEIF"):
        offset = data.find(b"colrnclx")
        return None if offset < 0 else profile_of_codes(*struct.unpack_from(">HH", data, offset + 8), grey=grey)
    if file_format != "PNG":
        return None
    chunks: dict[bytes, bytes] = {}
    for kind, start, end in png_chunks(data):
        if kind == b"IDAT":
            break
        chunks[kind] = data[start:end]
    if len(chunks.get(b"cICP", b"")) == 4:
        return profile_of_codes(chunks[b"cICP"][0], chunks[b"cICP"][1], grey=grey)
    if b"sRGB" in chunks:
        return None
    gamma, primaries = None, BT709
    if len(chunks.get(b"gAMA", b"")) == 4:
        (stored,) = struct.unpack(">I", chunks[b"gAMA"])
        gamma = 1e5 / stored if 1e4 <= stored <= 1e6 else None  # others are mistakes
    if len(chunks.get(b"cHRM", b"")) == 32:
        numbers = [number / 1e5 for number in struct.unpack(">8I", chunks[b"cHRM"])]
        white, *colours = zip(numbers[::2], numbers[1::2], strict=True)
        primaries = (*colours, white)
    # 45455 is what writers of sRGB state, although the curve of sRGB is no power.
    if gamma is not None and abs(gamma - 2.2) < 0.02 and (grey or _is_bt709(primaries)):
        return None
    return make_profile(primaries, gamma, grey)


def profile_of_codes(primaries: int, transfer: int, *, grey: bool = False) -> bytes | None:
    """Return an ICC profile for code points of H.273; None for sRGB.

    The transfer functions of television count as that of sRGB, as in viewers. Raises ImageError for high dynamic range.
    """
    if kind := _HIGH_DYNAMIC_RANGE.get(transfer):
        raise ImageError(f"has a high dynamic range ({kind}), which is not supported: save it as an sRGB image first")
    return make_profile(PRIMARIES.get(primaries, BT709), _GAMMAS.get(transfer), grey)


def _is_bt709(primaries: Primaries) -> bool:
    return bool(np.abs(np.subtract(primaries, BT709)).max() < 0.002)


@functools.lru_cache(maxsize=8)
def make_profile(primaries: Primaries, gamma: float | None, grey: bool = False) -> bytes | None:
    """Return an ICC profile for primaries and the exponent of a power law; None for sRGB or impossible primaries.

    ``gamma`` None is the tone curve of sRGB; ``grey`` profiles have the white point and the curve alone.
    """
    if gamma is None and (grey or _is_bt709(primaries)):
        return None
    values = np.linspace(0, 1, 1024)
    linear = srgb_to_linear(values) if gamma is None else values**gamma
    *colours, white = primaries
    triangle = np.array([[x, y, 1 - x - y] for x, y in colours])
    if not grey and (min(y for _, y in primaries) <= 0 or abs(np.linalg.det(triangle)) < 1e-3):
        return None
    profile = imagecodecs.cms_profile(
        "gray" if grey else "rgb",
        whitepoint=[*(D65 if grey else white), 1.0],
        primaries=None if grey else [number for x, y in colours for number in (x, y, 1.0)],
        transferfunction=(linear * 65535).round().astype(np.uint16),
    )
    # Set a fixed creation date, so that equal inputs give equal files.
    return profile[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + profile[36:]


def cmyk_to_srgb(inks: NDArray[Any], icc_profile: bytes | None) -> tuple[NDArray[Any], str]:
    """Convert (H, W, 4) cyan, magenta, yellow and black, uint8 or uint16, to (H, W, 3) sRGB; the maximum is full ink.

    Uses the colour profile (relative colorimetric, with black point compensation), else the formula of Pillow. Returns
    the pixels and a note on the conversion.
    """
    try:
        if icc_profile:
            flags = imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION
            return imagecodecs.cms_transform(
                np.ascontiguousarray(inks),
                icc_profile,
                imagecodecs.cms_profile("srgb"),
                colorspace="cmyk",
                outcolorspace="rgb",
                outdtype=inks.dtype,
                intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
                flags=flags,
            ), "CMYK was converted to sRGB through its colour profile"
        reason = "it has no colour profile"
    except (imagecodecs.CmsError, ValueError):
        reason = "its colour profile is not one for CMYK, or is damaged"
    white = np.float32(np.iinfo(inks.dtype).max)
    paper = white - inks[..., 3].astype(np.float32)
    rgb = np.empty((*inks.shape[:2], 3), inks.dtype)
    for index in range(3):  # by channel, to save memory
        rgb[..., index] = ((white - inks[..., index]) * paper / white).round()
    return rgb, f"CMYK was converted to sRGB by a formula, because {reason}: colours are approximate"


def jpeg2000_profile(data: bytes) -> bytes | None:
    """Return the ICC profile of a JP2 file, which Pillow does not read; None if absent. (ISO/IEC 15444-1, I.5.3.3.)"""
    header = _find_box(data, 0, len(data), b"jp2h")
    box = None if header is None else _find_box(data, *header, b"colr")
    if box is None or data[box[0]] not in (2, 3):  # 1: an enumerated colour space
        return None
    return data[box[0] + 3 : box[1]]


def _find_box(data: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    """Return the start and end of the contents of the first box of a kind; None if there is none."""
    return next((box[1:] for box in iso_boxes(data, start, end) if box[0] == kind), None)
