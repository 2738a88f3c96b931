"""Threads of the operating system, or greenlets if gevent patched the process before our import.

If gevent patches after our import, `threading.Thread` would run our loop as a greenlet, while our locks are
still of the unpatched kind and would block every greenlet. A start function imported at the same time as the
locks is of the same kind as they are.
"""

from __future__ import annotations

import threading
from _thread import start_new_thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "otel-posthog"


def start_thread(run: Callable[[], None]) -> None:
    """Run a function on a daemon thread of its own.

    Raises:
        RuntimeError: no thread can be started, for example while the interpreter shuts down.
    """

    def named() -> None:
        threading.current_thread().name = NAME
        run()

    start_new_thread(named, ())
