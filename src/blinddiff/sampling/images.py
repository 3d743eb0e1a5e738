"""Images as users hold them, in and out: PIL, numpy, torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from blinddiff.errors import ImageError
from blinddiff.imaging import MAX_PIXELS, Photograph, from_picture, read_image

OutputType = Literal["pil", "np", "pt"]
ImageInput: TypeAlias = "Image.Image | npt.NDArray[Any] | Tensor | Sequence[Image.Image | npt.NDArray[Any] | Tensor]"

SMALLEST_SIDE = 8
"""Shorter sides hold no block from which a blur could be told."""


def read_restorable(source: Path | bytes, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Photograph:
    """A photograph that can be restored: `read_image`, refused now if the pipeline would refuse it.

    Raises:
        ImageError: it cannot be read, or is too small; the file is named, by ``name`` where that is given.
    """
    photograph = read_image(source, max_pixels, name)
    try:
        to_batch(photograph.pixels)
    except ImageError as error:
        raise ImageError(f"{name or photograph.path}: {error}") from error
    return photograph


def to_batch(image: ImageInput) -> Tensor:
    """Any image or list of images of one size as (B, 3, h, w) float32 in [0, 1], on the CPU.

    PIL images are grey (16-bit grey too), palette, RGB or RGBA; transparency is left out. Arrays are (h, w), (h, w, 3)
    or (B, h, w, 3), uint8 or floats in [0, 1]. Tensors are (3, h, w) or (B, 3, h, w), floats in [0, 1].

    Raises:
        ImageError: another kind of pixel, shape or range, non-finite values, sides under 8 px, or sizes that differ.
    """
    parts = [_one(part) for part in (image if isinstance(image, list | tuple) else [image])]
    if not any(len(part) for part in parts):
        raise ImageError("no image given")
    if len({part.shape[-2:] for part in parts}) > 1:
        sizes = ", ".join(f"{part.shape[-1]}x{part.shape[-2]}" for part in parts)
        raise ImageError(f"images of one batch must have one size, not {sizes}")
    batch = torch.cat(parts)
    height, width = batch.shape[-2:]
    if min(height, width) < SMALLEST_SIDE:
        raise ImageError(
            f"an image of {width}x{height} px is too small: both sides must be at least {SMALLEST_SIDE} px"
        )
    if not bool(torch.isfinite(batch).all()):
        raise ImageError("the image has values that are not finite")
    if float(batch.min()) < -0.01 or float(batch.max()) > 1.01:
        raise ImageError(f"float images must lie in [0, 1], not {float(batch.min()):.3g} to {float(batch.max()):.3g}")
    return batch


def from_batch(batch: Tensor, output_type: OutputType) -> Any:
    """(B, 3, H, W) clipped to [0, 1], as a list of PIL images, a (B, H, W, 3) float32 array, or the tensor itself."""
    batch = batch.clamp(0, 1).float().cpu()
    if output_type == "pt":
        return batch
    array = batch.permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return array
    return [Image.fromarray((pixels * 255).round().astype(np.uint8)) for pixels in array]


def _one(image: Any) -> Tensor:
    if isinstance(image, Image.Image):
        return from_picture(image)[0][None]
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim not in (3, 4) or image.shape[-1] != 3:
            raise ImageError(f"an array of shape {image.shape} is not (h, w), (h, w, 3) or (batch, h, w, 3)")
        tensor = torch.from_numpy(np.array(image)).movedim(-1, -3)
        tensor = tensor.float() / 255 if image.dtype == np.uint8 else tensor.float()
    elif isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ImageError(f"a tensor of shape {tuple(image.shape)} is not (3, h, w) or (batch, 3, h, w)")
        tensor = image.detach().float().cpu()
    else:
        raise ImageError(f"{type(image).__name__} is not an image: a PIL image, numpy array or torch tensor is")
    return tensor if tensor.ndim == 4 else tensor[None]
