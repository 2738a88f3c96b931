"""The table of `docs/scaling.md`, worked out from its one line of figures that were measured or assumed.

python -m benchmarks.scale            # print the table as it should be
python -m benchmarks.scale --write    # after a change of the line
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from benchmarks import main_or_help

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
LOADS = (1_000, 100_000, 10_000_000)
_LINE = re.compile(r"^(C = [\d,]+.*)$", re.MULTILINE)
_ROWS = re.compile(r"(?<=\|---\|---\|---\|---\|---\|---\|---\|\n)(\|.*\n)+")


def figures(page: str) -> dict[str, float]:
    """The terms of the line, by letter."""
    [line] = _LINE.findall(page)
    return {name: float(value.replace(",", "")) for name, value in re.findall(r"(\w) = ([\d.,]*\d)", line)}


def table(of: dict[str, float]) -> str:
    """The rows, a load each."""
    rows = []
    for calls in LOADS:
        spans = calls * of["S"] / 60
        cores = math.ceil(spans / (of["C"] * of["U"]))
        cells = (
            f"{calls:,}",
            f"{spans:,.0f}",
            f"{cores:,}",
            f"{max(2 * cores, 4):,}",
            f"{spans * of['E'] / 500:,.1f}",
            _bytes(spans * of["W"]) + "/s",
            _bytes(spans * of["B"] * 86_400),
        )
        rows.append("| " + " | ".join(cells) + " |\n")
    return "".join(rows)


def _bytes(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:,.1f} {unit}"


def written(page: str) -> str:
    """The page with the table that its line gives."""
    return _ROWS.sub(table(figures(page)), page, count=1)


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written(text), encoding="utf-8")
    else:
        print(table(figures(text)), end="")


if __name__ == "__main__":
    main_or_help(main, __doc__)
