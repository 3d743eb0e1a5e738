"""The code blocks of Markdown files: found, told apart, and their shell commands taken to pieces."""

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
        language: as the fence says.
        title: the file that the block is to be saved as, if it says so.
        text: what is between the fences.
        not_run: the reason given before it for not running it.
    """

    page: str
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"


def pages(root: Path = REPOSITORY) -> list[Path]:
    """README and every page of the site that is written by hand."""
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
    """The blocks of a page, in their order. Raises ValueError for a fence that is not closed."""
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
        excuse = NOT_RUN.fullmatch(before)
        title = re.search(r'title="([^"]+)"', opened["rest"])
        body = "\n".join(line.removeprefix(indent) for line in lines[start + 1 : at]) + "\n"
        language = opened["language"]
        reason = None if excuse is None else excuse["reason"]
        found.append(Block(page, start + 1, language, None if title is None else title[1], body, reason))
        at += 1
    return found


def commands_of(shell: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, each as its words; of a pipe or a loop, each part."""
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
    """Whether a script is only `blinddiff` commands, one a line, with nothing that needs a shell."""
    return not re.search(r"[|<>$;&*`]", re.sub(r"#.*", "", shell)) and all(
        words[0] == "blinddiff" for words in commands_of(shell)
    )


def blinddiff_arguments(words: list[str]) -> list[str] | None:
    """What a command gives to `blinddiff`, started by its name or as a module; None for another program."""
    if words[0] == "blinddiff":
        return words[1:]
    if "blinddiff.cli.main" in words and words[words.index("blinddiff.cli.main") - 1] == "-m":
        return words[words.index("blinddiff.cli.main") + 1 :]
    return None


def inline_code(text: str) -> list[str]:
    """Code within running text."""
    outside = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", outside)]
