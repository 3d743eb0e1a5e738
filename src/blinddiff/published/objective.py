"""The variational bound, by which the published network learns its variance.

Source: Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equations 4 to 7 and 16.
"""

import math

import torch
from torch import Tensor

from blinddiff.published.sampler import Transitions

HALF_GREY_LEVEL = 0.5 / 255
MIN_PROBABILITY = 1e-12


def bound_terms(
    transitions: Transitions, t: Tensor, x_0: Tensor, x_t: Tensor, x0_hat: Tensor, variance: Tensor
) -> Tensor:
    """The bound's term L_{t-1} of each image in bits per value, (B,); their sum over all t bounds -log p(x_0).

    For t > 0 the divergence of p(x_{t-1} | x_t) from q(x_{t-1} | x_t, x_0), for t = 0 -log p(x_0 | x_1), the
    probability of the 8-bit value. No gradient flows into x0_hat: the bound teaches the variance alone.

    Args:
        transitions: of all timesteps.
        t: timesteps, (B,).
        x_0, x_t, x0_hat: (B, 3, H, W); x_0 and x0_hat in [0, 1], x0_hat up to overshoot.
        variance: v, (B, 3, H, W), see `Transitions.log_variance`.
    """
    mean, log_variance = transitions.mean(t, x0_hat.detach(), x_t), transitions.log_variance(t, variance)
    true_mean, true_log_variance = transitions.mean(t, x_0, x_t), transitions.log_min[t].view(-1, 1, 1, 1)
    log_ratio = log_variance - true_log_variance
    squares = (-log_ratio).exp() + (true_mean - mean).square() * (-log_variance).exp()
    divergence = (log_ratio - 1 + squares) / 2
    terms = torch.where((t == 0).view(-1, 1, 1, 1), -log_probability(x_0, mean, log_variance), divergence)
    return terms.mean((1, 2, 3)) / math.log(2)


def log_probability(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of a normal distribution's mass within half a grey level of x, in [0, 1]; below 0 and above 1 count too."""
    deviation = (log_variance / 2).exp()
    above, below = ((x + step - mean) / deviation for step in (HALF_GREY_LEVEL, -HALF_GREY_LEVEL))
    to_upper = torch.where(x > 1 - HALF_GREY_LEVEL, 1.0, torch.special.ndtr(above))
    to_lower = torch.where(x < HALF_GREY_LEVEL, 0.0, torch.special.ndtr(below))
    return (to_upper - to_lower).clamp_min(MIN_PROBABILITY).log()
