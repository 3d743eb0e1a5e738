"""Means and paired differences with bootstrap intervals; the choice of compared methods and of example cases."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from blinddiff.evaluation.data import CaseId
from blinddiff.evaluation.image_metrics import COST_METRICS, IMAGE_METRICS, Metric
from blinddiff.evaluation.kernel_metrics import KERNEL_METRICS
from blinddiff.evaluation.records import ImageResult

METRICS: dict[str, Metric] = {metric.name: metric for metric in (*IMAGE_METRICS, *KERNEL_METRICS, *COST_METRICS)}

RESAMPLES = 5000
CONFIDENCE = 0.95
SEED = 0
FEWEST_IMAGES = 6
"""For a claim. By chance, five images agree in sign with a probability of 1/16 (2 / 2^5), six with 1/32."""


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % bootstrap interval (equal to the mean for a single image), the numbers of images and of values.

    Images are resampled, not values.
    """

    mean: float
    low: float
    high: float
    images: int
    values: int


def estimate(values: Mapping[tuple[str, int], float]) -> Estimate:
    """Mean of values by (image, parameter index), at least one, with a percentile bootstrap interval over *images*.

    An image is resampled with all its values: eight kernels on one image are not eight independent measurements.
    """
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
    """Indices of the images of each resample, (RESAMPLES, images); they depend only on the number of images."""
    return np.random.Generator(np.random.PCG64(SEED)).integers(0, images, size=(RESAMPLES, images))


@dataclass(frozen=True)
class Difference:
    """`method` minus `baseline` over the cases that both have."""

    method: str
    baseline: str
    estimate: Estimate

    def verdict(self, higher_is_better: bool | None) -> Literal["better", "worse", "undecided", "too few images", ""]:
        """What may be claimed: "better" and "worse" need an interval without 0 and `FEWEST_IMAGES` images."""
        if higher_is_better is None:
            return ""
        if self.estimate.images < FEWEST_IMAGES:
            return "too few images"
        if self.estimate.low <= 0 <= self.estimate.high:
            return "undecided"
        return "better" if (self.estimate.low > 0) == higher_is_better else "worse"


Values: TypeAlias = Mapping[str, Mapping[tuple[str, int], float]]
"""Method -> (image, parameter index) -> value of one metric."""


def paired_difference(method: str, baseline: str, values: Values) -> Difference | None:
    """`method` minus `baseline`, paired by case; None if they have no case in common."""
    a, b = values.get(method, {}), values.get(baseline, {})
    common = {case: a[case] - b[case] for case in a if case in b}
    return Difference(method, baseline, estimate(common)) if common else None


@dataclass(frozen=True)
class Spread:
    """Means of one metric over several seeds: their mean, standard deviation (of a sample), smallest and largest."""

    mean: float
    deviation: float
    low: float
    high: float


def spread_over_seeds(summaries: Sequence["SetSummary"]) -> dict[str, dict[str, Spread]]:
    """Method -> metric -> spread of the means in the summaries of one set, one for each of at least two seeds."""
    found: dict[str, dict[str, Spread]] = {}
    for method, metrics in summaries[0].means.items():
        for metric in metrics:
            if all(metric in s.means.get(method, {}) for s in summaries):
                values = np.array([s.means[method][metric].mean for s in summaries])
                spread = Spread(*map(float, (values.mean(), values.std(ddof=1), values.min(), values.max())))
                found.setdefault(method, {})[metric] = spread
    return found


COMPARED = ("psnr_y", "ssim_y", "niqe", "lpips", "dists", "lr_rms", "kernel_l1")
MOST_FOR_ALL_PAIRS = 6  # methods; more are only compared with the first one and these:
USUAL_BASELINES = ("closed-form", "fidelity")


@dataclass(frozen=True)
class SetSummary:
    """The results of one test set, an entry of `sets` in a record.

    Attributes:
        means: method -> metric -> mean over all its cases.
        psnr_y_by_parameter: method -> parameter index -> mean PSNR on Y.
        differences: metric -> differences of the pairs of `compared_pairs` and of the ablations.
    """

    set: str
    means: dict[str, dict[str, Estimate]]
    psnr_y_by_parameter: dict[str, dict[int, float]]
    differences: dict[str, list[Difference]]


def summarise(results: Iterable[ImageResult], sets: Sequence[str], methods: Sequence[str]) -> list[SetSummary]:
    """One summary per set, in the given order. Results with an error are left out."""
    valid = sorted((r for r in results if r.error is None and r.method in methods), key=lambda r: r.key)
    return [_summarise_set(name, [r for r in valid if r.set == name], methods) for name in sets]


