"""What is known of a degradation."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blinddiff.degradation.kernel_fit import FLOORS
from blinddiff.models.statistics import BLOCK, STATISTICS, spectral_statistics


class Estimate(NamedTuple):
    """A kernel (B, size, size), on the simplex, and a noise level (B,) in grey levels."""

    kernel: Tensor
    noise_level: Tensor


def scale_code(scale: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Which of a network's scales each image's is, one-hot: (B,) -> (B, ``scales``)."""
    return (scale[:, None] == torch.tensor(scales, device=scale.device)).float()


POWERS = tuple((down, degree - down) for degree in (2, 3, 4) for down in range(degree + 1))
"""Of the monomials that log k may grow by: width and elongation, skewness, flatness. Shifts (degree 1) are not seen."""
REACH = 4.0  # kernel widths from the centre beyond which the monomials stay as they are: there is no kernel left
NEAR = 2.0  # kernel widths within which the residual's moments are taken
HIDDEN = 128
BOTTLENECK = 64
DROPOUT = 0.1
LEAST = 1e-7  # of a kernel's entry: what the correction may bring back
UNIT = 0.3  # of the monomials' coefficients
LARGEST = 6.0  # standard deviations of what is read: no picture is quite unlike all others


class Evidence(NamedTuple):
    """What a step of the sampler shows of the kernel's error.

    Attributes:
        of_y: `spectral_statistics` of y, (B, `STATISTICS`).
        of_x: those of x0_hat, (B, `STATISTICS`): too wide a kernel leaves ringing, too narrow a one leaves blur.
        residual: the kernel error that y - A(x0_hat, k) shows, (B, floors, size, size), see `kernel_residual`.
        log_snr: log of alpha_bar / (1 - alpha_bar) at the step's t, (B,).
    """

    of_y: Tensor
    of_x: Tensor
    residual: Tensor
    log_snr: Tensor


class KernelCorrection(nn.Module):
    """A step of mirror descent in a few learned directions: log k grows by a polynomial, and k stays on the simplex.

    Args:
        scales: scales it is made for; the scale is one of its inputs.
    """

    def __init__(self, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.scales = scales
        seen = 2 * STATISTICS + (1 + len(FLOORS)) * len(POWERS) + 3 + len(scales)
        self.normalise = nn.BatchNorm1d(seen, affine=False, momentum=0.02)
        last = nn.Linear(HIDDEN, len(POWERS) + 1)
        self.read = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(seen, BOTTLENECK),
            nn.Dropout(DROPOUT),
            nn.Linear(BOTTLENECK, HIDDEN),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, HIDDEN),
            nn.GELU(),
            last,
        )
        # Until trained, nothing is corrected.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, current: Estimate, scale: Tensor, evidence: Evidence) -> Estimate:
        """The current estimate, corrected by what this step showed.

        Args:
            current: the kernel (B, size, size) and noise level (B,) that the network was given.
            scale: of each image, (B,).
            evidence: what the step shows under them.
        """
        kernel, noise_level = current.kernel.clamp_min(0), current.noise_level
        with torch.no_grad():
            shapes, near, width = monomials(kernel)
            seen = self._seen(current, scale, evidence, shapes, near, width)
        change = self.read(self.normalise(seen).clamp(-LARGEST, LARGEST)).float()
        growth = UNIT * (change[:, :-1, None, None] * shapes).sum(1)
        return Estimate(mirror_step(kernel, growth), noise_level * change[:, -1].exp())

    def _seen(
        self, current: Estimate, scale: Tensor, evidence: Evidence, shapes: Tensor, near: Tensor, width: Tensor
    ) -> Tensor:
        """All that the correction depends on, as numbers of about one size: (B, seen)."""
        moments = (shapes * current.kernel[:, None]).sum((-2, -1))
        error = (shapes[:, None] * (evidence.residual * near[:, None])[:, :, None]).sum((-2, -1)).flatten(1)
        faint = error.sign() * error.abs().sqrt()  # else a few large errors would hide all others
        numbers = torch.stack([width.log(), (current.noise_level + 1).log(), evidence.log_snr], 1)
        which = scale_code(scale, self.scales)
        return torch.cat([evidence.of_y, evidence.of_x, moments, faint, numbers, which], 1)


