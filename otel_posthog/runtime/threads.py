"""Threads of the operating system, or greenlets where gevent was there first.

An application that gevent patches after we were imported would have `threading.Thread` run our loop as a
greenlet, in which our locks, made of the unpatched kind, stop all of it. What was imported together goes
together.
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
        RuntimeError: no thread can be started, for example at the end of the interpreter.
    """

    def named() -> None:
        threading.current_thread().name = NAME
        run()

    start_new_thread(named, ())
