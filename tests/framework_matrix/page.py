"""The table of the matrix, as `docs/frameworks.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.framework_matrix.catalogue import FRAMEWORKS
from tests.framework_matrix.checker import SLOW_ANSWER, Fault

_HEAD = f"""# Real frameworks, end to end

`make frameworks` writes this page. It builds an environment for each framework and runs its program
(`tests/framework_matrix/programs`) with every instrumentor of that framework, always beside ours. A provider on loopback
gives each request token counts that no other request has, so that each generation can be matched with its request. It
answers at once, or after {SLOW_ANSWER} s. "built in" is the framework's own telemetry; "alone" means that only our
instrumentors make spans of calls; "one-line use" means no code, by environment variables.

The checks:

- **Each call:** one generation or embedding, of the right kind, with the tokens of the provider, the model that
  answered, the input that was sent, known roles, and a latency no shorter than the answer took; one
  `llm_completion_requested` and one outcome with the span and trace of each other.
- **Each trace:** one head, every parent in it, nothing beside the head, one trace for one run of an agent.
- **Each event:** user, feature, chat and session of the `ai_context`.
- **Each process:** it ends well, loses nothing at its end, and writes no line to stderr that it does not write without
  us.

A number behind a fault counts calls, traces or scenarios.

| framework | version | instrumentation | answers | requests | generations | faults |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One cell of the matrix, as the table shows it."""

    framework: str
    version: str
    way: str
    slow: bool
    requests: int
    generations: int
    faults: Sequence[Fault] = ()
    does_not_load: str = ""

    def __str__(self) -> str:
        """Return the line of the table."""
        if self.does_not_load:
            return f"| {self.framework} | {self.version} | {self.way} | | | | cannot be tried: {self.does_not_load} |"
        answers = "slow" if self.slow else "fast"
        figures = f"{answers} | {self.requests} | {self.generations}"
        return f"| {self.framework} | {self.version} | {self.way} | {figures} | {summary(self.faults)} |"


def summary(faults: Iterable[Fault]) -> str:
    """Return the kinds of faults in a few words, the most frequent first."""
    kinds = Counter(fault.kind for fault in faults)
    return "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common()) or "none"


def page(rows: Iterable[Row], before: str = "") -> str:
    """Return the whole page: the rows, and those of the page before that were not run again."""
    lines = {
        _key(line): line for line in before.splitlines() if line.startswith("| ") and line.count("|") == 8
    }
    lines |= {_key(line): line for line in map(str, rows)}
    table = [lines[key] for key in _order() if key in lines]
    tried = [line for line in table if "cannot be tried" not in line]
    right = sum(line.endswith("| none |") for line in tried)
    notes = [
        f"- {framework.title}, {way.name}: {', '.join(f'`{name}`' for name in way.unseen)} are not run. The framework"
        " sends these requests without the SDK that we instrument, and this way makes no span of them either."
        for framework in FRAMEWORKS
        for way in framework.ways
        if way.unseen
    ]
    tail = "\n".join(["", f"{right} of {len(tried)} rows are without a fault.", "", *notes])
    return f"{_HEAD}{chr(10).join(table)}\n{tail}\n"


def _key(line: str) -> tuple[str, ...]:
    """Return what names a row: framework, instrumentation and how fast answers come."""
    cells = [cell.strip() for cell in line.split("|")]
    return cells[1], cells[3], cells[4]


def _order() -> Iterator[tuple[str, ...]]:
    for framework in FRAMEWORKS:
        for way in framework.ways:
            for answers in ("",) if way.does_not_load else ("fast", "slow"):
                yield framework.title, way.name, answers
