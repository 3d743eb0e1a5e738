"""Blocks as Markdown that reads well as plain text."""

from collections.abc import Sequence

from blinddiff.evaluation.report.blocks import Block, Figure, FigureNote, Heading, Items, Paragraph, Table


def as_markdown(blocks: Sequence[Block]) -> str:
    """The whole page; figures are left out."""
    return "\n\n".join(_block(block) for block in blocks if not isinstance(block, Figure)) + "\n"


def markdown_table(table: Table) -> str:
    """A table with aligned columns."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text) | FigureNote(text):
            return text
        case Items(lines):
            return "\n".join(f"- {line}" for line in lines)
        case Table():
            return markdown_table(block)
        case _:
            raise TypeError(block)
