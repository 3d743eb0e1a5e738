"""What a restoration costs: wall-clock time and calls of the network."""

from blinddiff.evaluation.metrics.metric import Metric, Sample


def _seconds(sample: Sample) -> float:
    return sample.restoration.seconds


def _calls(sample: Sample) -> float:
    return float(sample.restoration.calls)


SECONDS = Metric("seconds", "time", "s", False, 2, _seconds)
CALLS = Metric("calls", "network calls", "", False, 1, _calls)
