"""Attempts at one request, repeated until an outcome is final or the deadline is near."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from otel_posthog.delivery.http.outcome import Outcome, Retry

BASE_SECONDS = 1.0
CAP_SECONDS = 30.0
SUSPICIOUS_FAILURES = 4
"""Failures of the server (status 500) at one batch after which the batch itself is suspected."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No outcome was final in time; `reason` is `deadline`, `closed` or `halted`."""

    reason: str


@dataclass(frozen=True, slots=True)
class SuspectBatch:
    """The server failed at this batch several times; one event of it may be the cause."""

    reason: str


FinalOutcome = Outcome | GaveUp | SuspectBatch


RetryUntilFinal = Callable[
    [Callable[[float], Outcome], float, threading.Event, Callable[[Retry], None]], FinalOutcome
]
"""`retry_until_final` with its clock, sleep and random bound."""


def back_off(failures: int, random: float) -> float:
    """Return the seconds to wait after `failures` failures: 0 to min(30, 2^failures), with full jitter.

    Many processes lose a server at the same moment. Full jitter spreads their return.
    """
    return random * min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(failures, 10))


def retry_until_final(
    attempt: Callable[[float], Outcome],
    deadline: float,
    stop: threading.Event,
    on_retry: Callable[[Retry], None],
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], object] | None,
    random: Callable[[], float],
) -> FinalOutcome:
    """Call `attempt` with the seconds left until its outcome is final, with exponential back-off.

    `on_retry` is called before each wait. A `Retry-After` is the shortest wait; the jitter comes on top of
    it, so that clients do not return together. `stop` ends a wait, and there is no further attempt. Without
    `sleep`, waits end when `stop` is set.
    """
    failures = server_failures = 0
    while True:
        if stop.is_set():
            return GaveUp("closed")
        left = deadline - clock()
        if left <= 0:
            return GaveUp("deadline")
        outcome = attempt(left)
        if not isinstance(outcome, Retry):
            return outcome
        server_failures += outcome.reason == "status_500"
        if server_failures >= SUSPICIOUS_FAILURES:
            return SuspectBatch(outcome.reason)
        wait = (outcome.after or 0.0) + back_off(failures, random())
        failures += 1
        if clock() + wait >= deadline:
            return GaveUp("deadline")  # the result would be the same after the wait
        on_retry(outcome)
        (sleep or stop.wait)(wait)
