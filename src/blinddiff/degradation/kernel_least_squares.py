"""The kernel from an image and its degraded version: linear least squares on the simplex."""

import torch
from torch import Tensor
from torch.nn import functional as F

from blinddiff.degradation.borders import extend
from blinddiff.degradation.downsampling import BICUBIC, Downsampling
from blinddiff.errors import ParameterError

ITERATIONS = 500
TOLERANCE = 1e-7
BALANCE_STEPS = 20  # iterations between new penalties
BAND_VALUES = 2**24  # values of the design matrix held at once: 64 MB in float32


def kernel_normal_equations(
    y: Tensor, x: Tensor, size: int, scale: int, downsampling: Downsampling = BICUBIC
) -> tuple[Tensor, Tensor]:
    """G and b such that the mean of |y - A(x, k)|^2 over pixels and channels is k^T G k - 2 b^T k + a constant.

    A(x, k) is linear in k: every entry adds a shifted copy of x. LR pixels whose downsampling filter reaches over the
    image's edge are left out. As k sums to 1, x's mean is taken from both sides, which leaves k the same and G
    well scaled.

    Args:
        y: LR image, (B, C, h, w).
        x: HR image, (B, C, s*h, s*w).
        size: side of the kernel's support.
        scale, downsampling: as in `DegradationOperator`.

    Returns:
        G (B, size^2, size^2) and b (B, size^2), row-major in the kernel's entries.

    Raises:
        ParameterError: the image is too small for the downsampling filter.
    """
    taps, first = downsampling.taps(scale)
    height, width = y.shape[-2:]
    lead = -(first // scale)  # LR pixels whose filter reaches over the first edge
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
    y: Tensor,
    x: Tensor,
    prior: Tensor,
    weight: float | Tensor,
    scale: int,
    downsampling: Downsampling = BICUBIC,
) -> Tensor:
    """argmin_k mean |y - A(x, k)|^2 + weight ||k - prior||^2 over kernels: k >= 0, sum k = 1.

    Args:
        y: LR image, (B, C, h, w), in [0, 1].
        x: HR image, (B, C, s*h, s*w).
        prior: (B, n, n), the kernel expected; its side is the support.
        weight: trust in the prior, above 0; a number, or one for each image (B,).
        scale, downsampling: as in `DegradationOperator`.

    Returns:
        (B, n, n).
    """
    gram, moment = kernel_normal_equations(y, x, prior.shape[-1], scale, downsampling)
    expected = prior.flatten(1)
    trust = torch.as_tensor(weight, dtype=gram.dtype, device=gram.device).reshape(-1, 1)
    gram = gram + torch.diag_embed(trust.expand(len(gram), gram.shape[-1]))
    moment = moment + trust * expected
    return _on_simplex(gram, moment, expected).view_as(prior)


def _on_simplex(gram: Tensor, moment: Tensor, start: Tensor) -> Tensor:
    """argmin k^T G k - 2 b^T k on the simplex, by ADMM (Boyd et al. 2011) with residual balancing (3.4.1 there)."""
    curvature = gram.diagonal(dim1=-2, dim2=-1).mean(1, keepdim=True)
    penalty = 0.1 * curvature
    k = z = last = start
    dual = torch.zeros_like(start)
    for iteration in range(ITERATIONS):
        if iteration % BALANCE_STEPS == 0:
            # Natural images spread the eigenvalues of G over 15 decades: no fixed penalty serves them all.
            if iteration:
                lag, drift = (k - z).norm(dim=1, keepdim=True), (z - last).norm(dim=1, keepdim=True)
                ratio = (lag + TOLERANCE) * curvature / (10 * penalty * (drift + TOLERANCE))
                change = ratio.sqrt().clamp(0.2, 5)
                penalty, dual = penalty * change, dual / change
            factor = torch.linalg.cholesky(gram + torch.diag_embed(penalty.expand_as(start)))
        k = torch.cholesky_solve((moment + penalty * (z - dual))[..., None], factor)[..., 0]
        last, z = z, project_to_simplex(k + dual)
        dual = dual + k - z
        if max(float((k - z).abs().max()), float((z - last).abs().max())) < TOLERANCE:
            break
    return z


def project_to_simplex(v: Tensor) -> Tensor:
    """The nearest point with entries >= 0 that sum to 1, for each row of (B, N).

    Source: J. Duchi et al., "Efficient projections onto the l1-ball", ICML 2008.
    """
    ordered = v.sort(1, descending=True).values
    excess = ordered.cumsum(1) - 1
    counts = torch.arange(1, v.shape[1] + 1, device=v.device, dtype=v.dtype)
    kept = (ordered * counts > excess).sum(1, keepdim=True)
    return (v - excess.gather(1, kept - 1) / kept).clamp_min(0)
