"""PSNR of kernels: with the true kernel's peak, and as FKP counts it with the value of a uniform kernel beside it.

The mean square is over as many entries as the true kernel has, however large the estimate's grid: zeros around it make
a kernel no better.
"""

import math

from torch import Tensor

from blinddiff.evaluation.metrics.kernel_pair import aligned_pair, pair_of, uniform_like
from blinddiff.evaluation.metrics.metric import Metric, Sample
from blinddiff.evaluation.metrics.psnr import CEILING


def kernel_psnr(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB with the largest entry of the true kernel as the peak, index centres together."""
    return _psnr(estimated, true, peak=float(true.max() / true.sum()))


def kernel_psnr_fkp(estimated: Tensor, true: Tensor) -> float:
    """PSNR in dB with a peak of 1, as in J. Liang et al., "Flow-based kernel prior", CVPR 2021.

    A uniform kernel gets about 46 dB against a Gaussian of 21x21: read it beside `kernel_psnr_fkp_uniform`.
    """
    return _psnr(estimated, true, peak=1.0)


def kernel_psnr_fkp_uniform(true: Tensor) -> float:
    """What `kernel_psnr_fkp` gives a uniform kernel of the true kernel's size: the score of knowing nothing."""
    return kernel_psnr_fkp(uniform_like(true), true)


def _psnr(estimated: Tensor, true: Tensor, peak: float) -> float:
    a, b = aligned_pair(estimated, true)
    mse = float((a - b).square().sum()) / true.numel()
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def _capped(value: float) -> float:
    return min(value, CEILING)


def _peak(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr(*pair))


def _fkp(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr_fkp(*pair))


def _fkp_uniform(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else _capped(kernel_psnr_fkp_uniform(pair[1]))


KERNEL_PSNR = Metric("kernel_psnr", "kernel PSNR, true peak", "dB", True, 2, _peak)
KERNEL_PSNR_FKP = Metric("kernel_psnr_fkp", "kernel PSNR, FKP", "dB", True, 2, _fkp)
KERNEL_PSNR_FKP_UNIFORM = Metric("kernel_psnr_fkp_uniform", "uniform kernel, FKP", "dB", None, 2, _fkp_uniform)
