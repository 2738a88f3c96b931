"""The arithmetic of `docs/scaling.md` follows from its one line of figures."""

from __future__ import annotations

from benchmarks.scale import PAGE, table, written


def test_the_table_is_what_the_line_gives() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert written(page) == page, "python -m benchmarks.scale --write"


def test_a_load_by_hand() -> None:
    """100,000 calls of 1.2 spans a minute are 2,000 spans a second; a core of 1,000 at 0.5 carries 500."""
    of = {"C": 1000.0, "U": 0.5, "S": 1.2, "E": 3.0, "W": 1000.0, "B": 2000.0}
    assert table(of).splitlines()[1] == "| 100,000 | 2,000 | 4 | 8 | 12.0 | 2.0 MB/s | 345.6 GB |"
