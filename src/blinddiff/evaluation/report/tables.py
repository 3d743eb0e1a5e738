"""The tables of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from blinddiff.evaluation.ablations import ABLATIONS
from blinddiff.evaluation.cases import Protocol
from blinddiff.evaluation.image_metrics import Metric
from blinddiff.evaluation.metrics import BY_NAME
from blinddiff.evaluation.published_results import marks_for, ranges_for
from blinddiff.evaluation.report.blocks import Table
from blinddiff.evaluation.report.markdown import markdown_table
from blinddiff.evaluation.statistics import Difference, Estimate, SetSummary, compared_pairs

IMAGE = (
    "psnr_y",
    "ssim_y",
    "psnr_rgb",
    "ssim_rgb",
    "psnr_full_swing",
    "niqe",
    "lpips",
    "dists",
    "lr_rms",
    "lr_rms_own",
    "colour_shift",
)
KERNEL = (
    "kernel_l1",
    "kernel_l1_centred",
    "kernel_l1_expected",
    "kernel_shift",
    "kernel_width_error",
    "kernel_angle_error",
    "kernel_psnr",
    "kernel_psnr_fkp",
    "kernel_psnr_fkp_uniform",
    "noise_error",
)
COST = ("seconds", "calls")
OVERVIEW = (
    "psnr_y",
    "ssim_y",
    "niqe",
    "lr_rms",
    "colour_shift",
    "kernel_l1",
    "kernel_width_error",
    "noise_error",
    "seconds",
)
ABLATED = ("psnr_y", "niqe", "kernel_l1")


def overview(summary: SetSummary) -> str:
    """The short table of one set that the command prints: means without intervals."""
    metrics = _present(summary, OVERVIEW)
    rows = [
        [method, *(_number(estimates.get(metric.name), metric) for metric in metrics)]
        for method, estimates in summary.means.items()
        if estimates
    ]
    return markdown_table(Table([summary.set, *map(heading, metrics)], rows))


def means(summary: SetSummary, names: Sequence[str]) -> Table | None:
    """Means of the named metrics with their intervals, one row a method; None if there are none."""
    metrics = _present(summary, names)
    rows = [
        [method, *(_interval(estimates.get(metric.name), metric) for metric in metrics)]
        for method, estimates in summary.means.items()
        if any(metric.name in estimates for metric in metrics)
    ]
    return Table(["", *map(heading, metrics)], rows) if rows else None


def beside_published(protocol: Protocol, summary: SetSummary, share: str) -> Table | None:
    """PSNR on Y of ours and of papers, best first; None if no paper says anything of this set.

    share: how much of the set was evaluated.
    """
    metric = BY_NAME["psnr_y"]
    marks = marks_for(protocol.name, protocol.scale, summary.set)
    ranges = ranges_for(protocol.name, protocol.scale, summary.set)
    if not marks and not ranges:
        return None
    measured = ("measured", f"this run, {share}")
    rows = [(m.value, [m.method + _convention(m.metric), f"{m.value:.2f}", "published", m.source]) for m in marks]
    rows += [
        (estimates[name].mean, [f"**{method}**{_convention(name)}", _interval(estimates[name], metric), *measured])
        for method, estimates in summary.means.items()
        # Another convention is for the method that papers report in it, and for no other.
        for name in dict.fromkeys(["psnr_y", *(mark.metric for mark in marks if mark.method == method)])
        if name in estimates
    ]
    for row in ranges:
        source = ["published", row.source]
        rows.append((row.first, [f"{row.method}, {row.label}", f"{row.first:.2f} to {row.last:.2f}", *source]))
    for label in dict.fromkeys(row.label for row in ranges):
        places = [i for i, parameter in enumerate(protocol.labels) if parameter.startswith(f"{label},")]
        for method, values in summary.by_parameter.items():
            if all(i in values for i in places):
                first, last = (values[i] for i in (places[0], places[-1]))
                rows.append((first, [f"**{method}**, {label}", f"{first:.2f} to {last:.2f}", *measured]))
    rows.sort(key=lambda row: -row[0])
    return Table(["", heading(metric), "", "source"], [cells for _, cells in rows])


def differences(summary: SetSummary) -> Table | None:
    """Paired differences, one row a pair of methods; ablations have a table of their own."""
    found = {(d.method, d.baseline, name): d for name, pairs in summary.differences.items() for d in pairs}
    metrics = [BY_NAME[name] for name, pairs in summary.differences.items() if pairs]
    rows = [
        [f"{a} - {b}", *(_difference(found.get((a, b, metric.name)), metric) for metric in metrics)]
        for a, b in compared_pairs(list(summary.means))
        if any((a, b, metric.name) in found for metric in metrics)
    ]
    return Table(["", *map(heading, metrics)], rows) if rows else None


def ablations(summary: SetSummary) -> Table | None:
    """What each part is worth, by the declared list; None if none of it was measured."""
    found = {(d.method, d.baseline, name): d for name, pairs in summary.differences.items() for d in pairs}
    metrics = [BY_NAME[name] for name in ABLATED]
    rows = []
    for a in ABLATIONS:
        cells = [_difference(found.get((a.method, a.against, metric.name)), metric) for metric in metrics]
        if any(cells):
            rows.append([a.tests, f"{a.change} (`{a.method}`)", a.against, *cells])
    return Table(["in question", "change", "against", *map(heading, metrics)], rows) if rows else None


def by_parameter(protocol: Protocol, summary: SetSummary) -> Table | None:
    """Mean PSNR on Y for each of the protocol's parameters; None if it has only one."""
    methods = [method for method, values in summary.by_parameter.items() if values]
    if len(protocol.labels) == 1 or not methods:
        return None
    rows = [
        [label, *(_optional(summary.by_parameter[method].get(index)) for method in methods)]
        for index, label in enumerate(protocol.labels)
    ]
    return Table(["", *methods], rows)


