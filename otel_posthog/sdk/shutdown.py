"""The end of a process, of any kind: the queue is sent, or on disk.

- At a normal end, also after an exception, OpenTelemetry's provider shuts its processors down; the rest is
  finished after that.
- `SIGTERM` with the default handler ends a process without any of this. We replace that default handler with
  one that flushes and then lets the process die of the signal. A handler of the application stays in charge.
- Children of `multiprocessing` leave without `atexit` but run finalizers. Celery's children run neither; they
  send a signal of Celery's.

`os._exit` and `kill -9` leave no time: `durability=always` is for them.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import weakref
from functools import partial
from typing import Any, Protocol

from opentelemetry import trace

from otel_posthog.runtime.forks import follow_forks

_FINALIZERS = ("multiprocessing.util", "billiard.util")
_CELERY = "celery.signals"
_AFTER_ALL_OTHERS = -100


class Finished(Protocol):
    """An exporter or processor that is finished when the process ends."""

    @property
    def behind_others(self) -> bool:
        """Whether the spans come through a processor of others, which may still hold some."""

    def finish(self, *, last: bool) -> None:
        """Send the queue, within the time that an end may take; `last`: nothing comes after this."""


class _Ends:
    """The ends of this process that we take part in."""

    def __init__(self) -> None:
        self.finished: weakref.WeakSet[Finished] = weakref.WeakSet()
        self.armed = False
        """Whether the handler of SIGTERM was checked in this process."""
        self._registered: set[str] = set()
        atexit.register(self.finish)
        follow_forks(self)

    def finish(self, *, last: bool = False) -> None:
        """Finish everything that is left."""
        for each in [*self.finished]:
            each.finish(last=last)

    def on_sigterm(self, number: int, _: Any) -> None:
        """Flush, then die of the signal."""
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        try:
            flush = getattr(trace.get_tracer_provider(), "force_flush", None)
            if flush is not None and any(each.behind_others for each in self.finished):
                flush()
            self.finish(last=True)
        finally:
            os.kill(os.getpid(), number)

    def after_fork_in_child(self) -> None:
        """Register a finalizer in children of libraries that run them."""
        self.armed = False  # Celery resets signals in its children, after this
        for name in _FINALIZERS:
            util = sys.modules.get(name)
            if util is not None and name not in self._registered:
                self._registered.add(name)
                util.register_after_fork(self, partial(_finalize, util))
        celery = sys.modules.get(_CELERY)
        if celery is not None and _CELERY not in self._registered:
            self._registered.add(_CELERY)
            celery.worker_process_shutdown.connect(self._on_celery, weak=False)

    def _on_celery(self, **_: Any) -> None:
        self.finish(last=True)


def _finalize(util: Any, ends: _Ends) -> None:
    util.Finalize(None, ends.finish, exitpriority=_AFTER_ALL_OTHERS)


_ends = _Ends()


def finish_at_exit(finished: Finished) -> None:
    """Finish `finished` when the process ends, unless it is gone by then."""
    _ends.finished.add(finished)
    install_sigterm_handler()


def install_sigterm_handler() -> None:
    """Replace the default handler of SIGTERM with ours, once a process, on its main thread."""
    if _ends.armed or threading.current_thread() is not threading.main_thread():
        return
    _ends.armed = True
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _ends.on_sigterm)
