"""Writes report.md, report.html and LaTeX tables from one list of blocks, and the results of all images as CSV.

The HTML uses the template report.html.jinja.
"""

import csv
import io
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
from blinddiff.evaluation.protocol import Protocol
from blinddiff.evaluation.published_results import PublishedResult, published_results
from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.statistics import (
    ABLATIONS,
    COMPARED,
    FEWEST_IMAGES,
    METRICS,
    Estimate,
    SetSummary,
    Spread,
    compared_pairs,
)


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
    """Cells of text; the first column is left-aligned, the others are right-aligned.

    ranks: (row, column) -> 1 for the best value of a comparison, 2 for the second; only LaTeX shows them.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    ranks: Mapping[tuple[int, int], int] = {}

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

    def latex(self) -> str:
        """The table as a LaTeX tabular of the package booktabs: the best value in bold, the second underlined."""

        def cell(row: int, column: int) -> str:
            text = re.sub(r"(\[[^\]]*\])", r"{\\scriptsize \1}", _latex_text(self.rows[row][column]))
            rank = self.ranks.get((row, column))
            if rank is None:
                return text
            mean, space, rest = text.partition(" ")
            return f"\\{'textbf' if rank == 1 else 'underline'}{{{mean}}}{space}{rest}"

        columns = range(len(self.header))
        lines = [" & ".join(map(_latex_text, self.header))]
        lines += [" & ".join(cell(row, column) for column in columns) for row in range(len(self.rows))]
        head, *body = (f"{line} \\\\" for line in lines)
        alignment = "l" + "r" * (len(self.header) - 1)
        begin, end = f"\\begin{{tabular}}{{{alignment}}}", "\\end{tabular}"
        return "\n".join([begin, "\\toprule", head, "\\midrule", *body, "\\bottomrule", end])


def _latex_text(text: str) -> str:
    """Text of a cell as LaTeX, with the markup of `Paragraph`."""
    special = {**{c: f"\\{c}" for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    latex = "".join({**special, "\\": r"\textbackslash{}"}.get(c, c) for c in text)
    return re.sub(r"`([^`]+)`", r"\\texttt{\1}", re.sub(r"\*\*([^*]+)\*\*", r"\\textbf{\1}", latex))


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


def _ranked(values: Mapping[int, float], higher_is_better: bool | None, digits: int) -> dict[int, int]:
    """Rank 1 for the keys with the best value and 2 for those with the second, as printed; empty for a single one."""
    if higher_is_better is None or len(values) < 2:
        return {}
    rounded = {key: round(value, digits) for key, value in values.items()}
    best = sorted(set(rounded.values()), reverse=higher_is_better)[:2]
    return {key: best.index(value) + 1 for key, value in rounded.items() if value in best}


def _is_blind(method: str) -> bool:
    """Whether a method is ranked: an oracle knows the true kernel."""
    return "oracle" not in method


def means(summary: SetSummary, metrics: Iterable[Metric], interval: bool = True, corner: str = "") -> Table | None:
    """Means of the metrics that were measured, one row per method; None if there are none."""
    metrics = [metric for metric in metrics if any(metric.name in found for found in summary.means.values())]
    shown = {m: found for m, found in summary.means.items() if any(metric.name in found for metric in metrics)}
    rows = [[m, *(_mean(found.get(metric.name), metric, interval) for metric in metrics)] for m, found in shown.items()]
    ranks: dict[tuple[int, int], int] = {}
    for column, metric in enumerate(metrics, 1):
        values = {
            row: found[metric.name].mean
            for row, (method, found) in enumerate(shown.items())
            if metric.name in found and _is_blind(method)
        }
        found_ranks = _ranked(values, metric.higher_is_better, metric.digits)
        ranks |= {(row, column): rank for row, rank in found_ranks.items()}
    return Table([corner, *map(heading, metrics)], rows, ranks) if rows else None


def overview(summary: SetSummary) -> str:
    """The tables of one set that the command prints: means with intervals, and paired differences."""
    groups = ("psnr_y", "ssim_y", "niqe", "lr_rms"), ("kernel_l1", "kernel_width_error", "noise_error", "seconds")
    tables = [
        means(summary, [METRICS[name] for name in groups[0]], corner=summary.set) or Table([summary.set], []),
        means(summary, [METRICS[name] for name in groups[1]], corner=summary.set),
        differences(summary, ("psnr_y", "ssim_y", "kernel_l1"), f"{summary.set}, differences"),
    ]
    return "\n\n".join(table.markdown() for table in tables if table is not None)


def seed_overview(set_name: str, spreads: Mapping[str, Mapping[str, Spread]], seeds: Sequence[int]) -> Table:
    """Means over several seeds, with the standard deviation of the seeds' means. spreads: method -> metric."""
    metrics = [METRICS[name] for name in COMPARED if any(name in found for found in spreads.values())]
    rows = []
    for method, found in spreads.items():
        cells = [
            f"{s.mean:.{m.digits}f} (sd {s.deviation:.{m.digits + 1}f})" if (s := found.get(m.name)) else ""
            for m in metrics
        ]
        rows.append([method, *cells])
    return Table([f"{set_name}, {len(seeds)} seeds", *map(heading, metrics)], rows)


