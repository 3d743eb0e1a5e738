"""Means with bootstrap confidence intervals, and paired differences with theirs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 5000
CONFIDENCE = 0.95
SEED = 0
FEWEST_IMAGES = 6
"""With five images that all agree in sign, chance still has one in sixteen (2 / 2^5); with six, one in thirty-two."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
        mean: over all values.
        low, high: ends of the 95 % bootstrap interval; equal to `mean` for a single image.
        images: how many images (the unit that is resampled) stand behind it.
        values: how many single values.
    """

    mean: float
    low: float
    high: float
    images: int
    values: int


def estimate(values: Mapping[tuple[str, int], float]) -> Estimate:
    """Mean of values by (image, parameter index), with a percentile bootstrap interval over *images*.

    An image is drawn with all its values: eight kernels on one photograph are not eight independent measurements.
    """
    if not values:
        raise ValueError("no values")
    by_image: dict[str, list[float]] = defaultdict(list)
    for (image, _), value in sorted(values.items()):
        by_image[image].append(value)
    sums = np.array([sum(group) for group in by_image.values()])
    counts = np.array([len(group) for group in by_image.values()])
    draws = _draws(len(sums))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(sums.sum() / counts.sum()), float(low), float(high), len(sums), int(counts.sum()))


@cache
def _draws(images: int) -> npt.NDArray[np.int64]:
    """The images of each resample, (RESAMPLES, images): always the same for a number of images."""
    return np.random.Generator(np.random.PCG64(SEED)).integers(0, images, size=(RESAMPLES, images))


@dataclass(frozen=True)
class Difference:
    """`method` minus `baseline` on the cases that both have."""

    method: str
    baseline: str
    estimate: Estimate

    def verdict(self, higher_is_better: bool | None) -> Literal["better", "worse", "undecided", "too few images", ""]:
        """A claim needs an interval that excludes 0, and at least `FEWEST_IMAGES` images. None: no claim."""
        if higher_is_better is None:
            return ""
        if self.estimate.images < FEWEST_IMAGES:
            return "too few images"
        if self.estimate.low <= 0 <= self.estimate.high:
            return "undecided"
        return "better" if (self.estimate.low > 0) == higher_is_better else "worse"


def paired_difference(
    method: str,
    baseline: str,
    values: Mapping[str, Mapping[tuple[str, int], float]],
) -> Difference | None:
    """`method` minus `baseline`, case by case; None if they share none. values: method -> (image, index) -> value."""
    a, b = values.get(method, {}), values.get(baseline, {})
    common = {case: a[case] - b[case] for case in a if case in b}
    return Difference(method, baseline, estimate(common)) if common else None


def all_pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """(method, baseline) for every two methods, the one named first as the baseline."""
    return [(method, baseline) for i, method in enumerate(methods) for baseline in methods[:i]]