def compared_pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """(method, baseline) for every two methods, the earlier one as the baseline.

    Of more than `MOST_FOR_ALL_PAIRS` methods, only the first and `USUAL_BASELINES` are baselines.
    """
    baselines = methods if len(methods) <= MOST_FOR_ALL_PAIRS else (methods[0], *USUAL_BASELINES)
    return [(method, other) for i, method in enumerate(methods) for other in methods[:i] if other in baselines]


def _summarise_set(set_name: str, results: Iterable[ImageResult], methods: Sequence[str]) -> SetSummary:
    values: dict[str, dict[str, dict[tuple[str, int], float]]] = {metric: defaultdict(dict) for metric in METRICS}
    for result in results:
        for metric, value in result.metrics.items():
            values[metric][result.method][result.name, result.index] = value
    means = {
        method: {metric: estimate(found[method]) for metric, found in values.items() if method in found}
        for method in methods
    }
    by_parameter: dict[str, dict[int, float]] = {}
    for method in methods:
        groups: dict[int, list[float]] = defaultdict(list)
        for (_, index), value in values["psnr_y"].get(method, {}).items():
            groups[index].append(value)
        by_parameter[method] = {index: sum(group) / len(group) for index, group in sorted(groups.items())}
    ablations = [(a.method, a.against) for a in ABLATIONS if {a.method, a.against} <= set(methods)]
    wanted = dict.fromkeys([*compared_pairs(methods), *ablations])
    differences = {
        metric: [pair for a, b in wanted if (pair := paired_difference(a, b, values[metric]))] for metric in COMPARED
    }
    return SetSummary(set_name, means, by_parameter, differences)


JOINT = "kernel and image refined by turns (MAP along the reverse process)"
MODEL = "the degradation model: a kernel of any sign, noise with a spectrum"
GUIDANCE = "agreement with y between steps (the kernel-aware term)"
MODULATION = "modulation by the kernel (MCFormer)"
CONSTRAINT = "training with a kernel constraint"
STEPS = "number of steps"


class Ablation(NamedTuple):
    """A comparison of a changed method with another method; `tests` is the component that it measures."""

    method: str
    against: str
    tests: str
    change: str


ABLATIONS: tuple[Ablation, ...] = (
    Ablation("kernel-once", "fidelity", JOINT, "kernel estimated once, from y alone"),
    Ablation("kernel-undamped", "fidelity", JOINT, "the network's whole step for the kernel, instead of a part"),
    Ablation("kernel-refined", "fidelity", JOINT, "least squares for the kernel, given the image"),
    Ablation("perceptual-kernel-once", "perceptual", JOINT, "kernel estimated once, from y alone"),
    Ablation("without-sign", "fidelity", MODEL, "no negative entries in the kernel"),
    Ablation("without-spectrum", "fidelity", MODEL, "white noise of the estimated level"),
    Ablation("without-both", "fidelity", MODEL, "neither"),
    Ablation("no-image-step", "fidelity", GUIDANCE, "no data term"),
    Ablation("gradient", "fidelity", GUIDANCE, "gradient through the network instead of the closed form"),
    Ablation("perceptual-no-image-step", "perceptual", GUIDANCE, "no data term"),
    Ablation("perceptual-gradient", "perceptual", GUIDANCE, "gradient through the network instead of the closed form"),
    *(
        Ablation(f"{mode}@{steps}", f"{mode}@1", STEPS, f"{steps} steps instead of 1")
        for mode, counts in (("fidelity", (2, 5)), ("perceptual", (2, 5, 10, 20, 50)))
        for steps in counts
    ),
    Ablation("small-no-modulation", "small-full", MODULATION, "trained without the kernel in the modulation"),
    Ablation("small-no-kernel-loss", "small-full", CONSTRAINT, "trained without the kernel constraint"),
)

TRAINED = {"small-full": "full", "small-no-modulation": "no_modulation", "small-no-kernel-loss": "no_kernel_loss"}
"""Methods with their own weights: name -> recipe in recipes/ablations. All have the same small training budget."""


def trained_ablations(folder: Path) -> dict[str, Path]:
    """The methods of `TRAINED` whose weights exist: name -> ``FOLDER/RECIPE`` or ``FOLDER/RECIPE/weights``."""
    found: dict[str, Path] = {}
    for name, recipe in TRAINED.items():
        for weights in (folder / recipe, folder / recipe / "weights"):
            if (weights / "config.json").is_file():
                found[name] = weights
    return found


def all_ablation_methods(trained: Sequence[str]) -> list[str]:
    """The methods of all ablations whose weights exist, baselines first. trained: the available part of `TRAINED`."""
    possible = [a for a in ABLATIONS if all(n not in TRAINED or n in trained for n in (a.method, a.against))]
    return list(dict.fromkeys([*(a.against for a in possible), *(a.method for a in possible)]))


