"""The pipeline's inputs and outputs: conversion of images, checks of given kernels, the output, the kernel map."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image
from torch import Tensor

from blinddiff.degradation import Degradation, DegradationOperator, Observation
from blinddiff.degradation.kernel_measures import check_kernel, widths_and_angle
from blinddiff.errors import BlindDiffError, ImageError, KernelError, ParameterError
from blinddiff.imaging import from_picture
from blinddiff.models.denoiser import Denoiser
from blinddiff.sampling.arguments import short_repr
from blinddiff.sampling.decision import Decision, check_size, consistency
from blinddiff.sampling.loop import Restored
from blinddiff.sampling.wrappers import Tiles

OutputType = Literal["pil", "np", "pt"]
KernelInput: TypeAlias = Tensor | npt.NDArray[Any]
ImageInput: TypeAlias = "Image.Image | npt.NDArray[Any] | Tensor | Sequence[Image.Image | npt.NDArray[Any] | Tensor]"


def to_batch(image: ImageInput) -> Tensor:
    """Convert an image, or a list of images of one size, to (B, 3, h, w) float32 in [0, 1], on the CPU.

    PIL images are grey (8 or 16 bits), palette, RGB or RGBA; transparency is dropped. Arrays are (h, w), (h, w, 3)
    or (B, h, w, 3); arrays and tensors are (3, h, w) or (B, 3, h, w). The type alone decides the value of white: 255
    for uint8, 65535 for uint16, 1 for floats. Other types are refused, because their white is not known.

    Raises:
        ImageError: unsupported pixel type, shape or range, non-finite values, sides under 8 px, or different sizes.
    """
    parts = [_one(part) for part in (image if isinstance(image, list | tuple) else [image])]
    if not any(len(part) for part in parts):
        raise ImageError("no image given")
    if len({part.shape[-2:] for part in parts}) > 1:
        sizes = ", ".join(f"{part.shape[-1]}x{part.shape[-2]}" for part in parts)
        raise ImageError(f"images of one batch must have one size, not {sizes}")
    batch = torch.cat(parts)
    height, width = batch.shape[-2:]
    check_size(height, width)
    if not bool(torch.isfinite(batch).all()):
        raise ImageError("the image has values that are not finite")
    if float(batch.min()) < -0.01 or float(batch.max()) > 1.01:
        raise ImageError(f"float images must lie in [0, 1], not {float(batch.min()):.3g} to {float(batch.max()):.3g}")
    return batch


def given_kernel(kernel: KernelInput, observation: Observation) -> Tensor:
    """Check a user's kernel and expand it to one per image: (B, n, m). Raises KernelError if it is invalid."""
    try:
        values = kernel.detach() if isinstance(kernel, Tensor) else torch.from_numpy(_real_array(kernel))
        if values.is_complex() or values.dtype == torch.bool:
            raise TypeError
    except (TypeError, ValueError) as error:  # ValueError: rows of unequal length
        raise KernelError(f"a kernel is an array of numbers, not {short_repr(kernel)}") from error
    given = values.to(observation.y)
    if given.ndim == 2:
        given = given[None]
    if given.ndim != 3 or len(given) not in (1, len(observation)):
        shape, count = tuple(given.shape), len(observation)
        raise KernelError(f"a kernel of shape {shape} is not (height, width), or one for each of {count} images")
    for each in given:
        check_kernel(each)
    (n, m), (height, width) = given.shape[-2:], observation.hr_size
    if n > height or m > width:
        raise KernelError(f"a kernel of {m}x{n} is larger than the result, {width}x{height} pixels")
    return given.expand(len(observation), -1, -1)


