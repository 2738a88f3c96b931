"""Warnings in the log that are not repeated: once in a process, or once a minute for each problem."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RateLimitedLog", "forget", "warn_once"]

INTERVAL_SECONDS = 60.0
MAX_PROBLEMS = 1000
"""Problems that a `RateLimitedLog` remembers: there may be many senders, each with its own."""

_logger = logging.getLogger("otel_posthog")
_logged: set[str] = set()


def warn_once(key: str, message: str, *args: object) -> None:
    """Log a warning, unless this process has logged one with the same `key`."""
    if key not in _logged:
        _logged.add(key)
        _logger.warning(message, *args)


def forget() -> None:
    """Let `warn_once` log every key again."""
    _logged.clear()


class RateLimitedLog:
    """A log that repeats no problem within a minute. Callers pass neither content nor keys."""

    def __init__(self, clock: Callable[[], float], logger: logging.Logger = _logger) -> None:
        self._clock = clock
        self._logger = logger
        self._logged_at: dict[str, float] = {}

    def is_due(self, problem: str) -> bool:
        """Whether `problem` was not logged within the last minute. If so, count it as logged now."""
        now = self._clock()
        last = self._logged_at.get(problem)
        if last is not None and now - last < INTERVAL_SECONDS:
            return False
        if len(self._logged_at) >= MAX_PROBLEMS:
            self._logged_at.clear()
        self._logged_at[problem] = now
        return True

    def warn(self, problem: str, message: str, *args: object) -> bool:
        """Log a warning, unless `problem` was logged within the last minute. Return whether it was logged."""
        due = self.is_due(problem)
        if due:
            self._logger.warning(message, *args)
        return due

    def info(self, message: str, *args: object) -> None:
        """Log that a problem is over."""
        self._logger.info(message, *args)