def cost_table(costs: Mapping[str, Any]) -> Table | None:
    """Memory, multiplications, parameters and seconds on the fixed input; None if they were not measured."""
    rows = []
    for name, cost in costs.get("methods", {}).items():
        peak, loaded = cost["peak_mib"], cost["loaded_mib"]
        memory = "" if peak is None else f"{peak:.0f}" + ("" if loaded is None else f" ({peak - loaded:+.0f})")
        parameters = "" if cost["parameters"] is None else f"{cost['parameters'] / 1e6:.2f}"
        rows.append([name, f"{cost['seconds']:.3f}", str(cost["calls"]), f"{cost['gmacs']:.2f}", parameters, memory])
    header = ["", "time (s)", "network calls", "GMACs", "parameters (10^6)", "peak memory (MiB)"]
    return Table(header, rows) if rows else None


def heading(metric: Metric) -> str:
    """A metric over a column."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _convention(name: str) -> str:
    """What to say of a metric in a table of PSNR on Y."""
    return "" if name == "psnr_y" else f" ({BY_NAME[name].label})"


def _difference(difference: Difference | None, metric: Metric) -> str:
    """A difference with its interval, and what may be claimed."""
    if difference is None:
        return ""
    e = difference.estimate
    verdict = difference.verdict(metric.higher_is_better)
    return f"{with_interval(e.mean, e.low, e.high, metric.digits)} {verdict}".rstrip()


def with_interval(mean: float, low: float, high: float, digits: int) -> str:
    """A difference as it stands in tables."""
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _present(summary: SetSummary, names: Sequence[str]) -> list[Metric]:
    return [BY_NAME[name] for name in names if any(name in estimates for estimates in summary.means.values())]


def _number(value: Estimate | None, metric: Metric) -> str:
    return "" if value is None else f"{value.mean:.{metric.digits}f}"


def _interval(value: Estimate | None, metric: Metric) -> str:
    if value is None:
        return ""
    d = metric.digits
    return f"{value.mean:.{d}f} [{value.low:.{d}f}, {value.high:.{d}f}]"


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
