"""`report.md` and `report.html`: one list of blocks, as Markdown and by the template `report.html.jinja` as HTML."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from jinja2 import Environment, Template
from markupsafe import Markup, escape

from blinddiff.evaluation import plots
from blinddiff.evaluation.data import SETS
from blinddiff.evaluation.image_metrics import COST_METRICS, IMAGE_METRICS, Metric
from blinddiff.evaluation.kernel_metrics import KERNEL_METRICS
from blinddiff.evaluation.protocols import Protocol
from blinddiff.evaluation.published_results import published_results
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.statistics import (
    ABLATIONS,
    FEWEST_IMAGES,
    METRICS,
    Difference,
    Estimate,
    SetSummary,
    compared_pairs,
)


@dataclass(frozen=True)
class Heading:
    """level: 1 for the page's title."""

    level: int
    text: str

    @property
    def anchor(self) -> str:
        """The heading's id in HTML."""
        return re.sub(r"[^a-z0-9]+", "-", self.text.lower()).strip("-")


@dataclass(frozen=True)
class Paragraph:
    """Running text, which may hold `code`, **bold** and *emphasis* as in Markdown; so may headings, items and cells."""

    text: str
    markdown_only: bool = False  # for notes on the figures, which only HTML has


@dataclass(frozen=True)
class Items:
    """A list."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column is left-aligned, the others are numbers on the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def text_columns(self) -> list[bool]:
        """Whether each column holds no numbers."""
        return [not any(re.match(r"[+-]?\d", row[i]) for row in self.rows) for i in range(len(self.header))]

    def markdown(self) -> str:
        """With aligned columns."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]

        def line(cells: Sequence[str]) -> str:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

        rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
        return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


@dataclass(frozen=True)
class Pictures:
    """Pictures in a row, with a title and a caption; only in HTML."""

    title: str
    pictures: Sequence[plots.Picture]
    caption: str
    wide: bool = False


Block: TypeAlias = Heading | Paragraph | Items | Table | plots.Plot | Pictures


def as_markdown(blocks: Iterable[Block]) -> str:
    """The whole page without figures."""
    parts = []
    for block in blocks:
        match block:
            case Heading(level, text):
                parts.append(f"{'#' * level} {text}")
            case Paragraph(text):
                parts.append(text)
            case Items(lines):
                parts.append("\n".join(f"- {line}" for line in lines))
            case Table():
                parts.append(block.markdown())
    return "\n\n".join(parts) + "\n"


def as_html(blocks: Iterable[Block]) -> str:
    """The whole page in one file: styles, plots and pictures are in it."""
    shown = [(type(b).__name__, b) for b in blocks if not (isinstance(b, Paragraph) and b.markdown_only)]
    headings = [block for _, block in shown if isinstance(block, Heading)]
    sections = [heading for heading in headings if heading.level == 2]
    return _template().render(title=headings[0].text, sections=sections, blocks=shown)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["inline"] = _inline
    environment.filters["cell"] = lambda text: Markup(
        re.sub(r" (\[[^\]]+\])", r"<small>\1</small>", str(_inline(text)))
    )
    return environment.from_string(resources.files(__package__).joinpath("report.html.jinja").read_text("utf-8"))


def _inline(text: str) -> Markup:
    """Text of a block as HTML."""
    html = str(escape(text))
    for mark, tag in ((r"`([^`]+)`", "code"), (r"\*\*([^*]+)\*\*", "strong"), (r"\*([^*]+)\*", "em")):
        html = re.sub(mark, rf"<{tag}>\1</{tag}>", html)
    return Markup(html)


