"""Records of the benchmarks: JSON files with the measurements and the machine."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch


def load_average() -> float | None:
    """The machine's load of the last minute, before a measurement; None where the system does not tell it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def write_record(path: Path, measured: dict[str, Any]) -> None:
    """Write and print measurements, with torch's version and the machine's kind."""
    text = json.dumps({**measured, "torch": torch.__version__, "machine": platform.machine()}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(text)
