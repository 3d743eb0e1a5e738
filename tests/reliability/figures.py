"""The figures that docs/reliability.md quotes, each a small file that its test, or its program, writes."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "results" / "reliability"


def note(name: str, figures: dict[str, Any]) -> None:
    """Keep the figures of a test."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def noted(name: str) -> dict[str, Any] | None:
    """The figures of a test; None if it has left none."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
