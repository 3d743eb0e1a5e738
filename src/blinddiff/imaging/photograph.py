"""A photograph in memory: pixels for the network, and what its file held besides."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Photograph:
    """An image file, read.

    Attributes:
        pixels: (3, H, W) float32 in [0, 1], RGB, upright (the file's orientation is applied). A grey image has three
            equal channels.
        alpha: (1, H, W) float32 in [0, 1], 1 is opaque; None where the file has no transparency. Colours are not
            multiplied with it.
        grey: whether the file holds no colour; it is then written without.
        bit_depth: bits of one channel in the file, 8 or 16 (8 for a 1-bit or palette image).
        mode: Pillow's name for the file's kind of pixel, such as "L", "RGB", "RGBA", "P" or "I;16".
        icc_profile: the embedded colour profile, unchanged.
        exif: the EXIF block without the orientation, which is applied already.
        path: where it came from; None if from bytes.
    """

    pixels: Tensor
    alpha: Tensor | None
    grey: bool
    bit_depth: int
    mode: str
    icc_profile: bytes | None
    exif: bytes | None
    path: Path | None
