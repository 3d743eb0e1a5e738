"""Finds the code blocks of Markdown files and parses their shell commands."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*?) -->")
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*) *(?P<rest>.*)")
SEPARATORS = frozenset(";|&<>()")
KEYWORDS = frozenset({"do", "then", "else", "!"})


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: the file, from the root of the repository.
        line: of the fence.
        language: the fence's.
        title: the file name that the block is saved under, if it has one.
        text: the lines between the fences.
        not_run: the reason in the comment before it for not running it.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page}:{self.line}"


def pages(root: Path = REPOSITORY) -> list[Path]:
    """README and every hand-written page of the site."""
    card = root / "src/blinddiff/weights/default/README.md"
    found = [
        root / "README.md",
        root / "CONTRIBUTING.md",
        root / "SECURITY.md",
        card,
        *sorted((root / "docs").rglob("*.md")),
    ]
    return [path for path in found if path.is_file()]


def blocks_of(text: str, page: str) -> list[Block]:
    """The blocks of a page, in order. Raises ValueError for a fence that is not closed."""
    found = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opened = FENCE.fullmatch(lines[at])
        if opened is None:
            at += 1
            continue
        start, indent = at, opened["indent"]
        at += 1
        while at < len(lines) and lines[at] != f"{indent}```":
            at += 1
        if at == len(lines):
            raise ValueError(f"{page}:{start + 1}: the fence is not closed")
        before = next((line.strip() for line in reversed(lines[:start]) if line.strip()), "")
        reason_before = NOT_RUN.fullmatch(before)
        title = re.search(r'title="([^"]+)"', opened["rest"])
        body = "\n".join(line.removeprefix(indent) for line in lines[start + 1 : at]) + "\n"
        language = opened["language"]
        reason = None if reason_before is None else reason_before["reason"]
        found.append(Block(page, start + 1, language, None if title is None else title[1], body, reason))
        at += 1
    return found


def commands_of(shell: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, as lists of words; each part of a pipe or loop is one."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="".join(SEPARATORS))
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word and set(word) <= SEPARATORS:
                if words:
                    yield words
                words = []
            elif words or word not in KEYWORDS:
                words.append(word)


def is_plain(shell: str) -> bool:
    """Whether a script contains only `blinddiff` commands, one per line, and needs no shell."""
    return not re.search(r"[|<>$;&*`]", re.sub(r"#.*", "", shell)) and all(
        words[0] == "blinddiff" for words in commands_of(shell)
    )


def blinddiff_arguments(words: list[str]) -> list[str] | None:
    """The arguments of a `blinddiff` command, started by its name or as a module; None for another program."""
    if words[0] == "blinddiff":
        return words[1:]
    if "blinddiff" in words and words[words.index("blinddiff") - 1] == "-m":
        return words[words.index("blinddiff") + 1 :]
    return None


def inline_code(text: str) -> list[str]:
    """Inline code of the prose."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", outside)]
