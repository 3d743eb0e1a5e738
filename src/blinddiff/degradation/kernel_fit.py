"""Estimates from an HR and an LR image: the kernel by least squares on the simplex, and the error of a kernel."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.fourier import Spectrum, fft2, ifft2, irfft2, pad, rfft2
from blinddiff.degradation.operator import DegradationOperator
from blinddiff.degradation.resize import BICUBIC, Downsampling, bicubic_downsample, extend
from blinddiff.errors import ParameterError

ITERATIONS = 500
TOLERANCE = 1e-7
BALANCE_STEPS = 20  # iterations between updates of the penalty
BAND_VALUES = 2**24  # values of the design matrix held at once: 64 MB in float32


def kernel_normal_equations(
    y: Tensor, x: Tensor, size: int, scale: int, downsampling: Downsampling = BICUBIC
) -> tuple[Tensor, Tensor]:
    """G and b such that the mean of |y - A(x, k)|^2 over pixels and channels is k^T G k - 2 b^T k + a constant.

    A(x, k) is linear in k: every entry adds a shifted copy of x. LR pixels whose downsampling filter crosses the image
    border are excluded; ParameterError is raised if none remains. As k sums to 1, x's mean is subtracted from both x
    and y, which leaves k the same and makes G well scaled.

    Args:
        y, x: LR image, (B, C, h, w), and HR image, (B, C, s*h, s*w).
        size: side of the kernel's support.
        scale, downsampling: as in `DegradationOperator`.

    Returns:
        G (B, size^2, size^2) and b (B, size^2), row-major in the kernel's entries.
    """
    taps, first = downsampling.taps(scale)
    height, width = y.shape[-2:]
    lead = -(first // scale)  # LR pixels whose filter extends beyond the first edge
    trail = max(-(-(first + len(taps) - scale) // scale), 0)
    inner = height - lead - trail, width - lead - trail
    if min(inner) < 1:
        raise ParameterError(f"an LR image of {width}x{height} is too small to fit a kernel to at scale {scale}")
    mean = x.mean((-2, -1), keepdim=True)
    before, after = size - 1 - size // 2, size // 2
    z = extend(x - mean, (before, after), (before, after), "reflect")
    filtered = F.conv2d(z.flatten(0, 1)[:, None], taps.to(x).view(1, 1, -1, 1))
    filtered = F.conv2d(filtered, taps.to(x).view(1, 1, 1, -1)).unflatten(0, x.shape[:2])[:, :, 0]
    # filtered[m] is the filter at m + first; start where the first inner LR pixel's window does.
    start = lead * scale + first
    target = (y - mean)[..., lead : height - trail, lead : width - trail]
    gram = x.new_zeros(len(x), size**2, size**2)
    moment = x.new_zeros(len(x), size**2)
    band = max(1, BAND_VALUES // (len(x) * size**2 * inner[1]))
    for channel in range(x.shape[1]):
        for top in range(0, inner[0], band):
            rows = min(band, inner[0] - top)
            at = start + top * scale
            window = filtered[:, channel, None, at : at + (rows - 1) * scale + size, start:]
            window = window[..., : (inner[1] - 1) * scale + size]
            design = F.unfold(window, size, stride=scale).flip(1)  # convolution: the kernel is flipped
            gram += design @ design.transpose(1, 2)
            moment += (design @ target[:, channel, top : top + rows].flatten(1)[..., None])[..., 0]
    count = x.shape[1] * inner[0] * inner[1]
    return gram / count, moment / count


def fit_kernel(
    y: Tensor, x: Tensor, prior: Tensor, weight: float | Tensor, scale: int, downsampling: Downsampling = BICUBIC
) -> Tensor:
    """argmin_k mean |y - A(x, k)|^2 + weight ||k - prior||^2 over kernels of sum 1, k >= min(prior, 0).

    Args:
        y, x, scale, downsampling: as in `kernel_normal_equations`; images in [0, 1].
        prior: (B, n, n), the expected kernel; the result has its size.
        weight: weight of the prior term, above 0; a scalar or (B,).
    """
    gram, moment = kernel_normal_equations(y, x, prior.shape[-1], scale, downsampling)
    expected = prior.flatten(1)
    weights = torch.as_tensor(weight, dtype=gram.dtype, device=gram.device).reshape(-1, 1)
    gram = gram + torch.diag_embed(weights.expand(len(gram), gram.shape[-1]))
    moment = moment + weights * expected
    # With k = p + lowest, p is on a simplex of sum 1 - sum(lowest).
    lowest = expected.clamp_max(0)
    moment = moment - (gram @ lowest[..., None])[..., 0]
    return (_on_simplex(gram, moment, expected - lowest) + lowest).view_as(prior)


def _on_simplex(gram: Tensor, moment: Tensor, start: Tensor) -> Tensor:
    """argmin k^T G k - 2 b^T k with k >= 0 and the sum of `start`: ADMM with residual balancing (Boyd et al. 2011)."""
    curvature = gram.diagonal(dim1=-2, dim2=-1).mean(1, keepdim=True)
    penalty = 0.1 * curvature
    k = z = last = start
    total = start.sum(1, keepdim=True)
    dual = torch.zeros_like(start)
    for iteration in range(ITERATIONS):
        if iteration % BALANCE_STEPS == 0:
            # For natural images the eigenvalues of G span 15 decades, so no fixed penalty works for all.
            if iteration:
                primal, change = (k - z).norm(dim=1, keepdim=True), (z - last).norm(dim=1, keepdim=True)
                ratio = (primal + TOLERANCE) * curvature / (10 * penalty * (change + TOLERANCE))
                factor = ratio.sqrt().clamp(0.2, 5)
                penalty, dual = penalty * factor, dual / factor
            cholesky = torch.linalg.cholesky(gram + torch.diag_embed(penalty.expand_as(start)))
        k = torch.cholesky_solve((moment + penalty * (z - dual))[..., None], cholesky)[..., 0]
        last, z = z, project_to_simplex(k + dual, total)
        dual = dual + k - z
        if max(float((k - z).abs().max()), float((z - last).abs().max())) < TOLERANCE:
            break
    return z


def project_to_simplex(v: Tensor, total: Tensor | float = 1.0) -> Tensor:
    """The nearest point with entries >= 0 that sum to ``total``, for each row of (B, N).

    Source: J. Duchi et al., "Efficient projections onto the l1-ball", ICML 2008.
    """
    ordered = v.sort(1, descending=True).values
    excess = ordered.cumsum(1) - total
    counts = torch.arange(1, v.shape[1] + 1, device=v.device, dtype=v.dtype)
    kept = (ordered * counts > excess).sum(1, keepdim=True)
    return (v - excess.gather(1, kept - 1) / kept).clamp_min(0)


FLOORS = (1e-2, 2e-1)
"""Regularisation of the division by x's spectrum, relative to its mean: small keeps detail, large suppresses noise."""