def _real_array(values: Any) -> npt.NDArray[np.float32]:
    """Floats or integers as float32; TypeError or ValueError for all else."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError
    return array.astype(np.float32)


def check_finite(*values: Tensor) -> None:
    """Raise BlindDiffError if a value is infinite or not a number."""
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise BlindDiffError("the estimate is not finite with these weights and options; nothing is returned")


def from_batch(batch: Tensor, output_type: OutputType) -> Any:
    """Return (B, 3, H, W) in [0, 1] as a list of PIL images, an array (B, H, W, 3), or a tensor, of float32."""
    batch = batch.float().cpu()
    if output_type == "pt":
        return batch
    array = batch.permute(0, 2, 3, 1).numpy()
    if output_type == "np":
        return array
    return [Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8)) for pixels in array]


def _one(image: Any) -> Tensor:
    if isinstance(image, Image.Image):
        return torch.from_numpy(from_picture(image)[0])[None]
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        # No side is 3, so that planes cannot be mistaken.
        planes = image.ndim in (3, 4) and image.shape[-3] == 3 != image.shape[-1]
        if image.ndim not in (3, 4) or (image.shape[-1] != 3 and not planes):
            raise ImageError(f"an array of shape {image.shape} is not (h, w), (h, w, 3) or (batch, h, w, 3)")
        white = _white(image.dtype.name, image.dtype.kind == "f")
        # astype copies, and converts the bytes of big-endian arrays
        tensor = torch.from_numpy(image.astype(np.float32))
        tensor = tensor if planes else tensor.movedim(-1, -3)
    elif isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise ImageError(f"a tensor of shape {tuple(image.shape)} is not (3, h, w) or (batch, 3, h, w)")
        if image.is_meta or image.layout != torch.strided:
            raise ImageError("a tensor without values, or a sparse one, is not an image")
        white = _white(str(image.dtype).removeprefix("torch."), image.is_floating_point())
        tensor = image.detach().float().cpu()
    else:
        raise ImageError(f"{type(image).__name__} is not an image: a PIL image, numpy array or torch tensor is")
    tensor = tensor if white == 1 else tensor / white
    return tensor if tensor.ndim == 4 else tensor[None]


def _white(dtype: str, floating: bool) -> float:
    """The value of white for a type of pixels, whatever their values. Raises ImageError for other types."""
    white = {"uint8": 255.0, "uint16": 65535.0}.get(dtype, 1.0 if floating else None)
    if white is None:
        raise ImageError(
            f"pixels of type {dtype} are not accepted: use uint8, uint16, or floats, which must lie in [0, 1]"
        )
    return white


@dataclass
class BlindDiffOutput(BaseOutput):
    """The restored images, the estimated degradation and measures of reliability.

    Attributes:
        images: a list of PIL images, an array (B, H, W, 3) in [0, 1] or a tensor (B, 3, H, W) in [0, 1], by
            output_type; if there are several samples, the mean of each image's samples.
        kernels: the blur kernels, (B, n, m), HR pixels, of sum 1: for each image the mean of k_t over the steps.
        noise_levels: standard deviation of the noise, (B,), grey levels.
        residuals: y - A(x, k), (B, 3, h, w), grey levels; 0 where y is not believed. At scale 1, x is the image at
            scale 2, before it was reduced, see `working_scale`.
        consistency: RMS of the residual, over the believed pixels, divided by sqrt(noise_level^2 + 1/12), (B,); 1/12 is
            the variance of rounding, which an estimated level includes too, so an image almost without noise has about
            0.7 instead of 1.
            Near 1 is good. Far above 1, x and k do not explain y; far below 1, x reproduces the noise of y.
        kernel_trajectory: k_t after each step, (steps, B, n, m).
        kernel_spread: mean L1 distance of the steps' kernels from their mean, (B,): 0 if they agree, at most 2.
        expected_kernel_errors: expected sum |k_hat - k| of the initial estimate, (B,), 0 to 2, unreliable from
            `UNRELIABLE_KERNEL_ERROR` on; None for a given kernel, or a network without an estimate from y.
        samples: all K samples of each image, (B, K, 3, H, W), in [0, 1]; None for one sample.
        std: standard deviation over the samples, (B, 3, H, W), in [0, 1]; None for one sample.
        noise_spectra: power spectrum of the noise relative to white noise of the same level, (B, 16, 16), see
            `Degradation`; None for a network without an estimate from y.
        decisions: what each picture was taken for, and how it was restored; None if it was restored as it is.
        kernel_map: the kernels and noise levels of the tiles, if each was restored with its own; ``kernels`` and
            ``noise_levels`` are then their means, weighted by gradient energy.
    """

    images: Any
    kernels: Tensor
    noise_levels: Tensor
    residuals: Tensor
    consistency: Tensor
    kernel_trajectory: Tensor
    kernel_spread: Tensor
    expected_kernel_errors: Tensor | None = None
    samples: Tensor | None = None
    std: Tensor | None = None
    noise_spectra: Tensor | None = None
    decisions: list[Decision] | None = None
    kernel_map: "KernelMap | None" = None


def make_output(
    observation: Observation, restored: Restored, num_samples: int, local_tiles: Tiles | None = None
) -> BlindDiffOutput:
    """Average each image's samples, which are consecutive in the batch, and compute residual and consistency.

    The images are a tensor in [0, 1], on the CPU. local_tiles: those with kernels of their own, if there are any.
    """

    def by_sample(value: Tensor) -> Tensor:
        return value.unflatten(0, (len(observation), num_samples))

    def by_image(estimates: Tensor) -> Tensor:
        return by_sample(estimates if local_tiles is None else local_tiles.average(estimates))

    several = num_samples > 1
    samples = by_sample(restored.image.clamp_(0, 1))
    x = samples.mean(1) if several else samples[:, 0]
    trajectory = torch.stack([by_image(kernel).mean(1) for kernel in restored.kernels])
    kernels = trajectory.mean(0)
    noise_levels = by_image(restored.degradation.noise_level).mean(1)
    kernel_map = None
    if local_tiles is not None:
        used = torch.stack(restored.kernels).mean(0)
        degraded = by_sample(local_tiles.degraded(used, restored.image)).mean(1)
        kernel_map = _map_of_tiles(observation.y, used, restored.degradation.noise_level, local_tiles)
    else:
        degraded = DegradationOperator(kernels, observation.scale)(x)
    residuals = 255 * (observation.y - degraded)
    if observation.mask is not None:
        residuals = residuals * observation.mask
    error, spectrum = restored.degradation.expected_kernel_error, restored.degradation.noise_spectrum
    return BlindDiffOutput(
        images=x.float().cpu(),
        kernels=kernels.cpu(),
        noise_levels=noise_levels.cpu(),
        residuals=residuals.cpu(),
        consistency=consistency(residuals, noise_levels, observation.believed).cpu(),
        kernel_trajectory=trajectory.cpu(),
        kernel_spread=(trajectory - kernels).abs().sum((-2, -1)).mean(0).cpu(),
        expected_kernel_errors=None if error is None else by_image(error)[:, 0].cpu(),
        samples=samples.cpu() if several else None,
        std=samples.std(1).cpu() if several else None,
        noise_spectra=None if spectrum is None else by_image(spectrum).mean(1).cpu(),
        kernel_map=kernel_map,
    )


REGION = 96
"""Minimum side of a region in LR pixels. In smaller regions, the estimates are mostly random."""
MAX_REGIONS = 8
"""Maximum number of regions along a side."""


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Kernels and noise levels of the regions of a regular grid.

    Attributes:
        kernels: (rows, columns, n, n), HR pixels, of sum 1.
        noise_levels: (rows, columns), grey levels.
        contrasts: (rows, columns), RMS difference of neighbouring pixels, grey levels. If a region's contrast is no
            larger than its noise level, its kernel is unreliable.
    """

    kernels: Tensor
    noise_levels: Tensor
    contrasts: Tensor

    def facts(self) -> dict[str, Any]:
        """The map for JSON, as lists of rows; `widths` and `angles` describe the kernels."""
        major, minor, angles = widths_and_angle(self.kernels.flatten(0, 1))
        shape = self.noise_levels.shape
        return {
            "widths": torch.stack([major, minor], -1).view(*shape, 2).tolist(),
            "angles": angles.view(shape).tolist(),
            "noise_levels": self.noise_levels.tolist(),
            "contrasts": self.contrasts.tolist(),
        }