def mirror_step(kernel: Tensor, growth: Tensor) -> Tensor:
    """softmax(log k + growth): a step of mirror descent, which keeps kernels (B, n, m) on the simplex."""
    return (kernel.clamp_min(LEAST).log() + growth).flatten(1).softmax(1).view_as(kernel)


def way(kernel: Tensor, other: Tensor) -> Tensor:
    """The growth of log k that leads from one kernel to another, (B, n, m) each."""
    return other.clamp_min(LEAST).log() - kernel.clamp_min(LEAST).log()


def monomials(kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The monomials of `POWERS` about the centre, in units of the kernel's own width.

    Args:
        kernel: (B, n, n).

    Returns:
        The monomials (B, `POWERS`, n, n), each over its degree; a Gaussian window of `NEAR` widths (B, n, n); and the
        width, (B,): the root of the mean second moment along an axis, in pixels.
    """
    axis = torch.arange(kernel.shape[-1], device=kernel.device, dtype=kernel.dtype) - kernel.shape[-1] // 2
    square = axis[:, None].square() + axis.square()
    width = ((square * kernel).sum((-2, -1)) / 2 + 0.1).sqrt()
    distance = (square / width[:, None, None].square()).sqrt()
    inwards = (REACH / distance.clamp_min(REACH)) / width[:, None, None]
    down, right = axis[:, None] * inwards, axis * inwards
    shapes = torch.stack([down**i * right**j / (i + j) for i, j in POWERS], 1)
    return shapes, (-distance.square() / (2 * NEAR**2)).exp(), width


NOISE_UNIT = 10.0  # grey levels; brings the noise head's output near 1


class SpectralEstimator(nn.Module):
    """Kernel and noise level: first from the spectral statistics of y, then corrected at each step of the sampler.

    Args:
        kernel_size: side of the kernel's support, odd.
        hidden: width of the two hidden layers.
        scales: scales it is made for; the scale is one of its inputs.
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
        self.doubt = nn.Sequential(nn.Linear(hidden + 1, 64), nn.GELU(), nn.Linear(64, 1))

    def features(self, y: Tensor, scale: int) -> Tensor:
        """What y alone tells, once an image: (B, 3, h, w) in [0, 1] -> (B, hidden)."""
        return self.told(spectral_statistics(y), torch.full((len(y),), scale, device=y.device))

    def told(self, statistics: Tensor, scale: Tensor) -> Tensor:
        """The same from the `spectral_statistics` of images, (B, `STATISTICS`), and the scale of each, (B,)."""
        return self.trunk(torch.cat([self.normalise(statistics), scale_code(scale, self.scales)], 1))

    def first(self, features: Tensor) -> Estimate:
        """The estimate from y alone."""
        out = self.head(features).float()
        kernel = out[:, :-1].softmax(1).unflatten(1, (self.kernel_size, self.kernel_size))
        return Estimate(kernel, NOISE_UNIT * F.softplus(out[:, -1]))

    def expected_error_of(self, features: Tensor, pixels: Tensor) -> Tensor:
        """What sum |k_hat - k| of the first estimate will be on average: (B,), from 0 to 2.

        Args:
            features: of `features`.
            pixels: how many each image has, (B, 1): many tell more than few.
        """
        octaves = (pixels / BLOCK**2).log2() / 4
        return 2 * self.doubt(torch.cat([features, octaves], 1)).float().squeeze(1).sigmoid()


class ConvolutionalEstimator(nn.Sequential):
    """The published estimator: six 5x5 convolutions on (x_t, y enlarged), global pooling, softmax over the support."""

    def __init__(self, dim: int, kernel_size: int) -> None:
        layers: list[nn.Module] = []
        for index, stride in enumerate((1, 1, 1, 2, 1, 1)):
            layers += [nn.Conv2d(dim if index else 6, dim, 5, stride, padding=2), nn.LeakyReLU(0.2)]
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Conv2d(dim, kernel_size**2, 1), nn.Flatten(), nn.Softmax(1)
        )