def kernel_error_map(y: Tensor, x: Tensor, kernel: Tensor, scale: int, size: int) -> Tensor:
    """The kernel error estimated from the residual y - A(x, kernel), at each of `FLOORS`.

    With the true image, the residual is (k_true - k) (*) x downsampled, plus noise. Its cross-correlation with x,
    divided by the power of x, is k_true - k at the LR grid's resolution. With an estimate of x, the result is biased.

    Args:
        y, x: LR image, (B, C, h, w), in [0, 1], and HR image, (B, C, s*h, s*w).
        kernel: (B, n, m), HR pixels.
        scale: 1, 2, 3 or 4.
        size: side of the result, odd.

    Returns:
        (B, len(FLOORS), size, size): about k_true - kernel, at HR pixels, centred as kernels are.

    Source: the correlogram method of spectral estimation (Blackman and Tukey 1958), for a cross-spectrum.
    """
    reach = -(-(size // 2) // scale) + 2  # LR lags on each side
    residual = y - DegradationOperator(kernel, scale)(x)
    low = bicubic_downsample(x, scale)
    low = low - low.mean((-2, -1), keepdim=True)
    rows, columns = (_hann(n, y) for n in y.shape[-2:])
    window = rows[:, None] * columns
    padded = y.shape[-2] + 2 * reach, y.shape[-1] + 2 * reach
    spectrum = rfft2(low * window, s=padded)
    other = rfft2(residual * window, s=padded)
    cross = _lags(irfft2((spectrum.conj() * other).sum(1), s=padded), reach)
    own = _lags(irfft2(spectrum.abs().square().sum(1), s=padded), reach)
    power = fft2(own).real.clamp_min(0)
    mean = power.mean((-2, -1), keepdim=True) + 1e-12
    estimates = [fft2(cross) / (power + floor * mean) for floor in FLOORS]
    return torch.stack([_upsampled(each, scale, size) for each in estimates], 1)


def _hann(n: int, like: Tensor) -> Tensor:
    """A Hann window (n,) without the zeros at its ends; torch's own would fix the size of the image in a graph."""
    return (torch.arange(1, n + 1, device=like.device).to(like) * math.pi / (n + 1)).sin().square()


def _lags(correlation: Tensor, reach: int) -> Tensor:
    """Lags -reach..reach of a circular correlation, tapered, on an odd zero-padded grid with lag 0 at the origin."""
    taper = _hann(2 * reach + 1, correlation)
    near = correlation.roll((reach, reach), (-2, -1))[..., : 2 * reach + 1, : 2 * reach + 1] * taper[:, None] * taper
    near = F.pad(near, (reach, reach, reach, reach))
    return near.roll((-2 * reach, -2 * reach), (-2, -1))


def _upsampled(spectrum: Spectrum, scale: int, size: int) -> Tensor:
    """The inverse transform of an LR spectrum, interpolated to HR pixels: (B, size, size)."""
    side = spectrum.shape[-1]  # odd
    centred = spectrum.roll((side // 2, side // 2), (-2, -1))
    # Before and after; an even grid has its origin one sample later.
    padding = (scale * side - side + 1) // 2, (scale * side - side) // 2
    padded = pad(centred, (*padding, *padding))
    origin = padded.shape[-1] // 2
    fine = ifft2(padded.roll((-origin, -origin), (-2, -1))).real
    return fine.roll((size // 2, size // 2), (-2, -1))[..., :size, :size]
