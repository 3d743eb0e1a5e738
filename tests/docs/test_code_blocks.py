"""Runs every code block of README and site. A block that cannot run gives a reason, and is checked statically.

The blocks of a page run from top to bottom in one folder, which contains the files that the pages mention. The Python
blocks of a page share one namespace.
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import yaml
from blocks import REPOSITORY, Block, blinddiff_arguments, blocks_of, commands_of, inline_code, is_plain, pages
from PIL import Image

from blinddiff.cli import main as cli
from blinddiff.degradation import NOISES
from blinddiff.degradation.kernels import FAMILIES
from blinddiff.sampling.image_steps import IMAGE_STEPS
from blinddiff.sampling.kernel_steps import KERNEL_STEPS
from blinddiff.training.recipe import parse_recipe

RUN = {"python", "bash"}
DATA = {"text", "yaml", "json"}
PAGES = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in pages()}
BLOCKS = {page: blocks_of(text, page) for page, text in PAGES.items()}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
MOST_NOT_RUN = 28
"""Blocks with a `<!-- not run: reason -->` before them. Raise it only for what cannot be run by any test."""
LONG = {"docs/guides/onnx.md", "docs/guides/photographs.md", "docs/guides/training.md", "docs/quickstart.md"}
"""Pages with slow commands: they export, train, start processes or restore whole samples."""
NEEDS = {"docs/guides/onnx.md": "onnxscript", "docs/guides/spandrel.md": "spandrel"}
"""Pages whose blocks need the package of another program."""
SERVER = "127.0.0.1:7860"
"""The address of the server on the pages. Blocks with it run against a server that is started for these tests."""
OTHER_OPTIONS = {"--check", "--compile"}
"""Options in the prose that belong to other programs, in `scripts`."""

runnable = [
    pytest.param(page, marks=pytest.mark.long if page in LONG else ())
    for page, blocks in BLOCKS.items()
    if any(block.language in RUN and block.not_run is None for block in blocks)
]


def named(block: Block) -> str:
    return block.place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder."""
    monkeypatch.chdir(tmp_path)
    cat = Image.fromarray(skimage.data.cat())
    for name in ("album", "photographs", "testsets/Set14"):
        Path(name).mkdir(parents=True)
    cat.crop((120, 100, 168, 140)).save("photo.jpg", quality=92)
    cat.crop((120, 100, 216, 180)).save("sharp.png")
    cat.crop((120, 100, 168, 140)).save("scan.png")
    scratches = Image.new("L", (48, 40))
    scratches.paste(255, (10, 5, 13, 35))
    scratches.save("scratches.png")
    Path("restored.jsonl").write_text('{"status": "done", "width": 400, "height": 300, "seconds": 2.5}\n')
    cat.crop((100, 100, 250, 250)).save("photographs/cat.png")
    for number in (1, 2):
        cat.crop((100 * number, 80, 100 * number + 16, 104)).save(f"album/{number}.png")
        cat.crop((100 * number, 80, 100 * number + 48, 144)).save(f"testsets/Set14/{number}.png")
    for name in ("src", "recipes"):
        Path(name).symlink_to(REPOSITORY / name)
    return tmp_path


@pytest.fixture
def tables() -> Iterator[None]:
    """Removes what blocks add to the tables of the package."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (table, dict(table)) for table in (FAMILIES, NOISES, IMAGE_STEPS, KERNEL_STEPS)
    ]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


def run_shell(block: Block, here: Path) -> None:
    """Run a block in a shell, with the programs of this environment on the path. An HTTP error ends it."""
    programs = here / ".programs"
    programs.mkdir(exist_ok=True)
    for name, command in {
        "blinddiff": [sys.executable, "-m", "blinddiff"],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
        "curl": [shutil.which("curl") or "curl", "--no-progress-meter", "--fail-with-body"],
    }.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.place}: {done.stdout} {done.stderr}"
    # An event stream reports an error by an event, after status 200.
    assert "event: error" not in done.stdout, f"{block.place}: {done.stdout}"


def run_commands(block: Block) -> None:
    """Run `blinddiff` commands in this process, which saves loading the libraries again."""
    for words in commands_of(block.text):
        try:
            code = cli.main(words[1:])
        except SystemExit as stop:
            code = int(stop.code or 0)
        assert code == 0, f"{block.place}: {shlex.join(words)}"


@pytest.mark.parametrize("page", runnable)
def test_blocks_run(page: str, here: Path, tables: None, request: pytest.FixtureRequest) -> None:
    if page in NEEDS:
        pytest.importorskip(NEEDS[page], reason=f"{NEEDS[page]} is not installed")
    blocks = BLOCKS[page]
    if any(SERVER in block.text for block in blocks if block.not_run is None):
        address = request.getfixturevalue("server")
        blocks = [replace(block, text=block.text.replace(SERVER, address)) for block in blocks]
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        if block.title is not None:
            Path(block.title).write_text(block.text)
        if block.not_run is not None:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, block.page, "exec"), names)
        elif block.language == "bash" and is_plain(block.text):
            run_commands(block)
        elif block.language == "bash":
            run_shell(block, here)


def test_the_quick_start_shows_what_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample's line, whose last digits may be rounded the other way.

    Instruction sets and numbers of threads change the residual by 1e-5. A larger difference comes from other weights
    or another method: then the page has to show the new line.
    """
    shown = next(block.text for block in BLOCKS["docs/quickstart.md"] if block.language == "text").strip()
    assert cli.main(["upscale", "src/blinddiff/samples/flowers.jpg", "-o", "out.png"]) == 0
    printed = capsys.readouterr().out.strip()
    number = r"-?[0-9]+(?:\.[0-9]+)?"
    pattern = "".join(
        "(.*)" if part == "..." else f"({number})" if re.fullmatch(number, part) else re.escape(part)
        for part in re.split(rf"(\.\.\.|{number})", shown)
    )
    found = re.fullmatch(pattern, printed)
    assert found, printed
    for expected, actual in zip(re.findall(number, shown), found.groups(), strict=False):
        last_digit = 10.0 ** -len(expected.partition(".")[2])
        assert float(expected) == pytest.approx(float(actual), rel=0, abs=1.01 * last_digit), printed


