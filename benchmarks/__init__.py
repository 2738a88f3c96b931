"""Measurements side by side with the neighbours; run one with `python -m benchmarks.<name>`."""

from __future__ import annotations

import sys
from collections.abc import Callable


def main_or_help(main: Callable[[], object], said: str | None) -> None:
    """Do what `main` does, or print what is said of it where somebody asks for help."""
    if {"-h", "--help"}.isdisjoint(sys.argv[1:]):
        main()
    else:
        print((said or "").strip())
