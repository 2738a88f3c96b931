"""`make frameworks`: run the matrix or a part, print what is wrong, and update `docs/frameworks.md`."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.framework_matrix.catalogue import FRAMEWORKS, Framework, Way
from tests.framework_matrix.checker import Evidence, calls, check
from tests.framework_matrix.environments import ROOT, prepare, version
from tests.framework_matrix.page import Row, page, summary
from tests.framework_matrix.run import Cell, listing, run

_PAGE = ROOT / "docs" / "frameworks.md"
# Most of a slow cell is waiting; the programs of fast ones are mostly imports.
_AT_ONCE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen part of the matrix; return 1 if there are faults."""
    options = _options(arguments)
    chosen = [
        (framework, way)
        for framework in FRAMEWORKS
        for way in framework.ways
        if not options.names or {framework.name, f"{framework.name}/{way.name}"} & set(options.names)
    ]
    if not chosen:
        print("no such framework; there are:", *(framework.name for framework in FRAMEWORKS))
        return 2
    places = {}
    for framework in dict.fromkeys(framework for framework, _ in chosen):
        started = time.monotonic()
        places[framework] = prepare(framework, newest=options.newest)
        print(
            f"{framework.title} {version(framework, places[framework])} ({time.monotonic() - started:.0f} s)"
        )
    pool = ThreadPoolExecutor(_AT_ONCE)
    speeds = [slow for slow in (False, True) if options.speed in (None, slow)]
    runs = [
        pool.submit(_rows, framework, way, speeds, places[framework], options) for framework, way in chosen
    ]
    rows: list[Row] = []
    for each in runs:
        rows += each.result()
        if not options.scenarios:  # after each way: half an hour of results is not to hang on the last one
            before = _PAGE.read_text() if _PAGE.exists() else ""
            _PAGE.write_text(page(rows, before))
    faults = sum(len(row.faults) for row in rows)
    print(f"{sum(not row.faults for row in rows)} of {len(rows)} cells without a fault, {faults} faults")
    return int(bool(faults))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.framework_matrix", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FRAMEWORK[/WAY]", help="all of them if none is named")
    speed = parser.add_mutually_exclusive_group()
    speed.add_argument("--fast", dest="speed", action="store_false", default=None, help="fast answers only")
    speed.add_argument("--slow", dest="speed", action="store_true", default=None, help="slow answers only")
    parser.add_argument("--scenarios", default="", metavar="NAME,NAME", help="only these of each program")
    parser.add_argument("--events", action="store_true", help="print every event")
    parser.add_argument(
        "--newest", action="store_true", help="install the newest versions, and keep them as constraints"
    )
    return parser.parse_args(arguments)


def _rows(
    framework: Framework, way: Way, speeds: Sequence[bool], place: Path, options: argparse.Namespace
) -> list[Row]:
    """Run a way at each speed, after one run without the product for what stderr has anyway."""
    installed = version(framework, place)
    if way.does_not_load:
        return [Row(framework.title, installed, way.name, False, 0, 0, does_not_load=way.does_not_load)]
    known: Sequence[str] = ()
    if framework.language == "python":
        known = run(Cell(framework, way), place, options.scenarios, bare=True).stderr
    rows = []
    for slow in speeds:
        cell = Cell(framework, way, slow)
        evidence = run(cell, place, options.scenarios, known)
        faults = check(evidence)
        _report(cell, evidence, [str(fault) for fault in faults], summary(faults), events=options.events)
        rows.append(
            Row(
                framework.title,
                installed,
                way.name,
                slow,
                len(evidence.requests),
                calls(evidence),
                faults,
            )
        )
    return rows


_printing = threading.Lock()


def _report(cell: Cell, evidence: Evidence, faults: Sequence[str], short: str, *, events: bool) -> None:
    """Print a progress line, then the faults below it."""
    with _printing:
        counts = f"{len(evidence.requests)} requests, {calls(evidence)} generations, {evidence.seconds:.0f} s"
        print(f"{cell.title}: {counts}: {short}")
        for fault in faults:
            print(f"    {fault}")
        if events:
            print(listing(evidence))
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