def published_comparison(
    published: Sequence[PublishedResult], labels: Sequence[str], summary: SetSummary, share: str
) -> Table | None:
    """PSNR on Y (and SSIM, if papers report it) of this run and of papers, best first; None without published results.

    Of several values, the mean is shown, and the first and the last in brackets.

    labels: the names of the protocol's parameters. share: how much of the set was evaluated.
    """
    metric, ssim = METRICS["psnr_y"], METRICS["ssim_y"]
    if not published:
        return None
    with_ssim = any(r.ssim is not None for r in published)

    def convention(name: str) -> str:
        return "" if name == metric.name else f" ({METRICS[name].label})"

    def span(values: Sequence[float]) -> str:
        mean = f"{sum(values) / len(values):.2f}"
        return mean if len(values) == 1 else f"{mean} ({values[0]:.2f} to {values[-1]:.2f})"

    rows: list[tuple[float, list[str], str, list[str]]] = []  # PSNR, first cells, SSIM, last cells
    for r in published:
        name = r.method + (f", {r.label.rstrip(',')}" if r.label else convention(r.metric))
        rows.append(
            (r.mean, [name, span(r.values)], "" if r.ssim is None else f"{r.ssim:.4f}", ["published", r.source])
        )
    measured = ["measured", f"this run, {share}"]
    rows += [
        (
            found[name].mean,
            [f"**{method}**{convention(name)}", _mean(found[name], metric)],
            _mean(found.get(ssim.name), ssim) if name == metric.name else "",
            measured,
        )
        for method, found in summary.means.items()
        # show a second PSNR convention only for methods that a paper reports with that convention
        for name in dict.fromkeys([metric.name, *(r.metric for r in published if r.method == method)])
        if name in found
    ]
    for label in dict.fromkeys(r.label for r in published if r.label):
        indices = [i for i, parameter in enumerate(labels) if parameter.startswith(label)]
        for method, found_by_index in summary.psnr_y_by_parameter.items():
            if indices and all(i in found_by_index for i in indices):
                values = [found_by_index[i] for i in indices]
                rows.append(
                    (sum(values) / len(values), [f"**{method}**, {label.rstrip(',')}", span(values)], "", measured)
                )
    rows.sort(key=lambda row: -row[0])
    header = ["", heading(metric), *([heading(ssim)] if with_ssim else []), "", "source"]
    return Table(header, [[*first, *([value] if with_ssim else []), *last] for _, first, value, last in rows])


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


def differences(summary: SetSummary, metrics: Sequence[str] = COMPARED, corner: str = "") -> Table | None:
    """Paired differences, one row per pair of methods; ablations are in a separate table."""
    names = [name for name in metrics if summary.differences.get(name)]
    return _pairs(summary, [corner], names, (([f"{a} - {b}"], a, b) for a, b in compared_pairs(list(summary.means))))


def ablations(summary: SetSummary) -> Table | None:
    """The ablations that were measured; None if there are none."""
    rows = (([a.tests, f"{a.change} (`{a.method}`)", a.against], a.method, a.against) for a in ABLATIONS)
    return _pairs(summary, ["component tested", "change", "compared with"], ("psnr_y", "niqe", "kernel_l1"), rows)


