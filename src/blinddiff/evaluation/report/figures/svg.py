"""Drawing by hand: SVG elements, axes, colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, DIM, LINE = "#1c2024", "#60646c", "#e4e6ea"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5c00", "#56b4e9", "#6f42c1", "#b03a2e", "#2e7d32", "#455a64")
"""Told apart by colour-blind eyes too (the first six after Okabe and Ito)."""
CHARACTER = 6.7  # width of a letter at 12 px, for leaving room


def element(name: str, content: str = "", **attributes: str | float) -> str:
    """One SVG element; underscores in attribute names stand for hyphens."""
    written = "".join(
        f' {key.replace("_", "-")}="{value:.2f}"'
        if isinstance(value, float)
        else f' {key.replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, content: str, anchor: str = "start", fill: str = INK) -> str:
    """A line of text, its base line at y."""
    return element("text", escape(content), x=float(x), y=float(y), text_anchor=anchor, fill=fill)


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """A whole picture."""
    name = element("title", escape(title))
    return element(
        "svg",
        name + "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        width=float(width),
        height=float(height),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
    )


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on pixels from `start` to `end` (either may be the larger).

    log: low and high are above 0, and equal factors are equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside, with their labels."""
        if self.log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [factor * 10.0**e for e in exponents for factor in (1, 2, 5)]
            inside = [v for v in values if self.low <= v <= self.high]
            if len(inside) > 7:
                inside = [v for v in inside if f"{v:e}"[0] == "1"]
            return [(v, f"{v:g}") for v in inside]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        digits = max(0, -math.floor(math.log10(step)))
        return [(v, f"{v:.{digits}f}") for v in values]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def padded_range(values: Sequence[float], share: float = 0.08, log: bool = False) -> tuple[float, float]:
    """Lowest and highest value with some room on both sides, never empty."""
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
    room = (high - low) * share or max(abs(high) * 0.02, 0.1)
    low, high = low - room, high + room
    return (10**low, 10**high) if log else (low, high)


def horizontal_axis(axis: Axis, top: float, bottom: float, label: str) -> list[str]:
    """Grid lines, ticks below and the label under them."""
    parts = [
        element("line", x1=axis(v), x2=axis(v), y1=float(top), y2=float(bottom), stroke=LINE) for v, _ in axis.ticks()
    ]
    parts += [text(axis(v), bottom + 16, words, "middle", DIM) for v, words in axis.ticks()]
    return [*parts, text((axis.start + axis.end) / 2, bottom + 36, label, "middle")]


def vertical_axis(axis: Axis, left: float, right: float, label: str) -> list[str]:
    """Grid lines, ticks on the left and the label above them."""
    parts = [
        element("line", x1=float(left), x2=float(right), y1=axis(v), y2=axis(v), stroke=LINE) for v, _ in axis.ticks()
    ]
    parts += [text(left - 6, axis(v) + 4, words, "end", DIM) for v, words in axis.ticks()]
    return [*parts, text(left, min(axis.start, axis.end) - 12, label)]
