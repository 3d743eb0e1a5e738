"""Means with bootstrap confidence intervals, and paired differences with theirs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blinddiff.evaluation.ablations import ablation_methods
from blinddiff.evaluation.metrics import BY_NAME
from blinddiff.evaluation.records import ImageResult

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


COMPARED = ("psnr_y", "ssim_y", "niqe", "lpips", "dists", "lr_rms", "kernel_l1")


MOST_FOR_ALL_PAIRS = 6  # methods; with more, the list of all pairs is longer than anybody reads
USUAL_BASELINES = ("closed-form", "fidelity")


@dataclass(frozen=True)
class SetSummary:
    """All that is said about one test set.

    Attributes:
        means: method -> metric -> mean over all its cases.
        by_parameter: method -> parameter index -> mean PSNR on Y.
        differences: metric -> the pairs of `compared_pairs`, and what ablations compare.
    """

    set: str
    means: dict[str, dict[str, Estimate]]
    by_parameter: dict[str, dict[int, float]]
    differences: dict[str, list[Difference]]


def summarise(results: Iterable[ImageResult], sets: Sequence[str], methods: Sequence[str]) -> list[SetSummary]:
    """One summary a set, in the order given; results with an error are left out."""
    values: dict[str, dict[str, dict[str, dict[tuple[str, int], float]]]] = {
        set_name: {metric: defaultdict(dict) for metric in BY_NAME} for set_name in sets
    }
    for result in sorted(results, key=lambda r: r.key):
        if result.error is None and result.set in values and result.method in methods:
            for metric, value in result.metrics.items():
                values[result.set][metric][result.method][result.name, result.index] = value
    return [_summarise_set(set_name, values[set_name], methods) for set_name in sets]


def summary_json(summary: SetSummary) -> dict[str, Any]:
    """As it stands in a record, under `sets`."""
    return {
        "set": summary.set,
        "means": {m: {name: asdict(e) for name, e in means.items()} for m, means in summary.means.items()},
        "psnr_y_by_parameter": summary.by_parameter,
        "differences": {name: [asdict(d) for d in pairs] for name, pairs in summary.differences.items()},
    }


def compared_pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """(method, baseline): each against all that were named before it; of many, against the usual baselines alone."""
    pairs = all_pairs(methods)
    if len(methods) <= MOST_FOR_ALL_PAIRS:
        return pairs
    return [(a, b) for a, b in pairs if b in (methods[0], *USUAL_BASELINES)]


def _summarise_set(
    set_name: str, values: dict[str, dict[str, dict[tuple[str, int], float]]], methods: Sequence[str]
) -> SetSummary:
    means: dict[str, dict[str, Estimate]] = {
        method: {metric: estimate(values[metric][method]) for metric in BY_NAME if values[metric].get(method)}
        for method in methods
    }
    by_parameter: dict[str, dict[int, float]] = {}
    for method in methods:
        groups: dict[int, list[float]] = defaultdict(list)
        for (_, index), value in values["psnr_y"].get(method, {}).items():
            groups[index].append(value)
        by_parameter[method] = {index: sum(group) / len(group) for index, group in sorted(groups.items())}
    differences = {}
    for metric in COMPARED:
        wanted = dict.fromkeys([*compared_pairs(methods), *ablation_methods(methods)])
        pairs = (paired_difference(a, b, values[metric]) for a, b in wanted)
        differences[metric] = [pair for pair in pairs if pair is not None]
    return SetSummary(set_name, means, by_parameter, differences)
