"""`report.md`: tables of means with intervals, published marks beside them, and comparisons."""

from collections.abc import Sequence

from blinddiff.evaluation.data import SETS
from blinddiff.evaluation.metrics import BY_NAME
from blinddiff.evaluation.metrics.metric import Metric
from blinddiff.evaluation.protocols.protocol import Protocol
from blinddiff.evaluation.published import marks_for, ranges_for
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.statistics import FEWEST_IMAGES, Estimate
from blinddiff.evaluation.summary import SetSummary

IMAGE = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "psnr_full_swing", "lr_rms", "lr_rms_own")
KERNEL = (
    "kernel_l1",
    "kernel_l1_centred",
    "kernel_shift",
    "kernel_width_error",
    "kernel_angle_error",
    "kernel_psnr",
    "kernel_psnr_fkp",
    "kernel_psnr_fkp_uniform",
    "noise_error",
)
COST = ("seconds", "calls")
OVERVIEW = ("psnr_y", "ssim_y", "lr_rms", "kernel_l1", "kernel_width_error", "noise_error", "seconds")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, readable as plain text too."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def overview(summary: SetSummary) -> str:
    """The short table of one set that the command prints: means without intervals."""
    metrics = _present(summary, OVERVIEW)
    rows = [
        [method, *(_number(estimates.get(metric.name), metric) for metric in metrics)]
        for method, estimates in summary.means.items()
        if estimates
    ]
    return table([summary.set, *map(_heading, metrics)], rows)


def report(
    protocol: Protocol,
    summaries: Sequence[SetSummary],
    failures: Sequence[ImageResult],
    image_counts: dict[str, int],
    command: str,
    seed: int,
) -> str:
    """The whole page as Markdown."""
    parts = [
        f"# {protocol.name}, x{protocol.scale}",
        f"{_sentence(protocol.degradation)} Source: {protocol.source}.",
        f"Made by `{command}`, seed {seed}. Results are measured as 8-bit images; Y is BT.601 studio swing; "
        f"{protocol.scale} pixels are cropped from each side. In brackets: 95 % bootstrap intervals over images (an "
        "image is drawn with all its kernels). Differences are case by case; *better* or *worse* needs an interval "
        f"without 0 and {FEWEST_IMAGES} images.",
    ]
    for summary in summaries:
        parts += _set_section(protocol, summary, image_counts[summary.set])
    if failures:
        lines = [f"- {f.method}, {f.set}/{f.name}/{f.index}: {f.error}" for f in failures]
        parts += [f"## Not evaluated ({len(failures)})", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _set_section(protocol: Protocol, summary: SetSummary, images: int) -> list[str]:
    parts = [f"## {summary.set} ({images} images)"]
    known = SETS.get(summary.set)
    if known and images < known.full:
        parts.append(f"**{images} of {known.full} images**: not comparable with published means over the whole set.")
    for title, names in (("Images", IMAGE), ("Kernel and noise level", KERNEL), ("Cost", COST)):
        metrics = _present(summary, names)
        rows = [
            [method, *(_interval(estimates.get(metric.name), metric) for metric in metrics)]
            for method, estimates in summary.means.items()
            if any(metric.name in estimates for metric in metrics)
        ]
        if rows:
            parts += [f"### {title}", table(["", *map(_heading, metrics)], rows)]
    parts += _published(protocol, summary)
    parts += _differences(summary)
    if len(protocol.labels) > 1:
        methods = [method for method, values in summary.by_parameter.items() if values]
        rows = [
            [label, *(_optional(summary.by_parameter[method].get(index)) for method in methods)]
            for index, label in enumerate(protocol.labels)
        ]
        if methods:
            parts += ["### PSNR-Y by parameter (dB)", table(["", *methods], rows)]
    return parts


def _published(protocol: Protocol, summary: SetSummary) -> list[str]:
    marks = marks_for(protocol.name, protocol.scale, summary.set)
    rows = [[mark.method, f"{mark.value:.2f}", mark.source] for mark in marks]
    rows += [
        [f"{row.method}, {row.label}", f"{row.first:.2f} to {row.last:.2f}", row.source]
        for row in ranges_for(protocol.name, protocol.scale, summary.set)
    ]
    return ["### Published (not run here)", table(["", "PSNR-Y (dB)", "source"], rows)] if rows else []


def _differences(summary: SetSummary) -> list[str]:
    rows = []
    for name, differences in summary.differences.items():
        metric = BY_NAME[name]
        for d in differences:
            verdict = d.verdict(bool(metric.higher_is_better))
            rows.append([f"{d.method} - {d.baseline}", _heading(metric), _signed(d.estimate, metric), verdict])
    return ["### Paired differences", table(["", "metric", "difference", "verdict"], rows)] if rows else []


def _present(summary: SetSummary, names: Sequence[str]) -> list[Metric]:
    return [BY_NAME[name] for name in names if any(name in estimates for estimates in summary.means.values())]


def _heading(metric: Metric) -> str:
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _number(value: Estimate | None, metric: Metric) -> str:
    return "" if value is None else f"{value.mean:.{metric.digits}f}"


def _interval(value: Estimate | None, metric: Metric) -> str:
    if value is None:
        return ""
    d = metric.digits
    return f"{value.mean:.{d}f} [{value.low:.{d}f}, {value.high:.{d}f}]"


def _signed(value: Estimate, metric: Metric) -> str:
    d = metric.digits
    return f"{value.mean:+.{d}f} [{value.low:+.{d}f}, {value.high:+.{d}f}]"


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