EACH = 3  # number of worst and of best images in a report
MOST_METHODS = 6  # in a row of pictures
RANKS = (("best", 0.0), ("quarter", 0.25), ("median", 0.5), ("three quarters", 0.75), ("95 %", 0.95), ("worst", 1.0))


def subject_of(names: Sequence[str]) -> str:
    """The method whose cases are shown: fidelity or external, else the last method that is not an oracle."""
    usual = [name for subject in ("fidelity", "external") for name in names if name.partition("@")[0] == subject]
    blind = [name for name in names if "oracle" not in name]
    return usual[0] if usual else (blind or list(names))[-1]


def methods_shown(names: Sequence[str]) -> list[str]:
    """The methods in a row of pictures: the first ones, and the subject."""
    subject = subject_of(names)
    first = list(names[:MOST_METHODS])
    return first if subject in first else [*first[:-1], subject]


def chosen_cases(results: Iterable[ImageResult], subject: str, baseline: str) -> list[tuple[str, CaseId]]:
    """Titles and cases with the least and the most gain in PSNR-Y of `subject` over `baseline`, no image twice.

    Without ground truth or with a single method: a few `examples`.
    """
    results = [r for r in results if r.error is None]
    psnr = {
        name: {r.case_id: r.metrics["psnr_y"] for r in results if r.method == name and "psnr_y" in r.metrics}
        for name in (subject, baseline)
    }
    gains = {case: value - psnr[baseline][case] for case, value in psnr[subject].items() if case in psnr[baseline]}
    if subject != baseline and gains:
        return [
            (f"{title}: {gains[case]:+.2f} dB over {baseline}", case)
            for title, cases in zip(("worst", "best"), extremes(gains), strict=True)
            for case in cases
        ]
    return [("example", case) for case in examples({r.case_id for r in results if r.method == subject})]


def extremes(gains: Mapping[CaseId, float]) -> tuple[list[CaseId], list[CaseId]]:
    """The cases with the least and with the most gain, at most `EACH` of either; one per image, no image in both."""
    worst_first, best_first = _ranked_images(gains)
    worst = worst_first[: min(EACH, (len(worst_first) + 1) // 2)]
    taken = {case[:2] for case in worst}
    return worst, [case for case in best_first if case[:2] not in taken][:EACH]


def possible_extremes(gains: Mapping[CaseId, float]) -> set[CaseId]:
    """All cases that `extremes` may still choose when further cases are added.

    An image that has left the `EACH` worst cannot return, because further cases only lower the worst gains. At most
    `EACH` of the best images are also among the worst.
    """
    worst_first, best_first = _ranked_images(gains)
    return {*worst_first[:EACH], *best_first[: 2 * EACH]}


def _ranked_images(gains: Mapping[CaseId, float]) -> tuple[list[CaseId], list[CaseId]]:
    """Each image's worst case, worst first, and each image's best case, best first."""

    def rank(case: CaseId) -> tuple[float, CaseId]:
        return gains[case], case

    ranked = sorted(gains, key=rank)
    worst = {case[:2]: case for case in reversed(ranked)}  # of an image's cases, the last one stays
    best = {case[:2]: case for case in ranked}
    return sorted(worst.values(), key=rank), sorted(best.values(), key=rank, reverse=True)


def examples(cases: Iterable[CaseId]) -> list[CaseId]:
    """`EACH` cases or fewer, evenly spaced in the sorted list, including the first and the last."""
    ordered = sorted(cases)
    return [ordered[i] for i in sorted({round(i * (len(ordered) - 1) / (EACH - 1)) for i in range(EACH)}) if ordered]


def chosen_kernels(results: Sequence[ImageResult], subject: str) -> list[tuple[str, CaseId]]:
    """Titles and cases from the best to the worst kernel of `subject` by L1; the first cases without ground truth."""
    own = [r for r in results if r.method == subject and r.error is None]
    ranked = sorted((r for r in own if "kernel_l1" in r.metrics), key=lambda r: (r.metrics["kernel_l1"], r.case_id))
    if not ranked:
        return [("estimate", r.case_id) for r in sorted(own, key=lambda r: r.case_id)[: len(RANKS)]]
    chosen: dict[CaseId, str] = {}
    for title, share in RANKS:
        result = ranked[round(share * (len(ranked) - 1))]
        chosen[result.case_id] = f"{title}: L1 {result.metrics['kernel_l1']:.3f}"
    return [(title, case) for case, title in chosen.items()]
