"""Errors of a kernel's place, width and direction, from its first and second moments."""

import math

from torch import Tensor

from blinddiff.degradation.kernels.measures import centroid, widths_and_angle
from blinddiff.evaluation.metrics.kernel_pair import aligned_pair, pair_of
from blinddiff.evaluation.metrics.metric import Metric, Sample

ROUND = 1.1  # a kernel whose widths differ by less than this factor has no direction worth comparing


def centroid_shift(estimated: Tensor, true: Tensor) -> float:
    """Distance of the centres of mass in pixels, index centres together."""
    a, b = aligned_pair(estimated, true)
    return float((centroid(a) - centroid(b)).norm())


def width_error(estimated: Tensor, true: Tensor) -> float:
    """Mean over both principal axes of the difference in standard deviation, over the true kernel's mean width.

    Both kernels' axes are taken in order of size. (Over the mean, not over each axis: the short axis of a straight
    motion has hardly any width.) Infinite if the true kernel is a single pixel and the estimate is not.
    """
    a, b = aligned_pair(estimated, true)
    (major_a, minor_a, _), (major_b, minor_b, _) = widths_and_angle(a), widths_and_angle(b)
    difference = float((major_a - major_b).abs() + (minor_a - minor_b).abs())
    total = float(major_b + minor_b)
    if total == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / total


def angle_error(estimated: Tensor, true: Tensor) -> float | None:
    """Angle between the longer axes in degrees, 0 to 90; None if the true kernel is (nearly) round."""
    a, b = aligned_pair(estimated, true)
    (_, _, angle_a), (major, minor, angle_b) = widths_and_angle(a), widths_and_angle(b)
    if float(major) < ROUND * float(minor) or float(major) == 0:
        return None
    difference = float((angle_a - angle_b).abs())
    return min(difference, 180 - difference)


def _shift(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else centroid_shift(*pair)


def _width(sample: Sample) -> float | None:
    pair = pair_of(sample)
    error = math.inf if pair is None else width_error(*pair)
    return 100 * error if math.isfinite(error) else None


def _angle(sample: Sample) -> float | None:
    pair = pair_of(sample)
    return None if pair is None else angle_error(*pair)


KERNEL_SHIFT = Metric("kernel_shift", "centroid shift", "px", False, 2, _shift)
KERNEL_WIDTH = Metric("kernel_width_error", "width error", "%", False, 1, _width)
KERNEL_ANGLE = Metric("kernel_angle_error", "angle error", "degrees", False, 1, _angle)
