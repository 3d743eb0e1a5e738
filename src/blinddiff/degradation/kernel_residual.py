"""What the residual says of the kernel: the error that explains what A(x, k) leaves of y.

With the true image, y - A(x, k) is (k_true - k) (*) x, thinned out, plus noise. Correlating it with x, and dividing by
x's own spectrum, gives k_true - k as far as the LR grid can tell. With an estimate of x it is a noisy and biased hint,
for a network to read.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import bicubic_downsample

FLOORS = (1e-2, 2e-1)
"""What is added to x's spectrum, in parts of its mean: little keeps fine detail, much keeps out noise."""


def kernel_residual(y: Tensor, x: Tensor, kernel: Tensor, scale: int, size: int) -> Tensor:
    """The kernel error that y - A(x, kernel) shows, at each of `FLOORS`.

    Args:
        y: LR image, (B, C, h, w), in [0, 1].
        x: HR image, (B, C, s*h, s*w).
        kernel: (B, n, m), HR pixels.
        scale: 1, 2, 3 or 4.
        size: side of the answer, odd.

    Returns:
        (B, len(FLOORS), size, size): about k_true - kernel, at HR pixels, centred as kernels are.

    Source: the correlogram method of spectral estimation (Blackman and Tukey 1958), for a cross-spectrum.
    """
    reach = -(-(size // 2) // scale) + 2  # LR lags on each side
    residual = y - DegradationOperator(kernel, scale)(x)
    low = bicubic_downsample(x, scale)
    low = low - low.mean((-2, -1), keepdim=True)
    window = torch.hann_window(y.shape[-2] + 2, periodic=False, device=y.device)[1:-1, None] * torch.hann_window(
        y.shape[-1] + 2, periodic=False, device=y.device
    )[1:-1].to(y)
    padded = y.shape[-2] + 2 * reach, y.shape[-1] + 2 * reach
    spectrum = torch.fft.rfft2(low * window, s=padded)
    other = torch.fft.rfft2(residual * window, s=padded)
    cross = _lags(torch.fft.irfft2((spectrum.conj() * other).sum(1), s=padded), reach)
    own = _lags(torch.fft.irfft2(spectrum.abs().square().sum(1), s=padded), reach)
    power = torch.fft.fft2(own).real.clamp_min(0)
    mean = power.mean((-2, -1), keepdim=True) + 1e-12
    answers = []
    for floor in FLOORS:
        found = torch.fft.fftshift(torch.fft.fft2(cross) / (power + floor * mean), dim=(-2, -1))
        answers.append(_finer(found, scale, size))
    return torch.stack(answers, 1)


def _lags(correlation: Tensor, reach: int) -> Tensor:
    """Lags -reach..reach of a wrapped correlation, tapered, on an odd grid of their own with lag 0 at the origin."""
    taper = torch.hann_window(2 * reach + 3, periodic=False, device=correlation.device)[1:-1].to(correlation)
    near = correlation.roll((reach, reach), (-2, -1))[..., : 2 * reach + 1, : 2 * reach + 1] * taper[:, None] * taper
    near = F.pad(near, (reach, reach, reach, reach))
    return near.roll((-2 * reach, -2 * reach), (-2, -1))


def _finer(spectrum: Tensor, scale: int, size: int) -> Tensor:
    """The lags of a centred LR spectrum, sampled at HR pixels: (B, size, size)."""
    side = spectrum.shape[-1]  # odd
    more = (scale * side - side) // 2, (scale * side - side + 1) // 2
    if side % 2 == 1 and (scale * side) % 2 == 0:  # the origin of an even grid lies one further
        more = more[1], more[0]
    fine = torch.fft.ifft2(torch.fft.ifftshift(F.pad(spectrum, (*more, *more)), dim=(-2, -1))).real
    return fine.roll((size // 2, size // 2), (-2, -1))[..., :size, :size]
