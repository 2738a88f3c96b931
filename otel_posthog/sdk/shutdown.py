"""The end of a process, in whichever way it comes: what waits is sent, or on disk.

- At a normal end, also after an exception, OpenTelemetry's provider shuts its processors down; what nobody
  shut down is finished after that.
- `SIGTERM` with the default handler ends a process without any of this. Where that handler is in place, one
  of ours flushes and then lets the process die of the signal; an application's own handler is left in charge.
- Children of `multiprocessing` leave without `atexit`; they have finalizers. Celery's leave without either;
  they send a signal of Celery's.

`os._exit` and `kill -9` leave no time for anything: for them there is `durability=always`.
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
    """What is to be finished when the process ends."""

    @property
    def behind_others(self) -> bool:
        """Whether the spans come through a processor of others, which may still hold some."""

    def finish(self, *, last: bool) -> None:
        """Send what waits, within the time that an end may take; `last`: nothing comes after this."""


class _Ends:
    """The ends of this process that we have a say in."""

    def __init__(self) -> None:
        self.finished: weakref.WeakSet[Finished] = weakref.WeakSet()
        self.armed = False
        """Whether the handler of SIGTERM was looked at in this process."""
        self._registered: set[str] = set()
        atexit.register(self.finish)
        follow_forks(self)

    def finish(self, *, last: bool = False) -> None:
        """Finish all that is left."""
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
        """Children of those that run finalizers get one."""
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


def finish_at_the_end(finished: Finished) -> None:
    """See to it that something is finished when the process ends, as long as it lives."""
    _ends.finished.add(finished)
    arm()


def arm() -> None:
    """Put our handler in the place of SIGTERM's default one, once a process, on its main thread."""
    if _ends.armed or threading.current_thread() is not threading.main_thread():
        return
    _ends.armed = True
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _ends.on_sigterm)
