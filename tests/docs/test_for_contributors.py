"""CONTRIBUTING describes the code as it is, and the tools for contributors work without a network."""

import re
from pathlib import Path

import pytest
import yaml
from blocks import REPOSITORY

PACKAGE = REPOSITORY / "src" / "blinddiff"
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
CONTRACT = re.compile(r"\ban? `([A-Z]\w+)` (?:in |\()`([\w/.]+)`")
HEADER, _, *ROWS = (line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("|"))


def place_of(path: str) -> Path:
    return (REPOSITORY if path.split("/")[0] in ("tests", "docs") else PACKAGE) / path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_table_of_components(row: list[str]) -> None:
    assert len(row) == len(HEADER)
    _, write, register, also = row
    for cell in (write, register, also):
        for path in re.findall(r"`([\w/.]+/[\w.]+|\w+\.py)`", cell):
            place = place_of(path)
            assert place.parent.is_dir() if place.stem == "NAME" else place.is_file(), path
    (path,) = re.findall(r"`([\w/]+\.py)`", register)
    source = place_of(path).read_text(encoding="utf-8")
    names = re.findall(r"`([A-Z_]+|__all__)`", register)
    assert names
    for name in names:
        assert re.search(rf"^{name}\b", source, re.MULTILINE), f"{name} is not in {path}"
    for name, other in re.findall(r"`([A-Z_]+)` in `([\w/.]+)`", also):
        assert re.search(rf"^{name}\b", place_of(other).read_text(encoding="utf-8"), re.MULTILINE), also
    contract = CONTRACT.search(write)
    if contract is not None:
        assert re.search(rf"^class {contract[1]}\b", place_of(contract[2]).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_was_read() -> None:
    assert len(ROWS) >= 14
    assert sum(CONTRACT.search(row[1]) is not None for row in ROWS) >= 8
    assert {"kernel family", "noise", "image step", "kernel step", "scheduler", "protocol", "metric"} <= {
        row[0] for row in ROWS
    }


def test_hooks_fetch_nothing() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/")


def test_issue_forms() -> None:
    forms = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    content = {form.stem: yaml.safe_load(form.read_text(encoding="utf-8")) for form in forms}
    assert set(content) == {"bug", "config", "feature", "photograph"}
    for name, form in content.items():
        if name != "config":
            assert {"name", "description", "body"} <= set(form)
            ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
            assert len(ids) == len(set(ids))
