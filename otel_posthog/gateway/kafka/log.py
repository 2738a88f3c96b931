"""Keeps the log of a Kafka client readable: one that finds no broker says so twenty times a second."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["OncePerMinute"]

SECONDS = 60.0


class OncePerMinute(logging.Filter):
    """Lets records about one problem pass once a minute.

    The problem is the record's `problem`, or of librdkafka's own lines the word that they begin with; records
    without one pass.
    """

    def __init__(self, *, by_first_word: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._by_first_word = by_first_word
        self._clock = clock
        self._again: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        problem = getattr(record, "problem", None)
        if self._by_first_word:
            problem = record.getMessage().partition(" ")[0]
        if problem is None:
            return True
        now = self._clock()
        if now < self._again.get(problem, now):
            return False
        self._again[problem] = now + SECONDS
        return True
