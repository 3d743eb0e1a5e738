"""The closed-form solution of the data term: what physics alone says of the sharp image."""

import torch
from torch import Tensor

from blinddiff.degradation.downsampling import Bicubic, Downsampling
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import bicubic_upsample

PRIOR_ERROR = 0.03
"""Expected error of bicubic upsampling in [0, 1] where the data term decides; with `FLOOR`, measured to serve noise 0 to 15."""
FLOOR = 4e-4
"""Least rho: what quantisation and an imperfect kernel amount to."""


def closed_form(
    y: Tensor, kernel: Tensor, noise_level: Tensor, scale: int, downsampling: Downsampling = Bicubic()
) -> Tensor:
    """x_y = argmin_x ||y - A(x, k)||^2 + rho ||x - bicubic(y)||^2, rho = 4e-4 + (sigma / 255)^2 / 0.03^2.

    Args:
        y: LR image, (B, 3, h, w), in [0, 1].
        kernel: (B, kh, kw), HR pixels.
        noise_level: sigma, (B,), in grey levels.
        scale: 1, 2, 3 or 4.

    Returns:
        (B, 3, s*h, s*w), not clipped.
    """
    rho = FLOOR + (torch.as_tensor(noise_level).to(y) / 255 / PRIOR_ERROR) ** 2
    return DegradationOperator(kernel, scale, downsampling).proximal(y, bicubic_upsample(y, scale), rho)
