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
"""Errors of the spectrum spread over the support: entries below `FAINT` times the misfit, but at most `MAX_FAINT`, are set
to 0, as shares of the largest entry."""


def retrieve_kernel(power: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Kernels with given power spectra, and the RMS misfit of their amplitudes |K|.

    Each image has `STARTS` random starts, always the same ones, of which the one with the smallest misfit is taken.
    The iterations alternate between the known amplitude and the support, where the kernel is not negative.

    Args:
        power: |K(f)|^2 at the frequencies of `torch.fft.rfft2` on a grid at least twice as large as the support,
            (B, N, N // 2 + 1); 1 at the origin.
        size: side of the kernels' support, odd.

    Returns:
        Kernels >= 0 of sum 1, their centroid in the centre up to half a pixel, (B, size, size); and misfits, (B,).
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
    misfit = (rfft2(k).abs() - amplitude).square().mean((-2, -1)).sqrt()
    least, best = misfit.min(1)
    found, share = k[torch.arange(len(k)), best], (FAINT * least).clamp(max=MAX_FAINT)
    faint = share[:, None, None] * found.amax((-2, -1), keepdim=True)
    return _centred(torch.where(found >= faint, found, 0), size), least


def _centred(kernel: Tensor, size: int) -> Tensor:
    """Kernels (B, N, N) in the corner of a grid, on their support about the centroid."""
    n = kernel.shape[-1]
    out = []
    for each, shift in zip(kernel, centroid(kernel).round().long().tolist(), strict=True):
        middle = each.roll((-shift[0], -shift[1]), (0, 1))
        first = n // 2 - size // 2
        out.append(middle[first : first + size, first : first + size])
    return normalise(torch.stack(out))
