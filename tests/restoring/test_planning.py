"""What is said about a restoration before it begins."""

import time

import pytest
import torch

from blinddiff.errors import ParameterError
from blinddiff.restoring.engines import load_pipeline
from blinddiff.restoring.photograph import RestoreSettings
from blinddiff.restoring.plan import _RATES, Plan, duration, plan_restoration
from blinddiff.sampling.wrappers import plan_tiles


def test_plan_counts_the_tiles_that_are_run(tiny_pipeline, monkeypatch):
    monkeypatch.setattr("blinddiff.restoring.plan.seconds_per_pixel", lambda *_: 1e-6)
    settings = RestoreSettings(scale=2, samples=2, steps=3, max_memory=1)
    plan = plan_restoration(300, 500, settings, tiny_pipeline)
    tiles = list(plan_tiles(torch.zeros(2, 3, 300, 500), 2, tiny_pipeline.network, False, 1))
    assert plan.tiles == len(tiles) > 2
    assert (plan.height, plan.width) == (600, 1000)
    pixels = sum(tile.hr(torch.empty(2, 3, 600, 1000)).numel() / 3 for tile in tiles)
    assert plan.seconds == pytest.approx(3e-6 * pixels)
    whole = plan_restoration(300, 500, RestoreSettings(scale=2, samples=2), tiny_pipeline)
    assert whole.tiles == 1
    assert whole.memory > plan.memory
    with pytest.raises(ParameterError, match="at most 8"):
        plan_restoration(300, 500, RestoreSettings(width=5000), tiny_pipeline)


def test_plan_of_two_passes_adds_them_up(tiny_pipeline, monkeypatch):
    monkeypatch.setattr("blinddiff.restoring.plan.seconds_per_pixel", lambda *_: 1e-6)
    four, two, both = (
        plan_restoration(side, 10 * side, RestoreSettings(scale=scale), tiny_pipeline)
        for side, scale in ((20, 4), (80, 2), (20, 8))
    )
    assert both.seconds == pytest.approx(four.seconds + two.seconds)
    assert (both.tiles, both.memory, both.height, both.width) == (2, two.memory, 160, 1600)


def test_expected_time_is_right_within_a_factor_of_two():
    pipeline = load_pipeline(device="cpu")
    settings = RestoreSettings(scale=2, device="cpu")
    for _ in range(3):  # other programs may disturb one measurement
        _RATES.clear()
        plan = plan_restoration(120, 120, settings, pipeline)
        started = time.perf_counter()
        pipeline(torch.rand(3, 120, 120), scale=2, output_type="pt")
        ratio = (time.perf_counter() - started) / plan.seconds
        if 0.5 < ratio < 2:
            return
    pytest.fail(f"took {ratio:.2f} of the expected time")


def test_sentence():
    plan = Plan(1200, 1600, 1, 1_340_000_000, 44.6)
    assert plan.sentence() == "1600 x 1200 pixels; 1 tile; 1.3 GB of memory; about 45 s"
    assert [duration(seconds) for seconds in (0.1, 89, 95, 5369, 12000, 7200)] == [
        "1 s",
        "89 s",
        "2 min",
        "89 min",
        "3 h 20 min",
        "2 h",
    ]
