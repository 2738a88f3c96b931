"""One attempt after another until an answer is final or the deadline is near."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from otel_posthog.delivery.http.outcome import Outcome, Retry

BASE_SECONDS = 1.0
CAP_SECONDS = 30.0
PATIENCE = 4
"""Times that a server may fail at one batch (status 500) before the batch itself is suspected."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No answer was final in time; `reason` is `deadline`, `closed` or `halted`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """The server failed at this batch again and again, which one event of it may bring about."""

    reason: str


Final = Outcome | GaveUp | Suspect


def back_off(failures: int, random: float) -> float:
    """Return the seconds to wait after so many failures: 0 to min(30, 2^failures) with full jitter.

    Full jitter, because many processes lose a server at the same moment and must not all come back at one.
    """
    return random * min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(failures, 10))


class Retrying:
    """Exponential back-off; a `Retry-After` is the floor, with the jitter on top for the same reason."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object] | None,
        random: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._random = random

    def run(
        self,
        attempt: Callable[[float], Outcome],
        deadline: float,
        stop: threading.Event,
        retrying: Callable[[Retry], None],
    ) -> Final:
        """Call `attempt` with the seconds left until it is final; `retrying` hears of each wait before it.

        `stop` ends a wait, and there is no further attempt.
        """
        failures = suspicions = 0
        while True:
            if stop.is_set():
                return GaveUp("closed")
            left = deadline - self._clock()
            if left <= 0:
                return GaveUp("deadline")
            outcome = attempt(left)
            if not isinstance(outcome, Retry):
                return outcome
            suspicions += outcome.reason == "status_500"
            if suspicions >= PATIENCE:
                return Suspect(outcome.reason)
            wait = (outcome.after or 0.0) + back_off(failures, self._random())
            failures += 1
            if self._clock() + wait >= deadline:
                return GaveUp("deadline")  # the answer would be the same after sleeping
            retrying(outcome)
            (self._sleep or stop.wait)(wait)
