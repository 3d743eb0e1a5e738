"""Masks: pictures that are white where a photograph is not believed, such as scratches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from blinddiff.errors import ImageError
from blinddiff.imaging.read import MAX_PIXELS, read_image

MaskInput: TypeAlias = Image.Image | ArrayLike
Mask: TypeAlias = NDArray[np.bool_]


def read_mask(source: Path | bytes, size: Sequence[int], max_pixels: int = MAX_PIXELS, name: str | None = None) -> Mask:
    """Read a grey picture that is white where a photograph of a size (height, width) is not believed: (h, w).

    Both are upright. Transparent parts count as black. Raises ImageError, with the file's name (or ``name``), if it
    cannot be read, and as `marked_pixels` does.
    """
    picture = read_image(source, max_pixels, name)
    grey = picture.pixels.mean(0)
    try:
        return marked_pixels(grey if picture.alpha is None else grey * picture.alpha[0], 1, size)[0]
    except ImageError as error:
        raise ImageError(f"{name or picture.path}: {error}") from error


def marked_pixels(mask: MaskInput, count: int, size: Sequence[int]) -> Mask:
    """Where a mask, (h, w) or (B, h, w) of any type, is above half its maximum: (B, h, w).

    Raises ImageError if it is not a picture, not one for all or each of ``count`` images of a size (height, width), has
    values that are negative or not finite, or marks every pixel of an image.
    """
    try:
        picture: Any = mask.convert("F") if isinstance(mask, Image.Image) else mask
        values = np.asarray(picture, np.float32)
        if values.ndim not in (2, 3):
            raise ValueError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(f"a mask is a picture or an array of numbers, not {mask!r:.60}") from error
    values = values[None] if values.ndim == 2 else values
    if len(values) not in (1, count) or values.shape[1:] != tuple(size):
        given, needed = ("x".join(map(str, reversed(shape))) for shape in (values.shape[-2:], size))
        raise ImageError(f"a mask of {given} pixels for an image of {needed}: both must have the same size")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ImageError("the mask has values that are negative or not finite")
    marked = values > values.max() / 2
    if marked.all((-2, -1)).any():
        raise ImageError("the mask marks every pixel, which leaves nothing to restore the image from")
    return np.broadcast_to(marked, (count, *marked.shape[1:]))
