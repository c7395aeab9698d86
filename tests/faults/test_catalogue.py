"""The page on reliability tells the truth: each fault of the catalogue names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)
MISSING = {14, 16, 33, 40, 46, 52}  # the catalogue has no faults of these numbers
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
}


def test_page_names_every_fault_of_the_catalogue() -> None:
    """No fault is left out, and none is listed twice."""
    assert [int(number) for number, *_ in ROWS] == [n for n in range(1, 65) if n not in MISSING]


def test_page_names_tests_that_exist() -> None:
    """Every test that the page names is in the suite, and every fault has one, or the table of another."""
    for number, _, tests in ROWS:
        names = re.findall(r"`(test_\w+)`", tests)
        assert names or "the table of row" in tests, number
        assert set(names) <= TESTS, set(names) - TESTS


def test_page_has_no_open_places() -> None:
    """Nothing on the page is still to be filled in."""
    assert not re.findall(
        r"\b[A-Z]{5,}(?:_[A-Z]+)?\b", re.sub(r"```.*?```|SIG\w+|`[^`]*`", "", PAGE, flags=re.DOTALL)
    )