def heading(metric: Metric) -> str:
    """Column heading of a metric."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def with_interval(mean: float, low: float, high: float, digits: int) -> str:
    """A difference in a table."""
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _mean(value: Estimate | None, metric: Metric, interval: bool = True) -> str:
    if value is None:
        return ""
    d = metric.digits
    return f"{value.mean:.{d}f}" + (f" [{value.low:.{d}f}, {value.high:.{d}f}]" if interval else "")


def _difference(difference: Difference | None, metric: Metric) -> str:
    """A difference with its interval and verdict."""
    if difference is None:
        return ""
    e = difference.estimate
    verdict = difference.verdict(metric.higher_is_better)
    return f"{with_interval(e.mean, e.low, e.high, metric.digits)} {verdict}".rstrip()


def means(summary: SetSummary, metrics: Iterable[Metric], interval: bool = True, corner: str = "") -> Table | None:
    """Means of those metrics that were measured, one row per method; None if there are none."""
    metrics = [metric for metric in metrics if any(metric.name in found for found in summary.means.values())]
    rows = [
        [method, *(_mean(found.get(metric.name), metric, interval) for metric in metrics)]
        for method, found in summary.means.items()
        if any(metric.name in found for metric in metrics)
    ]
    return Table([corner, *map(heading, metrics)], rows) if rows else None


def overview(summary: SetSummary) -> str:
    """The short table of one set that the command prints: means without intervals."""
    images, kernels = ("psnr_y", "ssim_y", "niqe", "lr_rms", "colour_shift"), ("kernel_l1", "kernel_width_error")
    metrics = [METRICS[name] for name in (*images, *kernels, "noise_error", "seconds")]
    table = means(summary, metrics, interval=False, corner=summary.set)
    return (table or Table([summary.set], [])).markdown()


def beside_published(protocol: Protocol, summary: SetSummary, share: str) -> Table | None:
    """PSNR on Y of this run and of papers, best first; None if no paper reports this set.

    share: how much of the set was evaluated.
    """
    metric = METRICS["psnr_y"]
    published = published_results(protocol.name, protocol.scale, summary.set)
    if not published:
        return None

    def convention(name: str) -> str:
        return "" if name == metric.name else f" ({METRICS[name].label})"

    def span(first: float, last: float | None) -> str:
        return f"{first:.2f}" if last is None else f"{first:.2f} to {last:.2f}"

    measured = ("measured", f"this run, {share}")
    rows = []
    for r in published:
        name = f"{r.method}, {r.label}" if r.label else r.method + convention(r.metric)
        rows.append((r.value, [name, span(r.value, r.last), "published", r.source]))
    rows += [
        (found[name].mean, [f"**{method}**{convention(name)}", _mean(found[name], metric), *measured])
        for method, found in summary.means.items()
        # another convention only for the method that papers report in it
        for name in dict.fromkeys([metric.name, *(r.metric for r in published if r.method == method)])
        if name in found
    ]
    for label in dict.fromkeys(r.label for r in published if r.label):
        indices = [i for i, parameter in enumerate(protocol.labels) if parameter.startswith(f"{label},")]
        for method, values in summary.by_parameter.items():
            if all(i in values for i in indices):
                first, last = values[indices[0]], values[indices[-1]]
                rows.append((first, [f"**{method}**, {label}", span(first, last), *measured]))
    rows.sort(key=lambda row: -row[0])
    return Table(["", heading(metric), "", "source"], [cells for _, cells in rows])


def differences(summary: SetSummary) -> Table | None:
    """Paired differences, one row per pair of methods; ablations have a table of their own."""
    found = {(d.method, d.baseline, name): d for name, pairs in summary.differences.items() for d in pairs}
    metrics = [METRICS[name] for name, pairs in summary.differences.items() if pairs]
    rows = [
        [f"{a} - {b}", *(_difference(found.get((a, b, metric.name)), metric) for metric in metrics)]
        for a, b in compared_pairs(list(summary.means))
        if any((a, b, metric.name) in found for metric in metrics)
    ]
    return Table(["", *map(heading, metrics)], rows) if rows else None


def ablations(summary: SetSummary) -> Table | None:
    """The ablations that were measured; None if there are none."""
    found = {(d.method, d.baseline, name): d for name, pairs in summary.differences.items() for d in pairs}
    metrics = [METRICS[name] for name in ("psnr_y", "niqe", "kernel_l1")]
    rows = []
    for a in ABLATIONS:
        cells = [_difference(found.get((a.method, a.against, metric.name)), metric) for metric in metrics]
        if any(cells):
            rows.append([a.tests, f"{a.change} (`{a.method}`)", a.against, *cells])
    return Table(["in question", "change", "against", *map(heading, metrics)], rows) if rows else None


def by_parameter(protocol: Protocol, summary: SetSummary) -> Table | None:
    """Mean PSNR on Y for each of the protocol's parameters; None if it has only one."""
    values = {method: found for method, found in summary.by_parameter.items() if found}
    if len(protocol.labels) == 1 or not values:
        return None
    rows = [
        [label, *(f"{found[i]:.2f}" if i in found else "" for found in values.values())]
        for i, label in enumerate(protocol.labels)
    ]
    return Table(["", *values], rows)


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


