"""L1 distance of kernels: 0 (equal) to 2 (nothing in common). Sigma off by 8 % is 0.12, half a pixel of shift 0.24."""

from torch import Tensor

from blinddiff.degradation.kernels.measures import centroid, shift_kernel
from blinddiff.evaluation.metrics.kernel_pair import aligned_pair, pair_of
from blinddiff.evaluation.metrics.metric import Metric, Sample


def kernel_l1(estimated: Tensor, true: Tensor) -> float:
    """Sum of absolute differences of two kernels, each divided by its sum, index centres together."""
    a, b = aligned_pair(estimated, true)
    return float((a - b).abs().sum())


def kernel_l1_centred(estimated: Tensor, true: Tensor) -> float:
    """As `kernel_l1`, after `estimated` was moved so that the centroids meet: the error of shape alone."""
    a, b = aligned_pair(estimated, true)
    offset_y, offset_x = centroid(b) - centroid(a)
    return float((shift_kernel(a, offset_y, offset_x) - b).abs().sum())


def _measure(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else kernel_l1(*pair)


def _measure_centred(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else kernel_l1_centred(*pair)


KERNEL_L1 = Metric("kernel_l1", "kernel L1", "", False, 3, _measure)
KERNEL_L1_CENTRED = Metric("kernel_l1_centred", "kernel L1, centred", "", False, 3, _measure_centred)
