"""The measurements that docs/reliability.md quotes: one small file per test, which writes it."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "results" / "reliability"


def note(name: str, figures: dict[str, Any]) -> None:
    """Store the measurements of a test."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def noted(name: str) -> dict[str, Any] | None:
    """The measurements of a test; None if it has stored none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
