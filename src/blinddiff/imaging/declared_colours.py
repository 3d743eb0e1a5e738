"""Colours that AVIF and PNG files declare by code numbers in place of a colour profile, as one.

A file whose numbers mean Display P3, written again without that, looks pale. A profile says the same, and all that is
written can hold one. (ITU-T H.273: primaries in table 2, transfer characteristics in table 3.)
"""

import functools
import struct

import numpy as np

from blinddiff.errors import ImageError

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
