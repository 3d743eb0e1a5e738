"""The page on performance says what the record says."""

import json
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECORD = REPOSITORY / "results" / "performance" / "published_loop.json"
SERVICE = REPOSITORY / "results" / "performance" / "service.json"
BUSY = REPOSITORY / "results" / "performance" / "busy_machine.json"


def test_the_published_loop_is_quoted_from_its_record() -> None:
    page = REPOSITORY / "docs" / "performance.md"
    if not page.is_file() or not RECORD.is_file():
        pytest.skip("docs and results are not beside this copy of the package")
    record = json.loads(RECORD.read_text())
    seconds = record["seconds_per_step"]
    text = page.read_text(encoding="utf-8")
    for figure in (f"{seconds['as published']:.2f} s", f"{seconds['blinddiff']:.2f} s", f"{record['ratio']:.2f} times"):
        assert figure in text
    assert record["parameters"] == pytest.approx(26.51e6, rel=2e-3)
    assert record["largest_difference_of_x"] < 1e-4


def test_the_load_of_the_service_is_quoted_from_its_record() -> None:
    page = REPOSITORY / "docs" / "guides" / "service.md"
    if not page.is_file() or not SERVICE.is_file():
        pytest.skip("docs and results are not beside this copy of the package")
    record = json.loads(SERVICE.read_text())
    text = " ".join(page.read_text(encoding="utf-8").split())
    for quoted in (
        f"restored {record['images']} small photographs of 20 clients, with 16 places in the queue: ",
        f"{record['refused']} requests were refused and sent again, {record['errors']} failed.",
        f"took {record['alone']:.2f} s alone, and {1 / record['images_per_second']:.2f} s on average under load",
        f"answered within {record['request_latency']['p50']:.0f} s",
    ):
        assert quoted in text
    assert "--clients 20" in record["command"]
    assert "--queue 16" in record["command"]
    assert record["errors"] == 0


def test_two_restorations_at_once_are_quoted_from_their_record() -> None:
    page = REPOSITORY / "docs" / "performance.md"
    if not page.is_file() or not BUSY.is_file():
        pytest.skip("docs and results are not beside this copy of the package")
    ratios = json.loads(BUSY.read_text())["at_once_over_in_turn"]
    text = page.read_text(encoding="utf-8")
    for name in ("spinning", "sleeping"):
        assert f"{ratios[name]:.2f} times" in text
    assert ratios["sleeping"] <= 1.3, "two at once need at most 1.3 times the time of two in turn"
