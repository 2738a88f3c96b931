"""One attempt after another until an answer is final or the deadline is near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_posthog.delivery.outcome import Delivered, Invalid, Outcome, Refused, Retry, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_SECONDS = 1.0
CAP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class GaveUp:
    """No answer was final in time; `reason` is `deadline` or `closed`."""

    reason: str


Final = Delivered | TooLarge | Invalid | Refused | GaveUp


class Retrying:
    """Exponential back-off with full jitter: after the n-th failure wait 0 to min(30, 2^n) seconds.

    Full jitter, because many processes lose a server at the same moment and must not all come back at one.
    A `Retry-After` is the floor, with the jitter on top for the same reason.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        random: Callable[[], float],
        closed: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._closed = closed

    def run(
        self, attempt: Callable[[float], Outcome], deadline: float, retrying: Callable[[Retry], None]
    ) -> Final:
        """Call `attempt` with the seconds left until it is final; `retrying` hears of each wait before it."""
        failures = 0
        while True:
            if self._closed():
                return GaveUp("closed")
            left = deadline - self._clock()
            if left <= 0:
                return GaveUp("deadline")
            outcome = attempt(left)
            if not isinstance(outcome, Retry):
                return outcome
            wait = (outcome.after or 0.0) + self._random() * min(CAP_SECONDS, BASE_SECONDS * 2**failures)
            failures = min(failures + 1, 10)
            if self._clock() + wait >= deadline:
                return GaveUp("deadline")  # the answer would be the same after sleeping
            retrying(outcome)
            self._sleep(wait)
