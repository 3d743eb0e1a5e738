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
from blinddiff.degradation.kernels import unsharp_mask
from blinddiff.degradation.observation import Degradation
from blinddiff.models.edge_profiles import EDGE_STATISTICS
from blinddiff.models.statistics import (
    BLOCK,
    COLOUR_STATISTICS,
    FINE_BLOCK,
    FINE_MAPS,
    NOISE_CLUES,
    NOISE_GRID,
    STATISTICS,
    Statistics,
    full_spectrum,
)


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
        return current.with_estimate(mirror_descent_step(current.kernel, log_update), noise_level * change[:, -1].exp())


def mirror_descent_step(kernel: Tensor, log_update: Tensor, negative: Tensor | None = None) -> Tensor:
    """A step of mirror descent on the positive part of kernels (B, n, m), which keeps their sum at 1.

    For kernels without negative entries softmax(log k + log_update). negative: the new negative part, >= 0; that of the
    kernel by default.
    """
    negative = (-kernel).clamp_min(0) if negative is None else negative
    positive = (kernel.clamp_min(MIN_ENTRY).log() + log_update).flatten(1).softmax(1).view_as(kernel)
    return (1 + negative.sum((-2, -1), keepdim=True)) * positive - negative


def log_ratio(kernel: Tensor, other: Tensor) -> Tensor:
    """log(other / kernel) of the positive parts, (B, n, m): with it, `mirror_descent_step` gives the part of other."""
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


