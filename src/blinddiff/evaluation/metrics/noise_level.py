"""How far the estimated noise level is from the true one."""

from blinddiff.evaluation.metrics.metric import Metric, Sample


def _measure(sample: Sample) -> float | None:
    true, estimated = sample.case.noise_level, sample.restoration.noise_level
    return None if true is None or estimated is None else abs(estimated - true)


NOISE_LEVEL = Metric("noise_error", "noise error", "grey levels", False, 2, _measure)
