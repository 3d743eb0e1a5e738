"""Processing after downsampling: compression, sharpening, and what a camera does. The kinds are listed in noise.py."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.draws import Draws, LrImages, Noise, level_for
from blinddiff.degradation.kernels import isotropic_gaussian, unsharp_mask
from blinddiff.errors import ParameterError

LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
"""Luma quantisation table of JPEG (ITU-T T.81, table K.1)."""


def quantisation_step(quality: Tensor) -> Tensor:
    """Mean step of the luma quantisation table that the IJG's encoder uses at a quality from 1 to 100."""
    quality = quality.round().clamp(1, 100)
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    table = torch.tensor(LUMA_TABLE, device=quality.device)
    return ((table * percent[..., None] + 50) / 100).floor().clamp(1, 255).mean(-1)


@dataclass(frozen=True)
class JpegNoise(Noise):
    """level: JPEG quality of the IJG scale, 1 (worst) to 100, rounded to a whole number; *higher* is *less* noise.

    Each image is encoded and decoded by Pillow, with its default chroma subsampling, or with full chroma for a share
    `full_chroma` of the images; before that it is clipped to [0, 1] and rounded to 8 bits, so even 100 changes it. Grey
    and RGB images only. Not differentiable. Levels are drawn uniformly.
    """

    name: str = "jpeg"
    levels: tuple[float, float] = (30.0, 95.0)
    full_chroma: float = 0.0
    keeps_size = True
    """Whether the result has the pixels of the file, so that its quantisation step tells of the noise."""

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        quality = level_for(y, level, "JPEG quality", 1.0, 100.0).flatten().round().int().tolist()
        if y.shape[1] not in (1, 3):
            raise ParameterError(f"image batch with {y.shape[1]} channels: JPEG stores 1 or 3")
        full = [False] * len(y)
        if self.full_chroma:
            full = (Draws(generator).uniform(len(y), 0, 1) < self.full_chroma).tolist()
        pixels = (y.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).movedim(1, -1).contiguous().numpy()
        images = [_round_trip(*each) for each in zip(pixels, quality, full, strict=True)]
        stored = torch.from_numpy(np.stack(images)) if images else torch.empty(pixels.shape)
        return stored.movedim(-1, 1).to(y.device, y.dtype) / 255

    def degrade(self, images: LrImages, level: Tensor, scale: int, generator: torch.Generator) -> LrImages:
        degraded = super().degrade(images, level, scale, generator)
        return degraded._replace(jpeg_step=quantisation_step(level)) if self.keeps_size else degraded


def _round_trip(pixels: npt.NDArray[np.uint8], quality: int, full_chroma: bool) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"subsampling": 0} if full_chroma else {}
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.save(buffer, format="JPEG", quality=quality, **options)
    with Image.open(buffer) as stored:
        return np.asarray(stored).reshape(pixels.shape)


@dataclass(frozen=True)
class ResizedJpegNoise(JpegNoise):
    """level: JPEG quality, 1 to 100, as for `JpegNoise`; *higher* is *less* noise.

    The image is enlarged by a factor drawn per batch, uniform in [1, max_factor] (bicubic), compressed, and resized
    to its original size.
    """

    name: str = "resized_jpeg"
    max_factor: float = 2.0
    keeps_size = False

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        level_for(y, level, "JPEG quality", 1.0, 100.0)
        factor = float(Draws(generator).uniform(1, 1.0, self.max_factor))
        height, width = y.shape[-2:]
        enlarged = (round(height * factor), round(width * factor))
        larger = F.interpolate(y, enlarged, mode="bicubic", align_corners=False)
        stored = super().apply(larger, level, generator)
        return F.interpolate(stored, (height, width), mode="bicubic", align_corners=False, antialias=True)


def filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter all channels of each image (B, C, H, W) with its own symmetric kernel (B, n, n), without padding."""
    batch, channels = x.shape[:2]
    if batch == 0:
        return x[..., kernels.shape[-2] - 1 :, kernels.shape[-1] - 1 :]
    weight = kernels.repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(x.flatten(0, 1)[None], weight, groups=batch * channels)[0].unflatten(0, (batch, channels))


@dataclass(frozen=True)
class Sharpened(Noise):
    """level: strength a >= 0 of the unsharp mask y + a (y - blurred y); 0 changes nothing.

    Levels are drawn uniformly; the mask's Gaussian width for each image in [min_width, max_width] LR pixels.
    """

    name: str = "sharpened"
    levels: tuple[float, float] = (0.0, 1.0)
    min_width: float = 0.6
    max_width: float = 1.4

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        return self._mask(y, level, self._widths(y, generator))

    def degrade(self, images: LrImages, level: Tensor, scale: int, generator: torch.Generator) -> LrImages:
        """Sharpen y and the clean images alike.

        The mask of the LR image corresponds to one ``scale`` times as wide at HR pixels, up to what it does to aliases.
        What lies outside the kernel's support is cut off.
        """
        width = self._widths(images.y, generator)
        y, clean = (self._mask(part, level, width) for part in (images.y, images.clean))
        kernel = unsharp_mask(images.kernel, level, width * scale)
        return LrImages(y, clean, kernel, torch.zeros_like(images.jpeg_step))

    def _widths(self, y: Tensor, generator: torch.Generator) -> Tensor:
        return Draws(generator, y.device, y.dtype).uniform(len(y), self.min_width, self.max_width)

    def _mask(self, y: Tensor, level: Tensor, width: Tensor) -> Tensor:
        """Images (B, C, H, W), sharpened by masks of given widths in LR pixels, (B,)."""
        strength = level_for(y, level, "strength", 0.0)
        radius = int(np.ceil(3 * self.max_width - 0.5))
        padded = F.pad(y, (radius,) * 4, mode="replicate")
        return y + strength * (y - filtered(padded, isotropic_gaussian(width, 2 * radius + 1)))


@dataclass(frozen=True)
class Demosaicked(Noise):
    """level: standard deviation in grey levels (of 255), >= 0, of the noise at each sample of a Bayer sensor.

    Each pixel keeps the channel that an RGGB pattern measures there, with noise, and the others are interpolated
    linearly between their neighbours, so that the noise is correlated and fine detail partly aliased. RGB only.
    """

    name: str = "demosaicked"
    levels: tuple[float, float] = (0.0, 12.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        if y.shape[1] != 3:
            raise ParameterError(f"image batch with {y.shape[1]} channels: a Bayer sensor measures 3")
        noisy = y + sigma * Draws(generator, y.device, y.dtype).normal(y.shape)
        measured = torch.zeros(3, *y.shape[-2:], device=y.device, dtype=y.dtype)
        measured[0, ::2, ::2] = measured[2, 1::2, 1::2] = measured[1, ::2, 1::2] = measured[1, 1::2, ::2] = 1
        triangle = y.new_tensor([0.25, 0.5, 0.25])
        weight = (triangle[:, None] * triangle).expand(3, 1, 3, 3)

        def interpolated(samples: Tensor) -> Tensor:
            return F.conv2d(samples, weight, padding=1, groups=3)

        return interpolated(noisy * measured) / interpolated(measured[None])


@dataclass(frozen=True)
class Denoised(Noise):
    """level: standard deviation in grey levels (of 255), >= 0, of the white noise before a camera's denoising.

    A local Wiener filter over 5x5 pixels, as cameras leave it: grain in textures, none in flat areas.
    """

    name: str = "denoised"
    levels: tuple[float, float] = (2.0, 25.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        noisy = y + sigma * Draws(generator, y.device, y.dtype).normal(y.shape)

        def local_mean(image: Tensor) -> Tensor:
            return F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)

        mean = local_mean(noisy)
        variance = (local_mean(noisy.square()) - mean.square()).clamp_min(1e-12)
        return mean + (1 - sigma.square() / variance).clamp_min(0) * (noisy - mean)