def estimate_from_y(denoiser: Denoiser, observation: Observation) -> Degradation:
    """`Denoiser.initial_estimate`. ParameterError for a network that has none, BlindDiffError if it is not finite."""
    return check_estimate(denoiser.initial_estimate(observation))


def check_estimate(estimate: Degradation | None) -> Degradation:
    """The estimate of a network from y; errors as `estimate_from_y`."""
    if estimate is None:
        raise ParameterError("this network estimates the kernel only from x_t, not from y alone")
    check_finite(estimate.kernel, estimate.noise_level)
    return estimate


def estimate_kernel_map(denoiser: Denoiser, observation: Observation) -> KernelMap:
    """Estimate kernel and noise level in each region of one LR image separately.

    Raises ParameterError for more than one image, or a network without an estimate from y.
    """
    y = observation.y
    if len(y) != 1:
        raise ParameterError(f"{len(y)} images: a kernel map needs exactly one")
    rows, columns = (min(MAX_REGIONS, max(1, side // REGION)) for side in y.shape[-2:])
    regions = [region for band in y.tensor_split(rows, -2) for region in band.tensor_split(columns, -1)]
    estimates = [estimate_from_y(denoiser, Observation(region, observation.scale)) for region in regions]
    return KernelMap(
        torch.cat([each.kernel for each in estimates]).unflatten(0, (rows, columns)).cpu(),
        torch.cat([each.noise_level for each in estimates]).view(rows, columns).cpu(),
        torch.stack([_contrast(region) for region in regions]).view(rows, columns).cpu(),
    )


def _map_of_tiles(y: Tensor, kernels: Tensor, noise_levels: Tensor, tiles: Tiles) -> KernelMap:
    """The map of one image y, with the means over its samples of what was estimated for each tile, (N, ...)."""
    rows, columns = tiles.grid
    contrasts = [_contrast(tile.lr(y)) for tile in islice(tiles, rows * columns)]
    kernels, noise_levels = (part.unflatten(0, (-1, rows, columns)).mean(0).cpu() for part in (kernels, noise_levels))
    return KernelMap(kernels, noise_levels, torch.stack(contrasts).view(rows, columns).cpu())


def _contrast(region: Tensor) -> Tensor:
    """RMS difference of neighbouring pixels in grey levels."""
    return 255 * torch.stack([region.diff(dim=axis).square().mean() for axis in (-2, -1)]).mean().sqrt()
