"""The kernel estimator: kernel, noise level and expected kernel error from the spectral statistics of y, and the
correction of kernel and noise level at each step of the sampler.

A kernel has hundreds of entries, but y determines only a few of its degrees of freedom. So the correction changes only
the kernel's width, elongation, skewness and kurtosis. Corrections of every entry overfitted, and convolutions on the
image gained nothing, see docs/lab-notes.md.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_fit import FLOORS
from blinddiff.degradation.observation import Degradation
from blinddiff.models.statistics import BLOCK, STATISTICS, spectral_statistics


def one_hot_scale(scale: Tensor, scales: tuple[int, ...]) -> Tensor:
    """One-hot encoding of each image's scale: (B,) -> (B, len(scales))."""
    return (scale[:, None] == torch.tensor(scales, device=scale.device)).float()


POWERS = tuple((down, degree - down) for degree in (2, 3, 4) for down in range(degree + 1))
"""Exponents of the monomials that the correction adds to log k: width and elongation (degree 2), skewness (3), kurtosis
(4). Shifts (degree 1) cannot be determined."""
REACH = 4.0  # kernel widths from the centre, beyond which the kernel is about 0; there monomials are held constant
WINDOW_WIDTH = 2.0  # standard deviation, in kernel widths, of the Gaussian window for the moments of the error map
HIDDEN = 128
BOTTLENECK = 64
DROPOUT = 0.1
MIN_ENTRY = 1e-7  # lower bound of a kernel's entries in log k, so that zero entries can grow again
COEFFICIENT_SCALE = 0.3  # a monomial's coefficient is this times an output of the MLP
MAX_INPUT = 6.0  # normalised inputs are clipped to this absolute value


class CorrectionFeatures(NamedTuple):
    """Features for the kernel correction after a prior step.

    Attributes:
        statistics_y: `spectral_statistics` of y, (B, STATISTICS).
        statistics_x: the same of x0_hat: too wide a kernel causes ringing, too narrow a kernel leaves blur.
        error_map: kernel error estimated from y - A(x0_hat, k), (B, len(FLOORS), n, n), see `kernel_error_map`.
        log_snr: log of alpha_bar / (1 - alpha_bar) at the step's t, (B,).
    """

    statistics_y: Tensor
    statistics_x: Tensor
    error_map: Tensor
    log_snr: Tensor


class KernelCorrection(nn.Module):
    """Adds a low-order polynomial to log k and renormalises (a learned mirror-descent step)."""

    def __init__(self, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.scales = scales  # supported scales; the one-hot scale is one of the inputs
        inputs = 2 * STATISTICS + (1 + len(FLOORS)) * len(POWERS) + 3 + len(scales)
        self.normalise = nn.BatchNorm1d(inputs, affine=False, momentum=0.02)
        last = nn.Linear(HIDDEN, len(POWERS) + 1)
        self.mlp = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(inputs, BOTTLENECK),
            nn.Dropout(DROPOUT),
            nn.Linear(BOTTLENECK, HIDDEN),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            last,
        )
        # With a last layer of zeros, the correction starts as the identity.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, current: Degradation, scale: Tensor, features: CorrectionFeatures) -> Degradation:
        """Correct the degradation that the network was conditioned on.

        scale: of each image, (B,). features: from x0_hat and this degradation, see `MCFormer.correction_features`.
        """
        kernel, noise_level = current.kernel.clamp_min(0), current.noise_level
        with torch.no_grad():
            shapes, window, width = monomials(kernel)
            moments = (shapes * current.kernel[:, None]).sum((-2, -1))
            error = (shapes[:, None] * (features.error_map * window[:, None])[:, :, None]).sum((-2, -1)).flatten(1)
            error = error.sign() * error.abs().sqrt()  # compresses outliers
            numbers = torch.stack([width.log(), (noise_level + 1).log(), features.log_snr], 1)
            one_hot = one_hot_scale(scale, self.scales)
            inputs = torch.cat([features.statistics_y, features.statistics_x, moments, error, numbers, one_hot], 1)
        inputs = self.normalise(inputs.to(next(self.mlp.parameters()).dtype)).clamp(-MAX_INPUT, MAX_INPUT)
        change = self.mlp(inputs).float()
        log_update = COEFFICIENT_SCALE * (change[:, :-1, None, None] * shapes).sum(1)
        return current.with_estimate(mirror_step(kernel, log_update), noise_level * change[:, -1].exp())


