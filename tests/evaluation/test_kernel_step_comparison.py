"""The script that compares kernel steps: its record over all test sets of a protocol."""

import runpy
from pathlib import Path

import pytest

from blinddiff.evaluation.records import ImageResult

SCRIPT = Path(__file__).parents[2] / "scripts/compare_kernel_steps.py"


def test_pictures_of_one_name_in_two_sets_are_two():
    """Set5 and BSD100 both hold one called "a"; each counts with all its kernels."""
    gains = {("Set5", "a", 0): 0.1, ("Set5", "a", 1): 0.3, ("BSD100", "a", 0): 0.8}
    results = [
        ImageResult(method, *case, {"psnr_y": 30 + (gain if method == "fidelity" else 0)})
        for case, gain in gains.items()
        for method in ("kernel-once", "fidelity")
    ]
    combined_record = runpy.run_path(str(SCRIPT))["combined_record"]
    record = combined_record({"motion": results, "div2krk": results[:2]}, "python it")
    assert [part["set"] for part in record["sets"]] == ["motion", "div2krk"]
    [found] = [
        pair["estimate"]
        for pair in record["sets"][0]["differences"]["psnr_y"]
        if (pair["method"], pair["baseline"]) == ("fidelity", "kernel-once")
    ]
    assert found["mean"] == pytest.approx(0.4)
    assert (found["images"], found["values"]) == (2, 3)
