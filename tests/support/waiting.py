"""Waiting for other processes, and ports for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds for what a process does at once, on a machine that is busy."""


def until(condition: Callable[[], T | None], what: str = "it happens", seconds: float = PATIENCE) -> T:
    """What `condition` answers as soon as that is true; `what` says in a failure what was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
