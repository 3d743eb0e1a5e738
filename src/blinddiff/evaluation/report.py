"""Writes report.md and report.html from one list of blocks; the HTML uses the template report.html.jinja."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

from jinja2 import Environment, Template
from markupsafe import Markup, escape

from blinddiff.evaluation import plots
from blinddiff.evaluation.data import SETS
from blinddiff.evaluation.image_metrics import COST_METRICS, IMAGE_METRICS, Metric
from blinddiff.evaluation.kernel_metrics import KERNEL_METRICS
from blinddiff.evaluation.protocols import Protocol
from blinddiff.evaluation.published_results import published_results
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.statistics import ABLATIONS, FEWEST_IMAGES, METRICS, Estimate, SetSummary, compared_pairs


class Heading(NamedTuple):
    """A heading; level 1 is the page title."""

    level: int
    text: str

    @property
    def anchor(self) -> str:
        """The heading's id in HTML."""
        return re.sub(r"[^a-z0-9]+", "-", self.text.lower()).strip("-")


class Paragraph(NamedTuple):
    """Text with `code`, **bold** and *emphasis* as in Markdown. Headings, items and cells may use the same markup."""

    text: str
    markdown_only: bool = False  # for text that refers to pictures, which only the HTML report contains


class Items(NamedTuple):
    """A list."""

    lines: Sequence[str]


class Table(NamedTuple):
    """Cells of text; the first column is left-aligned, the others are right-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def text_columns(self) -> list[bool]:
        """Whether each column is without numbers."""
        return [not any(re.match(r"[+-]?\d", row[i]) for row in self.rows) for i in range(len(self.header))]

    def markdown(self) -> str:
        """The table as Markdown, with aligned columns."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.header))]

        def line(cells: Sequence[str]) -> str:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
            return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

        rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
        return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


Block: TypeAlias = Heading | Paragraph | Items | Table | plots.Plot | plots.Pictures


def as_markdown(blocks: Iterable[Block]) -> str:
    """The whole page without plots and pictures."""
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
    """The whole page as one HTML file with embedded styles, plots and pictures."""
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
    """The text of a block as HTML."""
    html = str(escape(text))
    for mark, tag in ((r"`([^`]+)`", "code"), (r"\*\*([^*]+)\*\*", "strong"), (r"\*([^*]+)\*", "em")):
        html = re.sub(mark, rf"<{tag}>\1</{tag}>", html)
    return Markup(html)