def by_parameter(labels: Sequence[str], published: Sequence[PublishedResult], summary: SetSummary) -> Table | None:
    """Mean PSNR on Y for each of the protocol's parameters, also as published; None if there is only one parameter."""
    values = {method: dict(found) for method, found in summary.psnr_y_by_parameter.items() if found}
    if len(labels) == 1 or not values:
        return None
    ranked = [column for column, method in enumerate(values, 1) if _is_blind(method)]
    for result in published:
        indices = [i for i, label in enumerate(labels) if label.startswith(result.label)]
        if len(result.values) == len(indices):
            values.setdefault(f"{result.method} (published)", {}).update(zip(indices, result.values, strict=True))
    rows = [
        [label, *(f"{found[i]:.2f}" if i in found else "" for found in values.values())]
        for i, label in enumerate(labels)
    ]
    columns = dict(enumerate(values.values(), 1))
    ranks: dict[tuple[int, int], int] = {}
    for i in range(len(labels)):
        found_ranks = _ranked({c: columns[c][i] for c in ranked if i in columns[c]}, True, 2)
        ranks |= {(i, column): rank for column, rank in found_ranks.items()}
    return Table(["", *values], rows, ranks)


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
    pictures: plots.ReportPictures
    record: Mapping[str, Any]

    def blocks(self) -> Iterator[Block]:
        """The content, for `as_markdown` and `as_html`."""
        protocol, record = self.protocol, self.record
        yield Heading(1, f"{protocol.name}, x{protocol.scale}")
        yield Paragraph(f"{protocol.degradation[0].upper()}{protocol.degradation[1:]}. Source: {protocol.source}.")
        yield Paragraph(
            f"Made by `{record['command']}`, seed {record['fingerprint']['seed']}. Results are measured as 8-bit "
            f"images; Y is BT.601 studio swing; {protocol.crop} pixels are cropped from each side. In brackets: 95 % "
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
        published = published_results(self.protocol.name, self.protocol.scale, summary.set)
        if summary.set in SETS and images < SETS[summary.set].full:
            share = f"{images} of {SETS[summary.set].full} images"
            published = []
            yield Paragraph(f"**{share}**: not comparable with published means over the whole set, which are left out.")

        labels = self.protocol.labels

        def titled(title: str, table: Table | None) -> list[Block]:
            return [] if table is None else [Heading(3, f"{summary.set}: {title}"), table]

        yield from titled("Images", means(summary, IMAGE_METRICS))
        yield from titled("Kernel and noise level", means(summary, KERNEL_METRICS))
        yield from titled("Time", means(summary, COST_METRICS))
        yield from plots.trade_offs(summary)
        yield from titled("Measured and published", published_comparison(published, labels, summary, share))
        yield from plots.measured_and_published(published, summary)
        yield from titled("Ablations", ablations(summary))
        yield from titled("Paired differences", differences(summary))
        yield from titled("PSNR-Y by parameter (dB)", by_parameter(labels, published, summary))

    def _kernel_section(self) -> Iterator[Block]:
        histograms, kernels = plots.width_histogram(self.results, self.record["methods"]), self.pictures.kernels
        if histograms or kernels:
            yield Heading(2, "Kernels")
            yield Paragraph(
                "`report.html` in this folder has histograms of width error, and pictures of kernels.", True
            )
            yield from histograms
        if kernels:
            known = self.protocol.kernel_known
            content = "true (left) and estimated (right)" if known else "estimated (the true kernel is unknown)"
            caption = f"Kernels of `{self.pictures.subject}`, {content}, from the best estimate to the worst by L1."
            yield plots.Pictures("", kernels, caption, wide=True)

    def _case_section(self) -> Iterator[Block]:
        pictures = self.pictures
        if pictures.strips:
            yield Heading(2, "Cases")
            yield Paragraph(
                f"Cases are chosen by the difference between `{pictures.subject}` and `{pictures.baseline}`. The crop "
                "is the region with the most structure in the true image, or in the input if there is no true image."
            )
            titles = "; ".join(strip.title for strip in pictures.strips)
            yield Paragraph(f"`report.html` in this folder has pictures of: {titles}.", True)
            yield from pictures.strips

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
        for name, external in record["external"].items():
            yield f"{name}: `{external['folder']}`, SHA-256 of its files `{external['sha256'][:16]}`"


def latex_tables(blocks: Iterable[Block], command: str) -> Iterator[tuple[str, str]]:
    """File name and LaTeX of each table below a heading. command: how the run was made, for a comment."""
    title = ""
    for block in blocks:
        if isinstance(block, Heading):
            title, name = block.text, block.anchor
        elif isinstance(block, Table):
            yield f"{name}.tex", f"% {title}\n% Made by: {command}\n% Needs the package booktabs.\n{block.latex()}\n"


def images_csv(results: Iterable[ImageResult], labels: Sequence[str]) -> str:
    """All results as CSV: a line per method, image and parameter, with every metric; failures are left out."""
    valid = [r for r in results if r.error is None]
    names = [name for name in METRICS if any(name in r.metrics for r in valid)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "set", "image", "index", "parameter", *names])
    for r in sorted(valid, key=lambda r: r.key):
        writer.writerow(
            [r.method, r.set, r.name, r.index, labels[r.index], *(r.metrics.get(name, "") for name in names)]
        )
    return text.getvalue()
