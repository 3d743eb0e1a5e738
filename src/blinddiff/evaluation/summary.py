"""From single results to means, intervals and comparisons."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blinddiff.evaluation.ablations import ablation_methods
from blinddiff.evaluation.metrics import BY_NAME
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.statistics import Difference, Estimate, all_pairs, estimate, paired_difference

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