def heading(metric: Metric) -> str:
    """Column heading of a metric."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def with_interval(mean: float, low: float, high: float, digits: int, sign: str = "+") -> str:
    """Format a mean and its interval for a table; by default as a difference, with the sign also of positive values."""
    return f"{mean:{sign}.{digits}f} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _mean(value: Estimate | None, metric: Metric, interval: bool = True) -> str:
    if value is None:
        return ""
    if not interval:
        return f"{value.mean:.{metric.digits}f}"
    return with_interval(value.mean, value.low, value.high, metric.digits, sign="")


def means(summary: SetSummary, metrics: Iterable[Metric], interval: bool = True, corner: str = "") -> Table | None:
    """Means of the metrics that were measured, one row per method; None if there are none."""
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


def published_comparison(protocol: Protocol, summary: SetSummary, share: str) -> Table | None:
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
        # show a second PSNR convention only for methods that a paper reports with that convention
        for name in dict.fromkeys([metric.name, *(r.metric for r in published if r.method == method)])
        if name in found
    ]
    for label in dict.fromkeys(r.label for r in published if r.label):
        indices = [i for i, parameter in enumerate(protocol.labels) if parameter.startswith(f"{label},")]
        for method, values in summary.psnr_y_by_parameter.items():
            if all(i in values for i in indices):
                first, last = values[indices[0]], values[indices[-1]]
                rows.append((first, [f"**{method}**, {label}", span(first, last), *measured]))
    rows.sort(key=lambda row: -row[0])
    return Table(["", heading(metric), "", "source"], [cells for _, cells in rows])


def _pairs(
    summary: SetSummary, header: Sequence[str], names: Iterable[str], rows: Iterable[tuple[Sequence[str], str, str]]
) -> Table | None:
    """Paired differences of the named metrics; None if there are none. rows: first cells, method, baseline."""
    found = {(d.method, d.baseline, name): d for name, pairs in summary.differences.items() for d in pairs}
    metrics = [METRICS[name] for name in names]

    def cell(method: str, baseline: str, metric: Metric) -> str:
        difference = found.get((method, baseline, metric.name))
        if difference is None:
            return ""
        e, verdict = difference.estimate, difference.verdict(metric.higher_is_better)
        return f"{with_interval(e.mean, e.low, e.high, metric.digits)} {verdict}".rstrip()

    filled = [(first, [cell(a, b, metric) for metric in metrics]) for first, a, b in rows]
    shown = [[*first, *cells] for first, cells in filled if any(cells)]
    return Table([*header, *map(heading, metrics)], shown) if shown else None


def differences(summary: SetSummary) -> Table | None:
    """Paired differences, one row per pair of methods; ablations are in a separate table."""
    names = [name for name, pairs in summary.differences.items() if pairs]
    return _pairs(summary, [""], names, (([f"{a} - {b}"], a, b) for a, b in compared_pairs(list(summary.means))))


def ablations(summary: SetSummary) -> Table | None:
    """The ablations that were measured; None if there are none."""
    rows = (([a.tests, f"{a.change} (`{a.method}`)", a.against], a.method, a.against) for a in ABLATIONS)
    return _pairs(summary, ["component tested", "change", "compared with"], ("psnr_y", "niqe", "kernel_l1"), rows)


def by_parameter(protocol: Protocol, summary: SetSummary) -> Table | None:
    """Mean PSNR on Y for each of the protocol's parameters; None if it has only one."""
    values = {method: found for method, found in summary.psnr_y_by_parameter.items() if found}
    if len(protocol.labels) == 1 or not values:
        return None
    rows = [
        [label, *(f"{found[i]:.2f}" if i in found else "" for found in values.values())]
        for i, label in enumerate(protocol.labels)
    ]
    return Table(["", *values], rows)


def cost_table(costs: Mapping[str, Any]) -> Table | None:
    """Time, calls, operations, parameters and memory on the fixed input; None if they were not measured."""
    rows = []
    for name, cost in costs.get("methods", {}).items():
        peak = cost["peak_mib"]
        memory = "" if peak is None else f"{peak:.0f} ({peak - cost['loaded_mib']:+.0f})"
        parameters = "" if cost["parameters"] is None else f"{cost['parameters'] / 1e6:.2f}"
        rows.append([name, f"{cost['seconds']:.3f}", str(cost["calls"]), f"{cost['gmacs']:.2f}", parameters, memory])
    header = ["", "time (s)", "network calls", "GMACs", "parameters (10^6)", "peak memory (MiB)"]
    return Table(header, rows) if rows else None


