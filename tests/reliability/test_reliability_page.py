"""docs/reliability.md quotes the current measurements."""

import re
from pathlib import Path

from reliability_page import PAGE, make_page

TESTS = Path(__file__).parents[1]


def test_the_page_is_up_to_date():
    assert make_page() == PAGE.read_text(encoding="utf-8"), "run `python scripts/reliability_page.py`"


def test_the_tests_it_names_are_there():
    named = re.findall(r"`(\w+/test_\w+\.py)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 10
    assert all((TESTS / name).is_file() for name in named)
