"""docs/formats.md describes what the command line does."""

from formats_page import PAGE, make_page


def test_the_page_is_up_to_date(tiny_weights, tmp_path):
    made = make_page(tiny_weights, tmp_path)
    assert "| lost" not in made
    assert made == PAGE.read_text(encoding="utf-8"), "run `python scripts/formats_page.py`"