NOISE_UNIT = 10.0  # grey levels; makes the head's outputs of similar magnitude
START_STRENGTH = -5.0  # of sharpening at the start of training: softplus gives 0.007
MIN_SHARPENING_WIDTH = 0.5  # HR pixels
MIN_NOISE_POWER = 1e-6  # squared grey levels
GATE_CHANNELS = 32
START_GATE = -9.0  # logit of the noise gate at the start of training: about 1e-4 of the power
CLUE_UNIT = 3.0  # makes the gate's inputs of similar magnitude
MAX_GATE = 1.5  # above 1, because the flattest blocks have less noise than the others
HALF_GRID = NOISE_GRID * (NOISE_GRID // 2 + 1)


class FineSpectraEncoder(nn.Sequential):
    """Features of `Statistics.fine` by strided convolutions over frequencies: (B, FINE_MAPS, 64, 33) -> (B, hidden).

    Each frequency of each map is normalised over the batch. The last layer starts at zero.
    """

    def __init__(self, hidden: int) -> None:
        last = nn.Linear(64 * 8 * 5, hidden)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(
            nn.Flatten(),
            nn.BatchNorm1d(FINE_MAPS * FINE_BLOCK * (FINE_BLOCK // 2 + 1), affine=False, momentum=0.02),
            nn.Unflatten(1, (FINE_MAPS, FINE_BLOCK, FINE_BLOCK // 2 + 1)),
            nn.Conv2d(FINE_MAPS, 24, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            last,
        )


class NoiseGate(nn.Module):
    """The share of the flattest blocks' power that is coloured noise, at each frequency: a small convolutional network.

    Being convolutional over the frequencies, it detects the peak of a halftone pattern wherever it is. It sees only
    `Statistics.clues`: with the features of the trunk as inputs, it learned the noise of the training images by heart.
    """

    def __init__(self) -> None:
        super().__init__()
        maps = NOISE_CLUES + 2  # and the frequency
        self.first = nn.Conv2d(maps, GATE_CHANNELS, 3, padding=1)
        self.whole = nn.Sequential(
            nn.Linear(GATE_CHANNELS, GATE_CHANNELS), nn.GELU(), nn.Linear(GATE_CHANNELS, GATE_CHANNELS)
        )
        self.second = nn.Conv2d(GATE_CHANNELS, GATE_CHANNELS, 3, padding=1)
        self.third = nn.Conv2d(GATE_CHANNELS, GATE_CHANNELS, 3, padding=1)
        self.last = nn.Conv2d(GATE_CHANNELS, 1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, START_GATE)  # type: ignore[arg-type]

    def forward(self, clues: Tensor) -> Tensor:
        """`Statistics.clues` -> (B, 16, 9), 0 to `MAX_GATE`."""
        rows = torch.fft.fftfreq(NOISE_GRID, device=clues.device).abs()[:, None].expand(clues.shape[-2:])
        columns = torch.fft.rfftfreq(NOISE_GRID, device=clues.device).expand(clues.shape[-2:])
        frequency = torch.stack([rows, columns]).expand(len(clues), -1, -1, -1)
        x = F.gelu(self.first(torch.cat([clues / CLUE_UNIT, frequency], 1).to(self.first.weight.dtype)))
        x = F.gelu(self.second(x) + self.whole(x.mean((-2, -1)))[..., None, None])
        return MAX_GATE * self.last(F.gelu(self.third(x)))[:, 0].float().sigmoid()


class SpectralEstimator(nn.Module):
    """Kernel and noise from the statistics of y, and their correction at each step of the sampler.

    hidden: width of the two hidden layers. kernel_size, scales: those of the network.
    """

    def __init__(self, kernel_size: int, hidden: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.scales = scales
        self.normalise = nn.BatchNorm1d(STATISTICS, affine=False, momentum=0.02)
        self.normalise_colour = nn.BatchNorm1d(COLOUR_STATISTICS, affine=False, momentum=0.02)
        self.trunk = nn.Sequential(
            nn.Linear(STATISTICS + len(scales), hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.colour = nn.Linear(COLOUR_STATISTICS, hidden, bias=False)
        self.fine = FineSpectraEncoder(hidden)
        self.edges = nn.Sequential(
            nn.Flatten(),
            nn.BatchNorm1d(EDGE_STATISTICS, affine=False, momentum=0.02),
            nn.Linear(EDGE_STATISTICS, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, hidden, bias=False),
        )
        self.head = nn.Linear(hidden, kernel_size**2 + 1)
        self.sharpening_head = nn.Linear(hidden, 2)
        self.noise_gate = NoiseGate()
        self.correct = KernelCorrection(scales)
        self.confidence_head = nn.Sequential(nn.Linear(hidden + 1, 64), nn.GELU(), nn.Linear(64, 1))
        # At the start of training there is almost no sharpening, and all noise is white.
        for layer in (self.colour, self.edges[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.sharpening_head.weight)
        nn.init.constant_(self.sharpening_head.bias, 1.0)
        nn.init.constant_(self.sharpening_head.bias[:1], START_STRENGTH)

    def forward(self, statistics: Statistics, scale: Tensor) -> tuple[Degradation, Tensor]:
        """Kernel and noise from the statistics of y and the scale of each image, (B,); and the features, (B, hidden).

        The kernel is that of a blur, on the simplex, and an unsharp mask after it. The noise is white noise plus
        coloured noise: at each frequency a share of the flattest blocks' power, see `NoiseGate`.
        """
        dtype = self.head.weight.dtype
        spectral = self.normalise(statistics.spectral.to(dtype))
        colour = self.normalise_colour(statistics.colour.to(dtype))
        first, *others = self.trunk
        features = first(torch.cat([spectral, one_hot_scale(scale, self.scales).to(dtype)], 1))
        features = features + self.colour(colour) + self.fine(statistics.fine.to(dtype))
        features = features + self.edges(statistics.edges.to(dtype))
        for layer in others:
            features = layer(features)

        out, sharpening = self.head(features).float(), F.softplus(self.sharpening_head(features).float())
        blur = out[:, :-1].softmax(1).unflatten(1, (self.kernel_size, self.kernel_size))
        kernel = unsharp_mask(blur, sharpening[:, 0], MIN_SHARPENING_WIDTH + sharpening[:, 1])
        coloured = self.noise_gate(statistics.clues) * statistics.flat
        white = NOISE_UNIT * F.softplus(out[:, -1])
        power = full_spectrum(white.square()[:, None, None] + coloured).clamp_min(MIN_NOISE_POWER)
        variance = power.mean((-2, -1))
        return Degradation(kernel, variance.sqrt(), noise_spectrum=power / variance[:, None, None]), features

    def expected_error(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Expected sum |k_hat - k| of the initial estimate: (B,), 0 to 2.

        features: those of the estimate, (B, hidden). pixels: number of pixels of each image, (B, 1).
        """
        octaves = (pixels / BLOCK**2).log2() / 4
        return 2 * self.confidence_head(torch.cat([features, octaves.to(features)], 1)).float().squeeze(1).sigmoid()
