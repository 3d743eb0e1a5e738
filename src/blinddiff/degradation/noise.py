"""Noise, and processing after downsampling treated as noise. To add a kind, write a class and list it in `_ALL`."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.draws import Draws, Noise
from blinddiff.degradation.kernels import isotropic_gaussian
from blinddiff.errors import ParameterError


def check_noise_level(noise_level: float) -> None:
    """Raise ParameterError if a given noise level, in grey levels, is out of range."""
    if not 0 <= noise_level <= 255:
        raise ParameterError(f"a noise level of {noise_level} is not between 0 and 255 grey levels")


def level_for(y: Tensor, level: Tensor, name: str, low: float, high: float = float("inf")) -> Tensor:
    """The level as (B, 1, 1, 1) for images (B, C, H, W); ParameterError for an invalid shape or value."""
    if y.ndim != 4:
        raise ParameterError(f"image batch of shape {tuple(y.shape)}: (B, C, H, W) is accepted")
    if level.shape != y.shape[:1]:
        raise ParameterError(
            f"{name} of shape {tuple(level.shape)}: one value for each of the {len(y)} images is accepted"
        )
    if not bool((torch.isfinite(level) & (level >= low) & (level <= high)).all()):
        upper = "" if high == float("inf") else f" and at most {high:g}"
        raise ParameterError(f"{name} {level.tolist()}: must be finite, at least {low:g}{upper}")
    return level.to(device=y.device, dtype=y.dtype)[:, None, None, None]


@dataclass(frozen=True)
class GaussianNoise(Noise):
    """level: standard deviation sigma in grey levels (of 255), >= 0; 0 changes nothing.

    Levels are drawn uniformly. The result is not clipped to [0, 1]: y = ... + n is linear in n.
    """

    name: str = "gaussian"
    levels: tuple[float, float] = (0.0, 25.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        return y + sigma * Draws(generator, y.device, y.dtype).normal(y.shape)


@dataclass(frozen=True)
class PoissonNoise(Noise):
    """level: photons counted at a white pixel (1.0), > 0; *more* photons mean *less* noise.

    A pixel of value v has the standard deviation 255 sqrt(v / level) grey levels, so 650 photons give 10 at white.
    Levels are drawn uniformly in log. Values below 0 give no photons; the result may exceed 1.
    """

    name: str = "poisson"
    levels: tuple[float, float] = (100.0, 10000.0)
    logarithmic = True

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        photons = level_for(y, level, "photons at white", 1e-3, 1e7)
        expected = (y.clamp_min(0) * photons).to(generator.device, torch.float32)
        return torch.poisson(expected, generator).to(y.device, y.dtype) / photons


FILTER_SIZE = 7  # side of correlated noise's low-pass, LR pixels
RADIUS = 4  # of the unsharp mask, LR pixels: three sigma of the widest


def _filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Filter all channels of each image (B, C, H, W) with its own symmetric kernel (B, n, n), without padding."""
    batch, channels = x.shape[:2]
    if batch == 0:
        return x[..., kernels.shape[-2] - 1 :, kernels.shape[-1] - 1 :]
    weight = kernels.repeat_interleave(channels, dim=0)[:, None]
    return F.conv2d(x.flatten(0, 1)[None], weight, groups=batch * channels)[0].unflatten(0, (batch, channels))


@dataclass(frozen=True)
class CorrelatedNoise(Noise):
    """level: standard deviation of the *resulting* noise in grey levels (of 255), >= 0.

    Levels are drawn uniformly. White noise, independent in each channel, is filtered by a Gaussian low-pass whose width
    is drawn for each image uniformly in [min_width, max_width] pixels, and scaled so that a pixel's variance is
    level^2. Not clipped to [0, 1].
    """

    name: str = "correlated"
    levels: tuple[float, float] = (0.0, 15.0)
    min_width: float = 0.3
    max_width: float = 1.2

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        sigma = level_for(y, level, "noise level sigma", 0.0) / 255
        batch, channels, height, width = y.shape
        draws = Draws(generator, y.device, y.dtype)
        lowpass = isotropic_gaussian(draws.uniform(batch, self.min_width, self.max_width), FILTER_SIZE)
        lowpass = lowpass / lowpass.square().sum((1, 2), keepdim=True).sqrt()  # unit energy keeps the variance
        # White noise on a margin too, so that border and centre have equal variance.
        margin = FILTER_SIZE - 1
        white = draws.normal((batch, channels, height + margin, width + margin))
        return y + sigma * _filtered(white, lowpass)


@dataclass(frozen=True)
class JpegNoise(Noise):
    """level: JPEG quality of the IJG scale, 1 (worst) to 100, rounded to a whole number; *higher* is *less* noise.

    Each image is encoded and decoded by Pillow, with its default chroma subsampling; before that it is clipped to
    [0, 1] and rounded to 8 bits, so even 100 changes it. Grey and RGB images only. Not differentiable; does not use
    the generator. Levels are drawn uniformly.
    """

    name: str = "jpeg"
    levels: tuple[float, float] = (30.0, 95.0)

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        quality = level_for(y, level, "JPEG quality", 1.0, 100.0).flatten().round().int().tolist()
        if y.shape[1] not in (1, 3):
            raise ParameterError(f"image batch with {y.shape[1]} channels: JPEG stores 1 or 3")
        pixels = (y.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).movedim(1, -1).contiguous().numpy()
        images = [_round_trip(image, q) for image, q in zip(pixels, quality, strict=True)]
        stored = torch.from_numpy(np.stack(images)) if images else torch.empty(pixels.shape)
        return stored.movedim(-1, 1).to(y.device, y.dtype) / 255


def _round_trip(pixels: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image).reshape(pixels.shape)


@dataclass(frozen=True)
class ResizedJpegNoise(JpegNoise):
    """level: JPEG quality, 1 to 100, as for `JpegNoise`; *higher* is *less* noise.

    The image is enlarged by a factor drawn per batch, uniform in [1, max_factor] (bicubic), compressed, and resized
    to its original size.
    """

    name: str = "resized_jpeg"
    max_factor: float = 2.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        level_for(y, level, "JPEG quality", 1.0, 100.0)
        factor = float(Draws(generator).uniform(1, 1.0, self.max_factor))
        height, width = y.shape[-2:]
        enlarged = (round(height * factor), round(width * factor))
        larger = F.interpolate(y, enlarged, mode="bicubic", align_corners=False)
        stored = super().apply(larger, level, generator)
        return F.interpolate(stored, (height, width), mode="bicubic", align_corners=False, antialias=True)


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
        strength = level_for(y, level, "strength", 0.0)
        width = Draws(generator, y.device, y.dtype).uniform(len(y), self.min_width, self.max_width)
        padded = F.pad(y, (RADIUS,) * 4, mode="replicate")
        return y + strength * (y - _filtered(padded, isotropic_gaussian(width, 2 * RADIUS + 1)))


_ALL: tuple[Noise, ...] = (
    GaussianNoise(),
    PoissonNoise(),
    JpegNoise(),
    ResizedJpegNoise(),
    CorrelatedNoise(),
    Sharpened(),
)
NOISES: dict[str, Noise] = {noise.name: noise for noise in _ALL}
