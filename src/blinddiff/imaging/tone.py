"""Colour profiles, honoured: into the tone of sRGB, in which the network thinks, and exactly back.

What a profile changes about a blur is its tone curve: how the numbers follow the light. A linear or a gamma 1.8 file,
taken for sRGB, looks to the estimator like another blur and another noise. Its primaries, on the other hand, only say
how saturated the colours are. So the curve is undone and the primaries stay: every colour of Display P3 or ProPhoto
comes back as it went in, where a conversion to sRGB would have clipped it, and 16-bit files keep all of their bits,
where Pillow's colour management works in 8.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