def mirror_step(kernel: Tensor, log_update: Tensor) -> Tensor:
    """softmax(log k + log_update), (B, n, m): a step of mirror descent; it keeps the kernel non-negative with sum 1."""
    return (kernel.clamp_min(MIN_ENTRY).log() + log_update).flatten(1).softmax(1).view_as(kernel)


def log_ratio(kernel: Tensor, other: Tensor) -> Tensor:
    """log(other / kernel), (B, n, m): the `log_update` with which `mirror_step(kernel, log_update)` is `other`."""
    return other.clamp_min(MIN_ENTRY).log() - kernel.clamp_min(MIN_ENTRY).log()


def monomials(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The monomials of `POWERS` about the centre of kernels (B, n, n), in units of the kernel's width.

    Returns:
        The monomials, (B, len(POWERS), n, n), each divided by its degree; a Gaussian window, (B, n, n);
        and the width, (B,): the root of the second moment along an axis, averaged over both axes, in HR pixels.
    """
    axis = torch.arange(kernel.shape[-1], device=kernel.device, dtype=kernel.dtype) - kernel.shape[-1] // 2
    square = axis[:, None].square() + axis.square()
    width = ((square * kernel).sum((-2, -1)) / 2 + 0.1).sqrt()
    distance = (square / width[:, None, None].square()).sqrt()
    per_pixel = (REACH / distance.clamp_min(REACH)) / width[:, None, None]
    down, right = axis[:, None] * per_pixel, axis * per_pixel
    shapes = torch.stack([down**i * right**j / (i + j) for i, j in POWERS], 1)
    return shapes, (-distance.square() / (2 * WINDOW_WIDTH**2)).exp(), width


NOISE_UNIT = 10.0  # unit of the head's noise output, in grey levels, so that its outputs have similar magnitudes


class SpectralEstimator(nn.Module):
    """Kernel and noise level from the spectral statistics of y, and their correction at each step of the sampler.

    hidden: width of the two hidden layers. kernel_size, scales: those of the network.
    """

    def __init__(self, kernel_size: int, hidden: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.scales = scales
        self.normalise = nn.BatchNorm1d(STATISTICS, affine=False, momentum=0.02)
        self.trunk = nn.Sequential(
            nn.Linear(STATISTICS + len(scales), hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.head = nn.Linear(hidden, kernel_size**2 + 1)
        self.correct = KernelCorrection(scales)
        self.confidence_head = nn.Sequential(nn.Linear(hidden + 1, 64), nn.GELU(), nn.Linear(64, 1))

    def features(self, y: Tensor, scale: int) -> Tensor:
        """Features of LR images: (B, 3, h, w) in [0, 1] -> (B, hidden)."""
        return self.features_from_statistics(spectral_statistics(y), torch.full((len(y),), scale, device=y.device))

    def features_from_statistics(self, statistics: Tensor, scale: Tensor) -> Tensor:
        """Features from `spectral_statistics`, (B, STATISTICS), and the scale of each image, (B,): (B, hidden)."""
        dtype = self.head.weight.dtype
        normalised = self.normalise(statistics.to(dtype))
        return self.trunk(torch.cat([normalised, one_hot_scale(scale, self.scales).to(dtype)], 1))

    def initial_estimate(self, features: Tensor) -> Degradation:
        """Kernel and noise level from the features of y, (B, hidden)."""
        out = self.head(features).float()
        kernel = out[:, :-1].softmax(1).unflatten(1, (self.kernel_size, self.kernel_size))
        return Degradation(kernel, NOISE_UNIT * F.softplus(out[:, -1]))

    def expected_error(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Expected sum |k_hat - k| of the initial estimate: (B,), 0 to 2.

        features: the output of `features`, (B, hidden). pixels: number of pixels of each image, (B, 1).
        """
        octaves = (pixels / BLOCK**2).log2() / 4
        return 2 * self.confidence_head(torch.cat([features, octaves.to(features)], 1)).float().squeeze(1).sigmoid()
