"""What is said to a person, once a process."""

from __future__ import annotations

import logging

__all__ = ["forget", "warn_once"]

_log = logging.getLogger("otel_posthog")
_said: set[str] = set()


def warn_once(key: str, sentence: str, *values: object) -> None:
    """Warn, the first time in this process that `key` comes up."""
    if key not in _said:
        _said.add(key)
        _log.warning(sentence, *values)


def forget() -> None:
    """Say everything anew."""
    _said.clear()
