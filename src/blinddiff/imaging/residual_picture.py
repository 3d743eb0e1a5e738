"""A residual as a picture."""

from PIL import Image
from torch import Tensor

from blinddiff.imaging.pixels import to_picture


def residual_picture(residual: Tensor, side: int) -> tuple[Image.Image, float]:
    """Return a signed residual around mid-grey, its longer side brought to ``side``, and the extent.

    Args:
        residual: (3, h, w) in grey levels.
        side: in pixels.

    Returns:
        The picture, and the grey levels that its black (negative) and its white (positive) stand for.
    """
    levels = residual.detach().cpu().float()
    extent = max(1.0, 4 * float(levels.square().mean().sqrt()))
    picture = to_picture(0.5 + levels / (2 * extent))
    factor = side / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS), extent
