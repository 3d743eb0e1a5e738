"""What a report is built of. Text may hold `code`, **bold** and *emphasis*, as in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Heading:
    """level: 1 for the page's title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class FigureNote:
    """A line that stands in Markdown for the figures left out of it."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column is on the left, the others are figures on the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A drawing or pictures as HTML, with a caption; only the HTML page shows it."""

    html: str
    caption: str


Block: TypeAlias = Heading | Paragraph | FigureNote | Items | Table | Figure
