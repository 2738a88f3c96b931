"""Measurements side by side with the neighbours; run one with `python -m benchmarks.<name>`."""

from __future__ import annotations

import sys
from collections.abc import Callable


def main_or_help(main: Callable[[], object], help_text: str | None) -> None:
    """Run `main`, or print its help text if `-h` or `--help` is given."""
    if {"-h", "--help"}.isdisjoint(sys.argv[1:]):
        main()
    else:
        print((help_text or "").strip())
