"""The weights that ship with the package."""

from pathlib import Path

DEFAULT_WEIGHTS = Path(__file__).parent / "default"
