"""What every test may rely on: no key or option of the developer's own, and warnings said afresh."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from otel_posthog.runtime import log

# Whoever runs us in the background may have these ignored, and what we start would inherit that.
for _each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_each) == signal.SIG_IGN:
        signal.signal(_each, signal.SIG_DFL)


if os.environ.get("OTEL_POSTHOG_FEWER_EXAMPLES"):  # where the same ran before, on another Python
    settings.register_profile("fewer", max_examples=25, deadline=None)
    settings.load_profile("fewer")

_OFTEN = 20


def pytest_runtest_setup() -> None:
    """Spare the collector all that stays: several hundred tests have it run, a tenth of a second each."""
    if next(_started) % _OFTEN == 0:
        gc.collect()
        gc.freeze()


_started = itertools.count()


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_", "OPENAI_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    log.forget()
    yield
    log.forget()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line for each part that this machine lacks what was not tested for want of it."""
    left_out = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", ())
        if isinstance(report.longrepr, tuple) and "left out: " in report.longrepr[2]
    )
    for why, count in sorted(left_out.items()):
        terminalreporter.write_line(f"{count} tests {why}", yellow=True)
