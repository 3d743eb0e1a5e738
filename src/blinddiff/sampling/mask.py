"""Pixels that are not believed, such as scratches: the mask, from a file or the caller, and a first guess of them.

The sampler replaces the guess at every step, see `Observation.filled`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg
from torch import Tensor

from blinddiff.degradation import Observation
from blinddiff.errors import ImageError
from blinddiff.imaging import MAX_PIXELS, read_image
from blinddiff.imaging.photograph import spread_colours
from blinddiff.sampling.arguments import short_repr

MaskInput: TypeAlias = Image.Image | npt.NDArray[Any] | Tensor
ITERATIONS = 300
"""Of conjugate gradients; enough for scratches of 10 pixels, and wider parts stay near the start."""


def read_mask(
    source: Path | bytes, size: Sequence[int], max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Tensor:
    """Read a grey picture that is white where a photograph of a size (height, width) is not believed: (h, w) bool.

    Both are upright. Transparent parts count as black. Raises ImageError, with the file's name (or ``name``), if it
    cannot be read, and as `marked_pixels` does.
    """
    picture = read_image(source, max_pixels, name)
    grey = picture.pixels.mean(0)
    try:
        return marked_pixels(grey if picture.alpha is None else grey * picture.alpha[0], 1, size)[0]
    except ImageError as error:
        raise ImageError(f"{name or picture.path}: {error}") from error


def marked_pixels(mask: MaskInput, count: int, size: Sequence[int]) -> Tensor:
    """Where a mask, (h, w) or (B, h, w) of any type, is above half its maximum: (B, h, w) bool.

    Raises ImageError if it is not a picture, not one for all or each of ``count`` images of a size (height, width), has
    values that are negative or not finite, or marks every pixel of an image.
    """
    try:
        picture = mask.convert("F") if isinstance(mask, Image.Image) else mask
        values = picture.detach() if isinstance(picture, Tensor) else torch.from_numpy(np.array(picture, np.float32))
        values = values.float().cpu()
        if values.ndim not in (2, 3):
            raise ValueError
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageError(f"a mask is a picture or an array of numbers, not {short_repr(mask)}") from error
    values = values[None] if values.ndim == 2 else values
    if len(values) not in (1, count) or values.shape[1:] != tuple(size):
        given, needed = ("x".join(map(str, reversed(shape))) for shape in (values.shape[-2:], size))
        raise ImageError(f"a mask of {given} pixels for an image of {needed}: both must have the same size")
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ImageError("the mask has values that are negative or not finite")
    marked = values > values.max() / 2
    if bool(marked.flatten(1).all(1).any()):
        raise ImageError("the mask marks every pixel, which leaves nothing to restore the image from")
    return marked.expand(count, -1, -1)


def with_mask(observation: Observation, mask: MaskInput) -> Observation:
    """The observation without belief in `marked_pixels`, which are filled by `smooth_fill`. Raises as the former."""
    y = observation.y
    believed = ~marked_pixels(mask, len(y), y.shape[-2:])[:, None]
    filled = torch.stack([smooth_fill(*each) for each in zip(y.cpu(), believed, strict=True)])
    return replace(observation, y=filled.to(y), mask=believed.to(y.device))


def smooth_fill(y: Tensor, believed: Tensor) -> Tensor:
    """Fill the pixels of (3, h, w) where believed, (1, h, w), is False; within the range of the others.

    u = argmin ||Laplacian u||^2 with the other pixels given (biharmonic inpainting): it continues gradients, so edges
    across a scratch stay straight: on scratched photographs 4 to 6 dB better than the means that it starts from.
    """
    height, width = y.shape[-2:]
    hidden = ~believed[0].numpy()
    if not hidden.any():
        return y
    start = spread_colours(y, believed.to(y)).flatten(1).numpy()
    # The Laplacian, at the hidden pixels and their neighbours; a neighbour outside the image is the pixel itself.
    rows, columns = np.nonzero(ndimage.binary_dilation(hidden))
    number, here = np.arange(len(rows)), rows * width + columns
    entries = [(here, 4.0)]
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        entries.append(((rows + down).clip(0, height - 1) * width + (columns + right).clip(0, width - 1), -1.0))
    places = np.concatenate([place for place, _ in entries])
    values = np.repeat([value for _, value in entries], len(rows))
    laplacian = sparse.csc_matrix((values, (np.tile(number, len(entries)), places)), (len(rows), height * width))

    unknown = np.flatnonzero(hidden)
    of_unknown = laplacian[:, unknown]
    filled = start.copy()
    for plane, colours in zip(filled, start, strict=True):
        target = -of_unknown.T @ (laplacian @ np.where(hidden.ravel(), 0, colours))
        plane[unknown], _ = cg(of_unknown.T @ of_unknown, target, x0=colours[unknown], maxiter=ITERATIONS)
    filled = filled.clip(start.min(1, keepdims=True), start.max(1, keepdims=True))
    return torch.from_numpy(filled).view_as(y)
