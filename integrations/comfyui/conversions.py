"""Conversions between ComfyUI's values and the package's.

An IMAGE of ComfyUI is (B, H, W, 3) in [0, 1]. A kernel is (1, n, m) or (B, n, m), of sum 1, in pixels of the result.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from blinddiff.cli.photographs import describe_kernel, notable
from blinddiff.degradation.kernel_measures import check_kernel, normalise
from blinddiff.degradation.sharpness import mtf50_in_words
from blinddiff.errors import KernelError
from blinddiff.imaging import Photograph, kernel_picture
from blinddiff.imaging.mask import marked_pixels
from blinddiff.restoring.photograph import Result


def photographs_of(image: Tensor, jpeg_step: float = 0.0) -> list[Photograph]:
    """The images of an IMAGE, on the CPU, clipped to [0, 1]; a channel of transparency is dropped."""
    batch = image.detach()[..., :3].movedim(-1, 1).float().cpu().clamp(0, 1)
    plain: dict[str, Any] = {"alpha": None, "grey": False, "bit_depth": 8, "mode": "RGB", "file_format": "PNG"}
    plain |= {"icc_profile": None, "exif": None, "xmp": None, "path": None, "jpeg_step": jpeg_step}
    return [Photograph(pixels=pixels.contiguous().numpy(), **plain) for pixels in batch]


def kernels_of(kernel: Tensor | None, count: int) -> list[NDArray[Any] | None]:
    """One kernel per image, (n, m), from a kernel input; an IMAGE's values are scaled to sum 1.

    Raises KernelError for a coloured picture, an invalid kernel, or a number of kernels that is neither 1 nor count.
    """
    if kernel is None:
        return [None] * count
    kernel = kernel.detach().float().cpu()
    if kernel.ndim == 4:
        if float((kernel - kernel[..., :1]).abs().max()) > 1e-3:
            raise KernelError("a coloured picture is no kernel: connect the output of type BLINDDIFF_KERNEL")
        kernel = torch.stack([normalise(each.double()).float() for each in kernel[..., 0]])
    if len(kernel) not in (1, count):
        raise KernelError(f"{len(kernel)} kernels for {count} images")
    for each in kernel:
        check_kernel(each)
    return [kernel[index % len(kernel)].numpy() for index in range(count)]


def masks_of(mask: Tensor | None, photographs: Sequence[Photograph]) -> list[NDArray[Any] | None]:
    """One mask per photograph, (h, w), from a MASK (B, h, w) or (h, w); None for a mask that marks nothing.

    ComfyUI's *Load Image* gives a picture without transparency an empty mask of 64 x 64 pixels. Raises ImageError as
    `marked_pixels` does.
    """
    if mask is None or not mask.any():
        return [None] * len(photographs)
    values = mask.detach().float().cpu().numpy()
    marked = marked_pixels(values, len(photographs), photographs[0].pixels.shape[-2:])
    return [each if each.any() else None for each in marked]


def images_of(images: Sequence[NDArray[Any]]) -> Tensor:
    """Images (3, H, W) of one size as an IMAGE."""
    return torch.from_numpy(np.stack(list(images)).astype(np.float32)).movedim(1, -1).contiguous()


def pictures_of(kernels: Iterable[ArrayLike]) -> Tensor:
    """Pictures of kernels (n, m) of one size as an IMAGE."""
    return torch.stack([torch.from_numpy(np.asarray(kernel_picture(each)) / np.float32(255)) for each in kernels])


def std_of(result: Result) -> NDArray[Any]:
    """The standard deviation over the samples, (3, H, W), grey, with its maximum white; black for one sample."""
    if result.std is None:
        return np.zeros_like(result.pixels)
    std = result.std.mean(0)
    return np.stack([std / std.max().clip(1e-6)] * 3)


def in_words(result: Result) -> str:
    """The measurements in one line, as the command line prints them."""
    text = describe_kernel(result.kernel, result.noise_level, result.expected_kernel_error)
    text += notable(result.sharpness, result.kind_of_noise)
    text += f"; MTF50 {mtf50_in_words(result.sharpness.mtf50)}"
    text += f"; residual {result.residual_rms:.2f} grey levels, consistency {result.consistency:.2f}"
    if result.masked:
        text += f"; {result.masked:.2%} of the pixels masked"
    if result.uncertainty is not None and result.std is not None:
        white = 255 * float(result.std.mean(0).max())
        text += f"; samples differ by {result.uncertainty:.2f} grey levels, white in std is {white:.2f}"
    return text
