"""Counts of events by their fate."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Counters:
    """Counts of events by name (those rejected or unsent also by reason), requests and bytes. Thread-safe."""

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Count from zero, with a new lock: a thread that is not in the child may hold the old one."""
        self._lock = threading.RLock()  # a signal handler may read the counts
        self._events: dict[str, Counter[str]] = {kind: Counter() for kind in ("delivered", "retried", "cut")}
        self._losses: dict[str, Counter[tuple[str, str]]] = {"refused": Counter(), "unsent": Counter()}
        self._requests = 0
        self._bytes = 0
        self._wire_bytes = 0

    def request(self, size: int, wire_size: int) -> None:
        """Count one HTTP attempt of `size` bytes of JSON, `wire_size` once compressed."""
        with self._lock:
            self._requests += 1
            self._bytes += size
            self._wire_bytes += wire_size

    def events(self, kind: str, names: Iterable[str]) -> None:
        """Count events as `delivered`, `retried` (once per further attempt) or `cut`."""
        with self._lock:
            self._events[kind].update(names)

    def losses(self, kind: str, names: Iterable[str], reason: str) -> None:
        """Count events as `refused` (rejected for good) or `unsent`."""
        with self._lock:
            self._losses[kind].update((name, reason) for name in names)

    def snapshot(self) -> dict[str, Any]:
        """Return all counts; see `DeliveryClient.stats`."""
        with self._lock:
            result: dict[str, Any] = {kind: dict(counts) for kind, counts in self._events.items()}
            for kind, counts in self._losses.items():
                by_name: dict[str, dict[str, int]] = {}
                for (name, reason), count in counts.items():
                    by_name.setdefault(name, {})[reason] = count
                result[kind] = by_name
            result["requests"] = self._requests
            result["bytes"] = self._bytes
            result["wire_bytes"] = self._wire_bytes
            return result