@dataclass(frozen=True)
class Report:
    """What a report is made from.

    Attributes:
        summaries: one per test set.
        results: all results, those with an error too.
        showcase: pictures of chosen cases.
        record: the content of `record.json`.
    """

    protocol: Protocol
    summaries: Sequence[SetSummary]
    results: Sequence[ImageResult]
    showcase: plots.Showcase
    record: Mapping[str, Any]

    def markdown(self) -> str:
        """`report.md`."""
        return as_markdown(self.blocks())

    def html(self) -> str:
        """`report.html`."""
        return as_html(self.blocks())

    def blocks(self) -> Iterator[Block]:
        """The whole report."""
        protocol, record = self.protocol, self.record
        yield Heading(1, f"{protocol.name}, x{protocol.scale}")
        yield Paragraph(f"{protocol.degradation[0].upper()}{protocol.degradation[1:]}. Source: {protocol.source}.")
        yield Paragraph(
            f"Made by `{record['command']}`, seed {record['fingerprint']['seed']}. Results are measured as 8-bit "
            f"images; Y is BT.601 studio swing; {protocol.scale} pixels are cropped from each side. In brackets: 95 % "
            "bootstrap intervals over images (an image is drawn with all its kernels). Differences are case by case; "
            f"*better* or *worse* needs an interval without 0 and {FEWEST_IMAGES} images."
        )
        for summary in self.summaries:
            yield from self._set_section(summary)
        yield from self._kernel_section()
        yield from self._case_section()
        yield from self._cost_section()
        failures = [f"{r.method}, {r.case_id}: {r.error}" for r in self.results if r.error is not None]
        if failures:
            yield Heading(2, f"Not evaluated ({len(failures)})")
            yield Items(failures)
        yield Heading(2, "Origin")
        yield Items(list(self._origin()))

    def _set_section(self, summary: SetSummary) -> Iterator[Block]:
        images = len({r.name for r in self.results if r.set == summary.set and r.error is None})
        yield Heading(2, f"{summary.set} ({images} images)")
        known = SETS.get(summary.set)
        share = f"{images} images"
        if known and images < known.full:
            share = f"{images} of {known.full} images"
            yield Paragraph(f"**{share}**: not comparable with published means over the whole set.")

        def titled(title: str, table: Table | None) -> list[Block]:
            return [] if table is None else [Heading(3, f"{summary.set}: {title}"), table]

        yield from titled("Images", means(summary, IMAGE_METRICS))
        yield from titled("Kernel and noise level", means(summary, KERNEL_METRICS))
        yield from titled("Time", means(summary, COST_METRICS))
        yield from plots.perception_distortion(summary)
        yield from plots.quality_time(summary)
        yield from titled("Measured and published", beside_published(self.protocol, summary, share))
        yield from plots.measured_and_published(self.protocol, summary)
        yield from titled("Ablations", ablations(summary))
        yield from titled("Paired differences", differences(summary))
        yield from titled("PSNR-Y by parameter (dB)", by_parameter(self.protocol, summary))

    def _kernel_section(self) -> Iterator[Block]:
        histograms, kernels = plots.width_histogram(self.results, self.record["methods"]), self.showcase.kernels
        if histograms or kernels:
            yield Heading(2, "Kernels")
            yield Paragraph("`report.html` beside this file shows histograms of width error, and kernels.", True)
            yield from histograms
        if kernels:
            content = (
                "true (left) and estimated (right)" if self.protocol.truth else "estimated (the truth is not known)"
            )
            caption = f"Kernels of `{self.showcase.subject}`, {content}, from the best estimate to the worst by L1."
            yield Pictures("", kernels, caption, wide=True)

    def _case_section(self) -> Iterator[Block]:
        showcase = self.showcase
        if showcase.strips:
            yield Heading(2, "Cases")
            yield Paragraph(
                f"Chosen by the results of `{showcase.subject}` against `{showcase.baseline}`, shown where the true "
                "image (the input, without one) has most structure."
            )
            titles = "; ".join(strip.title for strip in showcase.strips)
            yield Paragraph(f"`report.html` beside this file has the pictures of: {titles}.", True)
            for strip in showcase.strips:
                yield Pictures(strip.title, strip.pictures, "PSNR-Y is that of the whole image.")

    def _cost_section(self) -> Iterator[Block]:
        costs = self.record["costs"]
        table = cost_table(costs)
        if table is not None:
            yield Heading(2, "Cost")
            yield Paragraph(
                f"One restoration with a result of {costs['result']} pixels, each method in a process of its own, "
                f"{costs['threads']} thread(s) of {costs['processor']}. Peak memory is the largest resident memory of "
                "that process, Python and libraries included, with what the restoration added in brackets. GMACs are "
                "10^9 multiply-accumulates of matrix products, convolutions and attention; Fourier transforms are not "
                "counted."
            )
            yield table
            if costs["not_measured"]:
                failures = "; ".join(f"{name} ({reason})" for name, reason in costs["not_measured"].items())
                yield Paragraph(f"Not measured: {failures}.")

    def _origin(self) -> Iterator[str]:
        record = self.record
        yield f"finished {record['finished']}, {record['seconds']:.0f} s, {record['workers']} worker(s)"
        yield ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        for name, data in record["data"].items():
            yield f"{name}: {data['images']} images, SHA-256 of their files `{data['sha256'][:16]}`"
        for checksum in dict.fromkeys(filter(None, record["weights"].values())):
            methods = ", ".join(name for name, found in record["weights"].items() if found == checksum)
            yield f"weights of {methods}: SHA-256 `{checksum[:16]}`"
        if record["external"] is not None:
            folder, checksum = record["external"]["folder"], record["external"]["sha256"]
            yield f"external: `{folder}`, SHA-256 of its files `{checksum[:16]}`"
