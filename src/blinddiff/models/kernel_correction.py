"""The correction of a kernel by what a step of the sampler shows.

A kernel has hundreds of entries, and the evidence for them is faint; so only a few numbers are learned: how much wider,
longer, more skewed or flatter it should be. Freer corrections (of every entry, or read off the image by convolutions)
learn examples by heart instead, see docs/training.md.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blinddiff.degradation.kernel_residual import FLOORS
from blinddiff.models.estimate import Estimate, scale_code
from blinddiff.models.statistics import STATISTICS

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
