"""A kernel from its power spectrum alone, by Fienup's iterations.

In two dimensions almost every kernel that is not negative and of bounded support is determined by |K(f)| up to a shift
and its mirror image at the centre (Bruck and Sodin 1979).

Source: J. R. Fienup, "Phase retrieval algorithms: a comparison", Applied Optics 1982.
"""

import torch
from torch import Tensor

from blinddiff.degradation.fourier import irfft2, rfft2
from blinddiff.degradation.kernel_measures import centroid, normalise

STARTS = 16
ROUNDS = 300
CYCLE = 60  # iterations: 45 of hybrid input-output, 15 of error reduction
HYBRID = 45
LAST = 40  # iterations of error reduction at the end
FEEDBACK = 0.9
FAINT = 3.0
MAX_FAINT = 0.05
"""Errors of the spectrum spread over the support: entries below `FAINT` times the misfit, but at most `MAX_FAINT`, are
set to 0, as shares of the largest entry."""


def retrieve_kernels(power: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Kernels with given power spectra from `STARTS` random starts, and the RMS misfit of their amplitudes |K|.

    The starts are always the same ones. The iterations alternate between the known amplitude and the support, where the
    kernel is not negative.

    Args:
        power: |K(f)|^2 at the frequencies of `torch.fft.rfft2` on a grid at least twice as large as the support,
            (B, N, N // 2 + 1); 1 at the origin.
        size: side of the kernels' support, odd.

    Returns:
        Kernels >= 0 of sum 1, their centroid in the centre up to half a pixel, (B, STARTS, size, size); and their
        misfits, (B, STARTS). The smallest come first.
    """
    n = power.shape[-2]
    amplitude = power.clamp(0, 1).sqrt()[:, None]  # a blur amplifies no frequency
    support = torch.zeros(n, n, dtype=torch.bool, device=power.device)
    support[:size, :size] = True
    starts = torch.rand(STARTS, n, n, generator=torch.Generator().manual_seed(0)).to(power)
    k = (starts * support).expand(len(power), -1, -1, -1)
    for step in range(ROUNDS):
        spectrum = rfft2(k)
        new = irfft2(spectrum * (amplitude / spectrum.abs().clamp_min(1e-12)), s=(n, n))
        hybrid = step % CYCLE < HYBRID and step < ROUNDS - LAST
        k = torch.where(support & (new > 0), new, k - FEEDBACK * new if hybrid else 0)
    misfit, order = (rfft2(k).abs() - amplitude).square().mean((-2, -1)).sqrt().sort(1)
    found = k[torch.arange(len(k))[:, None], order]
    share = (FAINT * misfit).clamp(max=MAX_FAINT)[..., None, None]
    kept = torch.where(found >= share * found.amax((-2, -1), keepdim=True), found, 0)
    return centred(kept.flatten(0, 1), size).unflatten(0, misfit.shape), misfit


def centred(kernel: Tensor, size: int) -> Tensor:
    """Kernels (B, N, N) on a circular grid about their centroids: (B, size, size), of sum 1."""
    n, out = kernel.shape[-1], []
    first = n // 2 - size // 2
    for each, shift in zip(kernel, centroid(kernel).round().long().tolist(), strict=True):
        out.append(each.roll((-shift[0], -shift[1]), (0, 1))[first : first + size, first : first + size])
    return normalise(torch.stack(out))
