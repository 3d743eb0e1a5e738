"""Published marks beside ours on one scale."""

from blinddiff.evaluation.cases import Protocol
from blinddiff.evaluation.published_results import marks_for
from blinddiff.evaluation.report.blocks import Figure
from blinddiff.evaluation.report.figures.svg import (
    CHARACTER,
    COLOURS,
    DIM,
    Axis,
    drawing,
    element,
    horizontal_axis,
    padded_range,
    text,
)
from blinddiff.evaluation.statistics import Estimate, SetSummary

WIDTH, ROW, TOP = 720.0, 22.0, 14.0


def marks(protocol: Protocol, summary: SetSummary) -> list[Figure]:
    """PSNR-Y of every method measured (filled, with its interval) and published (hollow), best on top.

    Marks of another convention are left to the table.
    """
    rows: list[tuple[str, Estimate | float]] = [
        (f"{mark.method} (published)", mark.value)
        for mark in marks_for(protocol.name, protocol.scale, summary.set)
        if mark.metric == "psnr_y"
    ]
    if not rows:
        return []
    rows += [(method, e["psnr_y"]) for method, e in summary.means.items() if "psnr_y" in e]
    rows.sort(key=lambda row: -_mean(row[1]))
    values = [v for _, e in rows for v in ((e,) if isinstance(e, float) else (e.low, e.high))]
    left = 20 + CHARACTER * max(len(label) for label, _ in rows)
    bottom = TOP + ROW * len(rows)
    x = Axis(*padded_range(values), left, WIDTH - 60)
    parts = horizontal_axis(x, TOP, bottom, "PSNR-Y (dB)")
    for i, (label, value) in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        published = isinstance(value, float)
        colour = DIM if published else COLOURS[0]
        parts.append(text(left - 10, y + 4, label, "end", colour))
        if isinstance(value, Estimate):
            parts.append(element("line", x1=x(value.low), x2=x(value.high), y1=y, y2=y, stroke=colour))
        fill = "#fff" if published else colour
        parts.append(element("circle", cx=x(_mean(value)), cy=y, r=4.5, fill=fill, stroke=colour, stroke_width=1.5))
        parts.append(text(WIDTH - 4, y + 4, f"{_mean(value):.2f}", "end", colour))
    drawn = drawing(WIDTH, bottom + 46, f"{summary.set}: measured and published PSNR-Y", parts)
    caption = f"{summary.set}: measured here (filled, with interval) and published, not run here (hollow)."
    return [Figure(drawn, caption)]


def _mean(value: Estimate | float) -> float:
    return value if isinstance(value, float) else value.mean
