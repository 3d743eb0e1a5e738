"""The kernel error that a method expects, beside the one that it has: equal on average where it is calibrated."""

from blinddiff.evaluation.metrics.metric import Metric, Sample


def _measure(sample: Sample) -> float | None:
    known = sample.case.kernel is not None
    return sample.restoration.expected_kernel_error if known else None


KERNEL_EXPECTED = Metric("kernel_l1_expected", "kernel L1, expected", "", None, 3, _measure)
