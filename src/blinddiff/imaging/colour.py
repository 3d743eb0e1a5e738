"""Colour profiles, honoured: into the tone of sRGB, in which the network thinks, and exactly back.

What a profile changes about a blur is its tone curve: how the numbers follow the light. A linear or a gamma 1.8 file,
taken for sRGB, looks to the estimator like another blur and another noise. Its primaries, on the other hand, only say
how saturated the colours are. So the curve is undone and the primaries stay: every colour of Display P3 or ProPhoto
comes back as it went in, where a conversion to sRGB would have clipped it, and 16-bit files keep all of their bits,
where Pillow's colour management works in 8.
"""

import functools
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blinddiff.errors import ImageError

KNOTS = 4096
LEAST_SLOPE = 0.05
"""Share of a straight line in the curve. Pure power laws are flat at black, where the way back would make half a grey
level of error into five."""


@dataclass(frozen=True, eq=False)
class ToneCurve:
    """A strictly rising map of [0, 1] onto itself.

    Attributes:
        srgb: what sRGB would write for the light that the profile means by 0, 1/(n-1), ..., 1; (n,), from 0 to 1.
    """

    srgb: NDArray[np.float64]

    def to_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of the file, an array of any shape, in the tone of sRGB."""
        return _interpolated(values, self._file, self.srgb)

    def from_srgb(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The way back: exact up to float32."""
        return _interpolated(values, self.srgb, self._file)

    @property
    def _file(self) -> NDArray[np.float64]:
        return np.linspace(0, 1, len(self.srgb))


def _interpolated(values: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float32]:
    """Row by row: numpy interpolates in 64 bits, which for a whole image would be twice its memory."""
    out = np.empty_like(values)
    for row in range(len(values)):
        out[row] = np.interp(values[row], x, y)
    return out


@functools.lru_cache(maxsize=8)
def tone_curve(icc_profile: bytes | None, grey: bool) -> ToneCurve | None:
    """Return the tone curve of a colour profile; None where there is nothing to convert.

    That is: no profile, one with the tone of sRGB, one that is damaged, or one for another kind of pixel (such as that
    of a printer's four inks in an RGB file): the numbers are then taken as they are, as most viewers do.

    Args:
        icc_profile: as embedded in the file.
        grey: whether the file is grey; its profile must then be one for grey.
    """
    if icc_profile is None:
        return None
    light = _light_of_neutrals(icc_profile, grey)
    if light is None:
        return None
    straight = np.linspace(0, 1, KNOTS)
    # Rising even where a curve from a table has flat or falling places.
    tone = (1 - LEAST_SLOPE) * np.maximum.accumulate(_srgb_of_light(light)) + LEAST_SLOPE * straight
    tone /= tone[-1]
    return None if np.abs(tone - straight).max() < 1 / 1024 else ToneCurve(tone)


def _light_of_neutrals(icc_profile: bytes, grey: bool) -> NDArray[np.float64] | None:
    """Luminance, 0 to 1, that a profile means by `KNOTS` neutral values from 0 to 1; None where it cannot be told."""
    import imagecodecs

    ramp = np.linspace(0, 1, KNOTS, dtype=np.float32)[None, :, None]
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
    if not np.isfinite(luminance).all() or luminance[-1] - luminance[0] < 0.1:
        return None
    return np.clip((luminance - luminance[0]) / (luminance[-1] - luminance[0]), 0, 1)


def _srgb_of_light(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The tone curve of sRGB, IEC 61966-2-1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-12) ** (1 / 2.4) - 0.055)


_D65 = (0.3127, 0.3290)
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
# Chromaticities of red, green, blue and white
_PRIMARIES = {
    1: _BT709,
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),  # DCI P3
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HIGH_RANGE = {16: "PQ", 18: "HLG"}
_MADE = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)  # else the time of day, and no two results alike


def declared_profile(file_format: str, data: bytes) -> bytes | None:
    """Return the colours that a file declares by numbers as an ICC profile; None for those of sRGB, or for none.

    Transfer characteristics of television are taken for sRGB's, as viewers do.

    Args:
        file_format: Pillow's name.
        data: the file.

    Raises:
        ImageError: an image of high dynamic range, whose numbers mean light far beyond white.
    """
    numbers = _numbers(file_format, data)
    if numbers is None:
        return None
    primaries, transfer = numbers
    if transfer in _HIGH_RANGE:
        kind = _HIGH_RANGE[transfer]
        raise ImageError(f"is an image of high dynamic range ({kind}), which is not read: save it for ordinary screens")
    if _PRIMARIES.get(primaries, _BT709) is _BT709 and transfer not in _GAMMAS:
        return None
    return _profile(primaries, transfer)


def _numbers(file_format: str, data: bytes) -> tuple[int, int] | None:
    if file_format == "AVIF":
        place = data.find(b"colrnclx")
        return None if place < 0 else struct.unpack_from(">HH", data, place + 8)
    place = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT")) if file_format == "PNG" else -1
    return None if place < 0 else struct.unpack_from(">BB", data, place + 8)


@functools.lru_cache(maxsize=8)
def _profile(primaries: int, transfer: int) -> bytes:
    import imagecodecs

    *colours, white = _PRIMARIES.get(primaries, _BT709)
    values = np.linspace(0, 1, 1024)
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)  # sRGB
    if transfer in _GAMMAS:
        light = values ** _GAMMAS[transfer]
    profile = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[*white, 1.0],
        primaries=[number for x, y in colours for number in (x, y, 1.0)],
        transferfunction=(light * 65535).round().astype(np.uint16),
    )
    return profile[:24] + _MADE + profile[36:]
