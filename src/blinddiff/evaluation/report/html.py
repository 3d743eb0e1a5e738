"""Blocks as one HTML file that needs nothing beside it."""

import re
from collections.abc import Sequence
from html import escape

from blinddiff.evaluation.report.blocks import Block, Figure, FigureNote, Heading, Items, Paragraph, Table

NUMBER = re.compile(r"[+-]?\d")
INTERVAL = re.compile(r" (\[[^\]]+\])")
STYLE = """
:root { color-scheme: light; --ink: #1c2024; --dim: #60646c; --line: #d9dce1; --ground: #fff; --soft: #f5f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 5rem; max-width: 80rem; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 54rem; } li { margin: .15rem 0; overflow-wrap: anywhere; }
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .4rem; }
nav a { padding: .2rem .7rem; border: 1px solid var(--line); border-radius: 1rem; color: inherit; font-size: .9rem;
  text-decoration: none; }
nav a:hover { background: var(--soft); }
code { font: .9em ui-monospace, "DejaVu Sans Mono", monospace; background: var(--soft); padding: .1em .3em;
  border-radius: .2em; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th { vertical-align: bottom; font-weight: 600; max-width: 9rem; } thead th { border-bottom: 2px solid var(--ink); }
.words { text-align: left; max-width: 24rem; } th:first-child, td:first-child { padding-left: 0; }
td small { display: block; color: var(--dim); font-size: .8rem; white-space: nowrap; }
tbody tr:hover { background: var(--soft); }
figure { margin: 1.25rem 0; } figcaption { color: var(--dim); font-size: .9rem; max-width: 54rem; }
svg { max-width: 100%; height: auto; display: block; } svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; }
.strip { display: flex; flex-wrap: wrap; gap: .75rem; margin: .5rem 0; }
.strip > div { font-size: .8rem; line-height: 1.35; width: 12rem; }
.strip img { display: block; width: 100%; image-rendering: pixelated; margin-bottom: .25rem; }
.strip .note { color: var(--dim); }
.strip.wide > div { width: 17rem; }
"""


def as_html(blocks: Sequence[Block]) -> str:
    """The whole page: styles, drawings and pictures are in it."""
    title = next(block.text for block in blocks if isinstance(block, Heading))
    sections = [block for block in blocks if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<a href="#{_anchor(section.text)}">{_inline(section.text)}</a>' for section in sections)
    body = []
    for block in blocks:
        if block in sections[:1]:
            body.append(f"<nav>{links}</nav>")
        if not isinstance(block, FigureNote):
            body.append(_block(block))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} id="{_anchor(text)}">{_inline(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Items(lines):
            return "<ul>" + "".join(f"<li>{_inline(line)}</li>" for line in lines) + "</ul>"
        case Table():
            return _table(block)
        case Figure(html, caption):
            return f"<figure>\n{html}\n<figcaption>{_inline(caption)}</figcaption>\n</figure>"
        case _:
            raise TypeError(block)


def _table(table: Table) -> str:
    words = [not any(NUMBER.match(row[i]) for row in table.rows) for i in range(len(table.header))]

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="words"' if word else "" for word in words]
        return "".join(f"<{tag}{kind}>{_cell(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>\n" for row in table.rows)
    return (
        f'<div class="table"><table>\n<thead><tr>{line("th", table.header)}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>"
    )


def _cell(text: str) -> str:
    """A figure stands out from its interval."""
    return INTERVAL.sub(r"<small>\1</small>", _inline(text))


def _inline(text: str) -> str:
    """Text of a block as HTML."""
    text = escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
