"""A photograph in memory: pixels for the network, and what its file held besides."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image file, read.

    Attributes:
        pixels: (3, H, W) float32 in [0, 1], RGB, upright (the file's orientation is applied), in the tone of sRGB: the
            tone curve of the colour profile is undone, its primaries are kept (see `ToneCurve`). A grey image has three
            equal channels.
        alpha: (1, H, W) float32 in [0, 1], 1 is opaque; None where the file has no transparency. Colours are not
            multiplied with it.
        grey: whether the file holds no colour; it is then written without.
        bit_depth: bits of one channel in the file: 8 (also for a 1-bit or palette image), 16 (for everything above 8),
            or 32 for floats.
        mode: Pillow's name for the file's kind of pixel, such as "L", "RGB", "RGBA", "P" or "I;16", or what it would be
            called if Pillow knew it, such as "RGB;16" or "RGB;32F".
        file_format: name of the file's format, such as "PNG".
        icc_profile: the embedded colour profile, unchanged; or one of the colours that the file declares by numbers.
        exif: the EXIF block without the orientation, which is applied already.
        xmp: the XMP packet, its orientation set to upright.
        path: where it came from; None if from bytes.
    """

    pixels: Tensor
    alpha: Tensor | None
    grey: bool
    bit_depth: int
    mode: str
    file_format: str
    icc_profile: bytes | None
    exif: bytes | None
    xmp: bytes | None
    path: Path | None
