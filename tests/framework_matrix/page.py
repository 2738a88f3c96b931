"""The table of the matrix, as `docs/frameworks.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.framework_matrix.checker import SLOW_ANSWER, Fault

_HEAD = f"""# Real frameworks, end to end

Written by `make frameworks`, which builds an environment for each framework and runs its program
(`tests/framework_matrix/programs`) in every way in which its spans can be made, always with our instrumentors beside.
A provider on loopback gives each request token counts that no other has, so each generation is matched with its
request; it answers at once, or after {SLOW_ANSWER} s. "built in" is the framework's own telemetry, "alone" means that
nobody but us makes spans of calls.

Checked for each call: one generation or embedding, of the right kind, with the tokens of the provider, the model that
answered, the input that was sent, known roles, and a latency that is no shorter than the answer took; one
`llm_completion_requested` and one outcome with the span and trace of each other. Checked for each trace: one head,
every parent in it, nothing beside the head, one trace for a run of an agent. Checked for each event: user, feature,
chat and session of the `ai_context`. Checked for each process: it ends well, loses nothing at its end, and writes to
stderr what it writes without us. A number behind a fault counts calls, traces or scenarios.

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
    unseen: Sequence[str] = ()
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


def page(rows: Iterable[Row]) -> str:
    """Return the whole page."""
    rows = list(rows)
    tried = [row for row in rows if not row.does_not_load]
    right = sum(not row.faults for row in tried)
    notes = [
        f"- {row.framework}, {row.way}: {', '.join(f'`{name}`' for name in row.unseen)} are not run. The framework sends"
        " these requests without the SDK that we instrument, and this way makes no span of them either."
        for row in rows
        if row.unseen and not row.slow
    ]
    tail = "\n".join(["", f"{right} of {len(tried)} cells are without a fault.", "", *notes]).rstrip()
    return f"{_HEAD}{chr(10).join(map(str, rows))}\n{tail}\n"
