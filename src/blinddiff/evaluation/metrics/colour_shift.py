"""Does a restoration keep the colours? The mean of each channel against that of y, which blur and noise leave alone."""

from torch import Tensor

from blinddiff.evaluation.metrics.metric import Metric, Sample


def colour_shift(image: Tensor, y: Tensor) -> float:
    """Largest difference of a channel's mean from y's, in grey levels: image (3, H, W) and y (3, h, w) in [0, 1]."""
    return 255 * float((image.double().mean((1, 2)) - y.double().mean((1, 2))).abs().max())


def _measure(sample: Sample) -> float:
    return colour_shift(sample.image, sample.case.y)


COLOUR_SHIFT = Metric("colour_shift", "colour shift", "grey levels", False, 2, _measure)
