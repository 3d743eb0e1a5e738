"""LR-consistency: does the restored image, degraded again, give back what was seen?"""

from torch import Tensor

from blinddiff.degradation.operator import DegradationOperator
from blinddiff.evaluation.metrics.metric import Metric, Sample


def lr_consistency(image: Tensor, y: Tensor, operator: DegradationOperator) -> float:
    """Root mean square of y - A x in grey levels: image (3, s*h, s*w) and y (3, h, w) in [0, 1].

    A perfect x leaves the noise of y: about its standard deviation, 0.3 grey levels more for 8-bit rounding. So
    less is not better: below that, the image repeats the noise.
    """
    residual = y.to(image) - operator.forward(image[None])[0]
    return 255 * float(residual.square().mean().sqrt())


def _measure_true(sample: Sample) -> float | None:
    if sample.case.kernel is None:
        return None
    return lr_consistency(sample.image, sample.case.y, sample.case.operator())


def _measure_own(sample: Sample) -> float | None:
    kernel = sample.restoration.kernel
    if kernel is None:
        return None
    # A method's own kernel is read in the package's own model of the camera, antialiased bicubic.
    operator = DegradationOperator(kernel.cpu(), sample.case.scale)
    return lr_consistency(sample.image, sample.case.y, operator)


LR_CONSISTENCY = Metric("lr_rms", "LR residual, true k", "grey levels", None, 2, _measure_true)
LR_SELF_CONSISTENCY = Metric("lr_rms_own", "LR residual, own k", "grey levels", None, 2, _measure_own)
