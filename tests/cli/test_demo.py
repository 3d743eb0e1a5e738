"""`blinddiff demo` with the weights and the photograph in the package."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blinddiff.files import DEFAULT_WEIGHTS

GENEROUS = 120.0  # seconds, on one busy core; the promise is 20 on two


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """The folder, what was printed, and the seconds that it took."""
    if not DEFAULT_WEIGHTS.is_dir():
        pytest.skip(f"the weights that ship are not there yet ({DEFAULT_WEIGHTS})")
    here = tmp_path_factory.mktemp("demo")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "blinddiff", "demo", "-o", "folder", "--device", "cpu"],
        cwd=here,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},  # it needs nothing from elsewhere
        capture_output=True,
        text=True,
        timeout=2 * GENEROUS,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stderr == ""  # no progress bar without a terminal
    return here / "folder", done.stdout, seconds


def test_every_file_is_there(demo: tuple[Path, str, float]) -> None:
    folder, printed, seconds = demo
    assert {path.name for path in folder.iterdir()} == {
        "input.png",
        "bicubic.png",
        "result.png",
        "kernel.png",
        "kernel.csv",
        "sheet.png",
    }
    assert str(Path("folder") / "sheet.png") in printed
    assert seconds < GENEROUS


def test_pictures(demo: tuple[Path, str, float]) -> None:
    folder, _, _ = demo
    pictures = {path.stem: Image.open(path).convert("RGB") for path in folder.glob("*.png")}
    width, height = pictures["input"].size
    assert min(width, height) >= 64
    for name in ("bicubic", "result"):
        assert pictures[name].size == (4 * width, 4 * height)
    for name, picture in pictures.items():
        assert np.asarray(picture).std() > 10, f"{name} is blank"
    assert min(pictures["kernel"].size) >= 31
    sheet_width, sheet_height = pictures["sheet"].size
    assert 1000 <= sheet_width <= 4000
    assert 600 <= sheet_height <= 4000


def test_the_result_is_the_photograph_and_sharper(demo: tuple[Path, str, float]) -> None:
    folder, _, _ = demo
    result, bicubic = (np.asarray(Image.open(folder / f"{n}.png").convert("L"), float) for n in ("result", "bicubic"))
    assert np.corrcoef(result.ravel(), bicubic.ravel())[0, 1] > 0.95
    detail = [np.abs(np.diff(image, axis=1)).mean() for image in (result, bicubic)]
    assert detail[0] > 1.1 * detail[1]


def test_the_kernel(demo: tuple[Path, str, float]) -> None:
    folder, _, _ = demo
    lines = (folder / "kernel.csv").read_text().splitlines()
    assert all(re.fullmatch(r"[\d.e+-]+(,[\d.e+-]+)*", line) for line in lines)
    kernel = np.array([[float(number) for number in line.split(",")] for line in lines])
    assert kernel.shape == (31, 31)
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-4)
    # The peak of a photograph's kernel lies near the middle.
    row, column = np.unravel_index(int(kernel.argmax()), kernel.shape)
    assert abs(row - 15) <= 5
    assert abs(column - 15) <= 5
