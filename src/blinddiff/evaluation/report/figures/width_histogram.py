"""How far the widths of estimated kernels are off."""

from collections.abc import Sequence

from blinddiff.evaluation.records import ImageResult
from blinddiff.evaluation.report.blocks import Figure
from blinddiff.evaluation.report.figures.svg import COLOURS, DIM, Axis, drawing, element, horizontal_axis, text

METRIC = "kernel_width_error"
BINS = 20
LAST = 50.0  # per cent; what is beyond is counted in the last bin
WIDTH, PANEL, GAP = 720.0, 70.0, 26.0
LEFT, RIGHT = 20.0, 700.0


def width_histogram(results: Sequence[ImageResult], methods: Sequence[str]) -> list[Figure]:
    """One histogram a method, over all sets, on one scale; methods that estimate no kernel are left out."""
    values = {
        method: [r.metrics[METRIC] for r in results if r.method == method and METRIC in r.metrics] for method in methods
    }
    values = {method: found for method, found in values.items() if found}
    if not values:
        return []
    x = Axis(0.0, LAST, LEFT, RIGHT)
    counts = {method: _counted(found) for method, found in values.items()}
    tallest = max(count / len(values[method]) for method, found in counts.items() for count in found)
    bottom = (PANEL + GAP) * len(values)
    parts = horizontal_axis(x, GAP, bottom, f"width error (%), {LAST:.0f} and more in the last bin")
    for i, (method, found) in enumerate(counts.items()):
        base = (PANEL + GAP) * (i + 1)
        colour = COLOURS[i % len(COLOURS)]
        for bin_, count in enumerate(found):
            tall = PANEL * count / len(values[method]) / tallest
            left, right = (x(LAST * edge / BINS) for edge in (bin_, bin_ + 1))
            parts.append(element("rect", x=left + 1, y=base - tall, width=right - left - 2, height=tall, fill=colour))
        ordered = sorted(values[method])
        median = ordered[len(ordered) // 2]
        parts.append(element("line", x1=LEFT, x2=RIGHT, y1=base, y2=base, stroke=DIM))
        parts.append(text(RIGHT, base - PANEL - 6, f"{method}: median {median:.1f} %, {len(ordered)} kernels", "end"))
    drawn = drawing(WIDTH, bottom + 46, "Histograms of width error", parts)
    return [Figure(drawn, "Error of the estimated kernels' width: share of the kernels, all sets together.")]


def _counted(values: Sequence[float]) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(int(value / LAST * BINS), BINS - 1)] += 1
    return counts
