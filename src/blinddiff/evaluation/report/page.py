"""What a report says, in which order."""

from collections.abc import Iterable

from blinddiff.evaluation.data import SETS
from blinddiff.evaluation.report import tables
from blinddiff.evaluation.report.blocks import Block, FigureNote, Heading, Items, Paragraph, Table
from blinddiff.evaluation.report.figures.marks import marks
from blinddiff.evaluation.report.figures.perception_distortion import perception_distortion
from blinddiff.evaluation.report.figures.pictures import case_figures, kernel_figure
from blinddiff.evaluation.report.figures.quality_time import quality_time
from blinddiff.evaluation.report.figures.width_histogram import width_histogram
from blinddiff.evaluation.report.findings import Findings
from blinddiff.evaluation.statistics import FEWEST_IMAGES, SetSummary

COSTS = (
    "One restoration with a result of {result} pixels, each method in a process of its own, {threads} thread(s) of "
    "{processor}. Peak memory is the largest resident memory of that process, Python and libraries included, with what "
    "the restoration added in brackets. GMACs are 10^9 multiply-accumulates of matrix products, convolutions and "
    "attention; Fourier transforms are not counted."
)


def page(findings: Findings) -> list[Block]:
    """The whole report."""
    protocol, record = findings.protocol, findings.record
    blocks: list[Block] = [
        Heading(1, f"{protocol.name}, x{protocol.scale}"),
        Paragraph(f"{protocol.degradation[0].upper()}{protocol.degradation[1:]}. Source: {protocol.source}."),
        Paragraph(
            f"Made by `{record['command']}`, seed {record['fingerprint']['seed']}. Results are measured as 8-bit "
            f"images; Y is BT.601 studio swing; {protocol.scale} pixels are cropped from each side. In brackets: 95 % "
            "bootstrap intervals over images (an image is drawn with all its kernels). Differences are case by case; "
            f"*better* or *worse* needs an interval without 0 and {FEWEST_IMAGES} images."
        ),
    ]
    for summary in findings.summaries:
        blocks += _set_section(findings, summary)
    blocks += _kernel_section(findings)
    blocks += _case_section(findings)
    blocks += _cost_section(findings)
    if findings.failures:
        lines = [f"{f.method}, {f.place}: {f.error}" for f in findings.failures]
        blocks += [Heading(2, f"Not evaluated ({len(findings.failures)})"), Items(lines)]
    return blocks + _origin_section(findings)


def _set_section(findings: Findings, summary: SetSummary) -> Iterable[Block]:
    images = findings.image_counts[summary.set]
    yield Heading(2, f"{summary.set} ({images} images)")
    known = SETS.get(summary.set)
    share = f"{images} images"
    if known and images < known.full:
        share = f"{images} of {known.full} images"
        yield Paragraph(f"**{share}**: not comparable with published means over the whole set.")
    for title, names in (("Images", tables.IMAGE), ("Kernel and noise level", tables.KERNEL), ("Time", tables.COST)):
        yield from _titled(f"{summary.set}: {title}", tables.means(summary, names))
    yield from perception_distortion(summary)
    yield from quality_time(summary)
    yield from _titled(
        f"{summary.set}: Beside published marks", tables.beside_published(findings.protocol, summary, share)
    )
    yield from marks(findings.protocol, summary)
    yield from _titled(f"{summary.set}: Ablations", tables.ablations(summary))
    yield from _titled(f"{summary.set}: Paired differences", tables.differences(summary))
    yield from _titled(f"{summary.set}: PSNR-Y by parameter (dB)", tables.by_parameter(findings.protocol, summary))


def _titled(title: str, table: Table | None) -> Iterable[Block]:
    if table is not None:
        yield Heading(3, title)
        yield table


def _kernel_section(findings: Findings) -> Iterable[Block]:
    figures = [*width_histogram(findings.results, findings.methods), *kernel_figure(findings.showcase)]
    if figures:
        yield Heading(2, "Kernels")
        yield FigureNote("`report.html` beside this file shows histograms of width error, and kernels.")
        yield from figures


def _case_section(findings: Findings) -> Iterable[Block]:
    showcase = findings.showcase
    if showcase.strips:
        yield Heading(2, "Cases")
        yield Paragraph(
            f"Chosen by the results of `{showcase.subject}` against `{showcase.baseline}`, shown where the true image "
            "(the input, without one) has most structure."
        )
        titles = "; ".join(strip.title for strip in showcase.strips)
        yield FigureNote(f"`report.html` beside this file has the pictures of: {titles}.")
        yield from case_figures(showcase)


def _cost_section(findings: Findings) -> Iterable[Block]:
    table = tables.cost_table(findings.costs)
    if table is not None:
        yield Heading(2, "Cost")
        yield Paragraph(COSTS.format(**findings.costs))
        yield table
        left_out = findings.costs["not_measured"]
        if left_out:
            yield Paragraph("Not measured: " + "; ".join(f"{name} ({why})" for name, why in left_out.items()) + ".")


def _origin_section(findings: Findings) -> list[Block]:
    record = findings.record
    lines = [
        f"finished {record['finished']}, {record['seconds']:.0f} s, {record['workers']} worker(s)",
        ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        *(
            f"{name}: {data['images']} images, SHA-256 of their files `{data['sha256'][:16]}`"
            for name, data in record["data"].items()
        ),
        *(
            f"weights of {', '.join(n for n, c in record['weights'].items() if c == checksum)}: "
            f"SHA-256 `{checksum[:16]}`"
            for checksum in dict.fromkeys(filter(None, record["weights"].values()))
        ),
    ]
    if record["external"] is not None:
        folder, checksum = record["external"]["folder"], record["external"]["sha256"]
        lines.append(f"external: `{folder}`, SHA-256 of its files `{checksum[:16]}`")
    return [Heading(2, "Origin"), Items(lines)]
