"""Methods as labelled points with their intervals: one metric across, another up."""

from collections.abc import Sequence
from dataclasses import dataclass

from blinddiff.evaluation.report.figures.svg import (
    CHARACTER,
    COLOURS,
    Axis,
    drawing,
    element,
    horizontal_axis,
    padded_range,
    text,
    vertical_axis,
)
from blinddiff.evaluation.statistics import Estimate

WIDTH, HEIGHT = 720.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 700.0, 40.0, 340.0
SPACING = 15.0  # between base lines of labels


@dataclass(frozen=True)
class Point:
    """A method."""

    label: str
    x: Estimate
    y: Estimate


def scatter(
    title: str,
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    log_x: bool = False,
    lower_y_is_better: bool = False,
) -> str:
    """An SVG of the points; better is up: the upper axis is turned round where lower values are better."""
    x_low, x_high = padded_range([v for p in points for v in (p.x.low, p.x.high)], log=log_x)
    y_low, y_high = padded_range([v for p in points for v in (p.y.low, p.y.high)])
    x = Axis(x_low, x_high, LEFT, RIGHT, log_x)
    y = Axis(y_low, y_high, *((TOP, BOTTOM) if lower_y_is_better else (BOTTOM, TOP)))
    parts = horizontal_axis(x, TOP, BOTTOM, x_label) + vertical_axis(y, LEFT, RIGHT, y_label)
    for i, point in enumerate(points):
        colour = COLOURS[i % len(COLOURS)]
        cx, cy = x(point.x.mean), y(point.y.mean)
        parts.append(element("line", x1=x(point.x.low), x2=x(point.x.high), y1=cy, y2=cy, stroke=colour, opacity=0.5))
        parts.append(element("line", x1=cx, x2=cx, y1=y(point.y.low), y2=y(point.y.high), stroke=colour, opacity=0.5))
        parts.append(element("circle", cx=cx, cy=cy, r=5.0, fill=colour))
    for point, (left, base) in zip(points, label_places(points, x, y), strict=True):
        colour = COLOURS[points.index(point) % len(COLOURS)]
        parts.append(text(left, base, point.label, fill=colour))
    return drawing(WIDTH, HEIGHT, title, parts)


def label_places(points: Sequence[Point], x: Axis, y: Axis) -> list[tuple[float, float]]:
    """Left end and base line of each label: beside its point, moved down where it would cover another label."""
    placed: list[tuple[float, float, float]] = []  # left, right, base line
    places = {}
    for i in sorted(range(len(points)), key=lambda i: y(points[i].y.mean)):
        cx, base = x(points[i].x.mean), y(points[i].y.mean) - 7
        length = CHARACTER * len(points[i].label)
        left = cx + 8 if cx + 8 + length < RIGHT + 15 else cx - 8 - length
        while any(left < r and left + length > lft and abs(base - b) < SPACING for lft, r, b in placed):
            base += 1
        placed.append((left, left + length, base))
        places[i] = (left, base)
    return [places[i] for i in range(len(points))]
