"""Hooks of the site's build: pages from files outside docs, and a check that pages load nothing from other servers.

The model card is beside the weights, the changelog at the root, records are below ``results/``. These hooks make pages
from them, and redirect links to those files to the pages. The page that `make web` has built becomes part of the site.
"""

import argparse
import html
import os
import posixpath
import re
import shutil
from pathlib import Path
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.inlinepatterns import SimpleTextInlineProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "build/web"
COMMAND_LINE = "<!-- the options of every sub-command -->"
LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//")
"""Matches what a browser would fetch from another server when it opens a page. Plain links are not matched."""
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def sources(root: Path) -> dict[str, Path]:
    """Pages made from files outside docs: path in the site -> the file."""
    pages = {
        "changelog.md": root / "CHANGELOG.md",
        "contributing.md": root / "CONTRIBUTING.md",
        "model-card.md": root / "src/blinddiff/weights/default/README.md",
    }
    results = root / "results"
    reports = sorted(results.glob("**/report.md"))
    return {**pages, **{f"records/{p.parent.relative_to(results).as_posix()}.md": p for p in reports}}


def without_front_matter(text: str) -> str:
    """Markdown without its leading block of YAML."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def relinked(text: str, source: Path, page: str, root: Path) -> str:
    """Redirect the links of a page to pages of the site.

    Args:
        text: Markdown.
        source: the file it was read from; its links are relative to it.
        page: its path in the site.
        root: of the repository.

    Returns:
        The text. Links to files that have no page in the site are replaced by their text.
    """
    elsewhere = {os.path.normpath(path): place for place, path in sources(root).items()}
    docs = os.path.normpath(root / "docs")

    def place_of(path: str) -> str | None:
        target = os.path.normpath(source.parent / path)
        if target in elsewhere:
            return elsewhere[target]
        if target.startswith(docs + os.sep):
            return Path(target).relative_to(docs).as_posix()
        return None

    def link(match: re.Match[str]) -> str:
        place = place_of(match["path"])
        if place is None:
            return match[0]
        return posixpath.relpath(place, posixpath.dirname(page)) + (match["anchor"] or "")

    text = LINK.sub(link, text)

    def name(match: re.Match[str]) -> str:
        missing = (source.parent / match[2]).exists() and place_of(match[2]) is None
        return match[1] if missing else match[0]

    return re.sub(r"(?<!!)\[([^\]\n]+)\]\(([^)#\s:]+)\)", name, text)


def option_tables() -> str:
    """Markdown tables of all commands and their arguments, from the parsers."""
    from blinddiff.cli.main import COMMANDS, command_parser

    parts = []
    for name, (_, summary) in COMMANDS.items():
        parser = command_parser(name)
        rows = [f"| {_names(a)} | {_cell(a.help or '')} |" for a in parser._actions if a.dest != "help"]
        usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
        parts.append(
            f"## blinddiff {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{usage}\n```\n\n"
            "| argument | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _names(action: argparse.Action) -> str:
    names = action.option_strings or [action.dest]
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if action.choices is not None:
        value = ", ".join(map(str, action.choices))
    takes = bool(action.option_strings) and action.nargs != 0
    return ", ".join(f"`{name}`" for name in names) + (f" {_cell(value)}" if takes else "")


def _cell(text: str) -> str:
    return html.escape(text.replace("%%", "%"), quote=False).replace("|", "\\|")


class ConvolutionSign(Extension):
    """Renders (*), the sign of convolution, literally instead of as emphasis."""

    def extendMarkdown(self, md: Markdown) -> None:
        """See `markdown.Extension`."""
        md.inlinePatterns.register(_Literal(r"(\(\*\))"), "convolution", 175)


class _Literal(SimpleTextInlineProcessor):
    def handleMatch(  # type: ignore[override]
        self, m: re.Match[str], data: str
    ) -> tuple[str | Element, int, int]:
        return m.group(1), m.start(0), m.end(0)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add `ConvolutionSign`."""
    config.markdown_extensions.append(ConvolutionSign())  # type: ignore[arg-type]  # Markdown takes instances too
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages made from files outside docs."""
    for page, path in sources(ROOT).items():
        if path.is_file():
            text = relinked(without_front_matter(path.read_text(encoding="utf-8")), path, page, ROOT)
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Insert the tables of options, and redirect links out of docs to the pages made from those files."""
    if COMMAND_LINE in markdown:
        markdown = markdown.replace(COMMAND_LINE, option_tables())
    source = page.file.abs_src_path
    if source is not None:
        markdown = relinked(markdown, Path(source), page.file.src_uri, ROOT)
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Copy the page that restores photographs in the browser into the site, if it has been built."""
    if WEB.is_dir():
        shutil.copytree(WEB, Path(config.site_dir) / "try", dirs_exist_ok=True)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Check that a page loads nothing from other servers.

    Raises:
        PluginError: it does.
    """
    found = LOADED.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri}: loads from another server: {found[0]}")
    return output
