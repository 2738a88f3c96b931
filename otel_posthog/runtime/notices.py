"""One sentence per problem in the log, at most once a minute each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger("otel_posthog")

INTERVAL_SECONDS = 60.0
MAX_PROBLEMS = 1000
"""That are remembered: senders may be many."""


class RateLimitedLog:
    """Says what is wrong and what to do; never content, never a key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}

    def warn(self, problem: str, sentence: str, *values: object) -> bool:
        """Log `sentence` as a warning, unless `problem` was logged within the last minute; whether it is."""
        now = self._clock()
        last = self._said.get(problem)
        if last is not None and now - last < INTERVAL_SECONDS:
            return False
        if len(self._said) >= MAX_PROBLEMS:
            self._said.clear()
        self._said[problem] = now
        _logger.warning(sentence, *values)
        return True

    def info(self, sentence: str, *values: object) -> None:
        """Log that something of which there was a warning is over."""
        _logger.info(sentence, *values)
