"""JPEG: the blocks, ringing and lost colour detail of the file format most photographs come in."""

import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation.draws import draw_uniform
from blinddiff.degradation.noise.level import level_for
from blinddiff.errors import ParameterError

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class JpegNoise:
    """level: JPEG quality of the IJG scale, 1 (worst) to 100, rounded to a whole number; *higher* is *less* noise.

    Each image is written and read in memory by Pillow, with its usual halved colour resolution; before that it is
    clipped to [0, 1] and rounded to 8 bits, so even 100 changes it. Grey and RGB images only. Passes no gradient, and
    draws nothing from the generator. Qualities are drawn uniformly in [min_quality, max_quality].
    """

    name: str = "jpeg"
    min_quality: float = 30.0
    max_quality: float = 95.0

    def apply(self, y: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
        """See `Noise.apply`."""
        quality = level_for(y, level, "JPEG quality", 1.0, 100.0).flatten().round().int().tolist()
        if y.shape[1] not in (1, 3):
            raise ParameterError(f"image batch with {y.shape[1]} channels: JPEG stores 1 or 3")
        pixels = (y.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).movedim(1, -1).contiguous().numpy()
        images = [_round_trip(image, q) for image, q in zip(pixels, quality, strict=True)]
        stored = torch.from_numpy(np.stack(images)) if images else torch.empty(pixels.shape)
        return stored.movedim(-1, 1).to(y.device, y.dtype) / 255

    def sample_level(
        self,
        n: int,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `Noise.sample_level`."""
        return draw_uniform(n, self.min_quality, self.max_quality, generator, device, dtype)


def _round_trip(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image).reshape(pixels.shape)