def check_command(words: list[str]) -> None:
    """Check a command without running it. Raises AssertionError."""
    command = shlex.join(words)
    arguments = blinddiff_arguments(words)
    if arguments is not None:
        try:
            cli._parser(arguments[0] if arguments else None).parse_args(arguments)
        except SystemExit as stop:
            assert stop.code in (0, None), f"{command}: the command line does not accept it"  # noqa: PT017
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), f"{command}: no such target in the Makefile"
    elif "pip" in words and "install" in words:
        project = (REPOSITORY / "pyproject.toml").read_text()
        declared = re.findall(r"^([a-z]+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE)
        for wanted in re.findall(r"(?:\.|blinddiff)\[([\w,-]+)\]", command):
            assert set(wanted.split(",")) <= set(declared), f"{command}: no such extra in pyproject.toml"
    elif "-m" in words and words[words.index("-m") + 1].startswith("blinddiff"):
        module = words[words.index("-m") + 1]
        assert importlib.util.find_spec(module) is not None, f"{command}: there is no module {module}"
    elif words[0] == "python" and words[1].startswith("scripts/"):
        assert (REPOSITORY / words[1]).is_file(), f"{command}: there is no {words[1]}"


@pytest.mark.parametrize("block", ALL, ids=named)
def test_blocks_are_well_formed(block: Block) -> None:
    assert block.language in RUN | DATA, f"{block.place}: name the block's language, one of {sorted(RUN | DATA)}"
    if block.language == "python":
        compile(block.text, block.place, "exec")
    elif block.language == "bash":
        checked = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"{block.place}: {checked.stderr}"
        for words in commands_of(block.text):
            check_command(words)
    elif block.language == "yaml":
        content = yaml.safe_load(block.text)
        if isinstance(content, dict) and "data" in content:
            parse_recipe(content, block.place)


def test_few_blocks_are_not_run() -> None:
    left_out = [f"{block.place}: {block.not_run}" for block in ALL if block.not_run is not None]
    assert len(left_out) <= MOST_NOT_RUN, "\n".join(left_out)
    assert all(block.language in RUN for block in ALL if block.not_run is not None)


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_from_these_tests(page: str) -> None:
    """Indented blocks, and `not run` comments without a block, would be overlooked."""
    text = re.sub(r"^ *```.*?^ *```$", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ {4,}(?:blinddiff|python|pip|make|torchrun|export) .*", text, re.MULTILINE) == []
    reasons = len(re.findall(r"^ *<!-- not run", PAGES[page], re.MULTILINE))
    assert reasons == sum(block.not_run is not None for block in BLOCKS[page])


@pytest.mark.parametrize("page", PAGES)
def test_options_named_in_running_text(page: str) -> None:
    parsers = {name: cli.command_parser(name) for name in cli.COMMANDS}
    options = {name: set(parser._option_string_actions) for name, parser in parsers.items()}
    known = {option for each in options.values() for option in each} | {"--version"} | OTHER_OPTIONS
    for code in inline_code(PAGES[page]):
        command = re.match(r"blinddiff ([a-z]+)", code)
        accepted = options[command[1]] if command and command[1] in options else known
        if code.startswith("pip install"):
            check_command(shlex.split(code))
        if command or code.startswith("--"):
            unknown = set(re.findall(r"(?<!\S)--[\w-]+", code)) - accepted
            assert not unknown, f"{page}: `{code}`"
        assert not command or command[1] in options, f"{page}: `{code}`: no such command"


@pytest.mark.parametrize(
    "command",
    [
        "blinddiff upscale photo.jpg -o out.png --scael 4",
        "blinddiff upscale photo.jpg -o out.png --scale 9",
        "blinddiff upscale -o out.png",
        "blinddiff enlarge photo.jpg",
        "torchrun --nproc_per_node 2 -m blinddiff train recipe.yaml --folder runs",
        "cat photo.jpg | blinddiff upscale - -o - --foo > out.png",
        "for name in a b; do blinddiff train $name.yaml --foo; done",
        "make dcos",
        "pip install 'blinddiff[gpu]'",
        "python -m blinddiff.evaluation.quotes README.md",
        "python scripts/quote.py README.md",
    ],
)
def test_wrong_commands_are_found(command: str) -> None:
    block = blocks_of(f"Text\n\n<!-- not run: wrong on purpose -->\n```bash\n{command}\n```\n", "page.md")[0]
    assert block.not_run == "wrong on purpose"
    with pytest.raises((AssertionError, ModuleNotFoundError)):
        test_blocks_are_well_formed(block)


def test_a_failing_block_is_reported(
    here: Path, tables: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for text in (
        "```bash\nblinddiff upscale nothing.jpg -o out.png\n```",
        "```bash\ncat nothing.jpg | wc\n```",
        "```python\nassert False\n```",
    ):
        monkeypatch.setitem(BLOCKS, "page.md", blocks_of(text + "\n", "page.md"))
        with pytest.raises(AssertionError):
            test_blocks_run("page.md", here, None, request)