@dataclass(frozen=True)
class Report:
    """The report of one evaluation: a summary per test set, all results, example cases, and `record.json`'s content."""

    protocol: Protocol
    summaries: Sequence[SetSummary]
    results: Sequence[ImageResult]
    showcase: plots.Showcase
    record: Mapping[str, Any]

    def blocks(self) -> Iterator[Block]:
        """The content, for `as_markdown` and `as_html`."""
        protocol, record = self.protocol, self.record
        yield Heading(1, f"{protocol.name}, x{protocol.scale}")
        yield Paragraph(f"{protocol.degradation[0].upper()}{protocol.degradation[1:]}. Source: {protocol.source}.")
        yield Paragraph(
            f"Made by `{record['command']}`, seed {record['fingerprint']['seed']}. Results are measured as 8-bit "
            f"images; Y is BT.601 studio swing; {protocol.scale} pixels are cropped from each side. In brackets: 95 % "
            "bootstrap intervals over images (each image is resampled together with all its kernels). Differences are "
            "paired by case. *Better* or *worse* is stated only if the interval excludes 0 and there are at least "
            f"{FEWEST_IMAGES} images."
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
        yield Heading(2, "Provenance")
        yield Items(list(self._provenance()))

    def _set_section(self, summary: SetSummary) -> Iterator[Block]:
        images = len({r.name for r in self.results if r.set == summary.set and r.error is None})
        yield Heading(2, f"{summary.set} ({images} images)")
        share = f"{images} images"
        if summary.set in SETS and images < SETS[summary.set].full:
            share = f"{images} of {SETS[summary.set].full} images"
            yield Paragraph(f"**{share}**: not comparable with published means over the whole set.")

        def titled(title: str, table: Table | None) -> list[Block]:
            return [] if table is None else [Heading(3, f"{summary.set}: {title}"), table]

        yield from titled("Images", means(summary, IMAGE_METRICS))
        yield from titled("Kernel and noise level", means(summary, KERNEL_METRICS))
        yield from titled("Time", means(summary, COST_METRICS))
        yield from plots.trade_offs(summary)
        yield from titled("Measured and published", published_comparison(self.protocol, summary, share))
        yield from plots.measured_and_published(self.protocol, summary)
        yield from titled("Ablations", ablations(summary))
        yield from titled("Paired differences", differences(summary))
        yield from titled("PSNR-Y by parameter (dB)", by_parameter(self.protocol, summary))

    def _kernel_section(self) -> Iterator[Block]:
        histograms, kernels = plots.width_histogram(self.results, self.record["methods"]), self.showcase.kernels
        if histograms or kernels:
            yield Heading(2, "Kernels")
            yield Paragraph(
                "`report.html` in this folder has histograms of width error, and pictures of kernels.", True
            )
            yield from histograms
        if kernels:
            known = self.protocol.truth
            content = "true (left) and estimated (right)" if known else "estimated (the true kernel is unknown)"
            caption = f"Kernels of `{self.showcase.subject}`, {content}, from the best estimate to the worst by L1."
            yield plots.Pictures("", kernels, caption, wide=True)

    def _case_section(self) -> Iterator[Block]:
        showcase = self.showcase
        if showcase.strips:
            yield Heading(2, "Cases")
            yield Paragraph(
                f"Cases are chosen by the difference between `{showcase.subject}` and `{showcase.baseline}`. The crop "
                "is the region with the most structure in the true image, or in the input if there is no true image."
            )
            titles = "; ".join(strip.title for strip in showcase.strips)
            yield Paragraph(f"`report.html` in this folder has pictures of: {titles}.", True)
            yield from showcase.strips

    def _cost_section(self) -> Iterator[Block]:
        costs = self.record["costs"]
        if table := cost_table(costs):
            yield Heading(2, "Cost")
            yield Paragraph(
                f"One restoration with a result of {costs['result']} pixels, each method in a separate process, "
                f"{costs['threads']} thread(s) of {costs['processor']}. Peak memory is the largest resident memory of "
                "that process, including Python and libraries. The memory added by the restoration is in brackets. "
                "GMACs are 10^9 multiply-accumulates of matrix products, convolutions and attention, without Fourier "
                "transforms."
            )
            yield table
            if costs["not_measured"]:
                failures = "; ".join(f"{name} ({reason})" for name, reason in costs["not_measured"].items())
                yield Paragraph(f"Not measured: {failures}.")

    def _provenance(self) -> Iterator[str]:
        record = self.record
        yield f"finished {record['finished']}, {record['seconds']:.0f} s, {record['workers']} worker(s)"
        yield ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        for name, data in record["data"].items():
            yield f"{name}: {data['images']} images, SHA-256 of their files `{data['sha256'][:16]}`"
        for checksum in dict.fromkeys(filter(None, record["weights"].values())):
            methods = ", ".join(name for name, found in record["weights"].items() if found == checksum)
            yield f"weights of {methods}: SHA-256 `{checksum[:16]}`"
        if external := record["external"]:
            yield f"external: `{external['folder']}`, SHA-256 of its files `{external['sha256'][:16]}`"
