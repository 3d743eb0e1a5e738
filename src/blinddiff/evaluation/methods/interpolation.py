"""Interpolation: what every method has to beat."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from blinddiff.degradation.resize import bicubic_upsample
from blinddiff.evaluation.cases import Case, bytes_of
from blinddiff.evaluation.methods.method import timed
from blinddiff.evaluation.restoration import Restoration


@dataclass(frozen=True)
class BicubicMethod:
    """MATLAB's imresize; at scale 1 the image itself."""

    name: str = "bicubic"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`."""
        image, seconds = timed(lambda: bicubic_upsample(y[None], scale)[0])
        return Restoration(image, None, None, seconds, 0)


@dataclass(frozen=True)
class LanczosMethod:
    """Pillow's Lanczos filter of three lobes, on 8-bit pixels."""

    name: str = "lanczos"
    parameters: int = 0

    def restore(self, y: Tensor, scale: int, case: Case) -> Restoration:
        """See `Method.restore`."""
        picture = Image.fromarray(bytes_of(y))
        size = picture.width * scale, picture.height * scale
        enlarged, seconds = timed(lambda: picture.resize(size, Image.Resampling.LANCZOS))
        pixels = np.asarray(enlarged, dtype=np.float32) / 255
        return Restoration(torch.from_numpy(pixels).permute(2, 0, 1), None, None, seconds, 0)
