"""Pages that the site's build makes from files outside docs, and what the build refuses."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from blocks import REPOSITORY

from blinddiff.cli.main import COMMANDS, command_parser

pytest.importorskip("mkdocs", reason="the site's packages (extra docs) are not installed")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", REPOSITORY / "scripts" / "site_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (
        "docs/guides/one.md",
        "results/run_x4/report.md",
        "results/group/run_x2/report.md",
        "src/code.py",
        "CHANGELOG.md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("source", "page", "text", "expected"),
    [
        ("docs/a.md", "a.md", "[r](../results/run_x4/report.md)", "[r](records/run_x4.md)"),
        ("docs/a.md", "a.md", "[r](../results/group/run_x2/report.md)", "[r](records/group/run_x2.md)"),
        ("docs/a.md", "a.md", "[c](../CHANGELOG.md#top)", "[c](changelog.md#top)"),
        ("docs/guides/one.md", "guides/one.md", "[c](../../CHANGELOG.md)", "[c](../changelog.md)"),
        ("CHANGELOG.md", "changelog.md", "[one](docs/guides/one.md)", "[one](guides/one.md)"),
        ("CHANGELOG.md", "changelog.md", "[code](src/code.py) is code", "code is code"),
        ("docs/a.md", "a.md", "[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("docs/a.md", "a.md", "[f][blinddiff.f]", "[f][blinddiff.f]"),
        ("docs/a.md", "a.md", "[gone](gone.md)", "[gone](gone.md)"),  # left for the strict build to report
    ],
)
def test_links(site: ModuleType, root: Path, source: str, page: str, text: str, expected: str) -> None:
    assert site.relinked(text, root / source, page, root) == expected


def test_front_matter_is_left_out(site: ModuleType) -> None:
    assert site.without_front_matter("---\nlicense: x\n---\n# Card\n\n---\n") == "# Card\n\n---\n"
    assert site.without_front_matter("# Card\n---\na\n---\n") == "# Card\n---\na\n---\n"


@pytest.mark.parametrize(
    ("page", "loads"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', True),
        ("<img src=//example.org/x.png>", True),
        ('<link rel="stylesheet" href="https://fonts.example.org/css">', True),
        ('<a href="https://example.org">link</a> <script src="assets/x.js"></script>', False),
        ('<link rel="stylesheet" href="../assets/x.css"> https://example.org', False),
    ],
)
def test_loading_from_other_servers_is_found(site: ModuleType, page: str, loads: bool) -> None:
    assert (site.LOADED.search(page) is not None) == loads


def test_every_option_is_in_the_tables(site: ModuleType) -> None:
    tables = site.option_tables()
    sections = dict(zip(*[iter(re.split(r"^## blinddiff (\w+)$", tables, flags=re.MULTILINE)[1:])] * 2, strict=True))
    assert set(sections) == set(COMMANDS)
    for name, section in sections.items():
        for option in command_parser(name)._option_string_actions:
            if option not in ("-h", "--help"):
                assert f"`{option}`" in section, (name, option)
