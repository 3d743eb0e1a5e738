"""The closed-form solution of the data term: what physics alone says of the sharp image."""

import torch
from torch import Tensor

from blinddiff.degradation.downsampling import BICUBIC, Downsampling
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import bicubic_upsample

PRIOR_ERROR = 0.03
"""RMS error of bicubic upsampling, and of a network's first guess, where the data term decides; images in [0, 1]."""
MODEL_ERROR = 0.15
"""What y differs from A(x, k) in without noise, in grey levels: quantisation and an imperfect kernel."""


def data_weight(noise_level: Tensor | float, prior_error: Tensor | float = PRIOR_ERROR) -> Tensor:
    """rho of the proximal step: (sigma^2 + model error^2) over the variance expected of the prior's error.

    With the constants above, 4e-4 + (sigma / 255)^2 / 0.03^2, measured to serve noise from 0 to 15 grey levels.

    Args:
        noise_level: sigma in grey levels.
        prior_error: RMS error of the image that the step starts from, in [0, 1].
    """
    variance = (torch.as_tensor(noise_level) ** 2 + MODEL_ERROR**2) / 255**2
    return variance / torch.as_tensor(prior_error) ** 2


def closed_form(
    y: Tensor, kernel: Tensor, noise_level: Tensor, scale: int, downsampling: Downsampling = BICUBIC
) -> Tensor:
    """x_y = argmin_x ||y - A(x, k)||^2 + rho ||x - bicubic(y)||^2, rho = `data_weight(sigma)`.

    Args:
        y: LR image, (B, 3, h, w), in [0, 1].
        kernel: (B, kh, kw), HR pixels.
        noise_level: sigma, (B,), in grey levels.
        scale: 1, 2, 3 or 4.

    Returns:
        (B, 3, s*h, s*w), not clipped.
    """
    x_0 = bicubic_upsample(y, scale)
    return DegradationOperator(kernel, scale, downsampling).proximal(y, x_0, data_weight(noise_level))
