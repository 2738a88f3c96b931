"""The application's `mask`: it sees each property that may hold text, last of all, and decides what leaves.

A mask runs on a thread beside the one that waits for it, since Python cannot end a call that never returns.
If it raises, takes more than `SECONDS`, or has no thread, the property is left out and counted: it may have
been meant to be hidden. The event leaves in any case.
"""

from __future__ import annotations

import threading
import time
import weakref
from _thread import allocate_lock
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from otel_posthog.conversion.privacy.allow_list import unsafe_fields
from otel_posthog.forwarder.event_finisher import Event
from otel_posthog.runtime.log import warn_once
from otel_posthog.runtime.threads import start_thread

__all__ = ["Mask", "MaskHook"]

Mask = Callable[[Any, str, Event], Any]
"""A function of a value, its path (`$ai_input`, `metadata.plan`) and the event; None leaves it out."""

SECONDS = 1.0
"""The most seconds that a mask may take for one property."""
MOST_STUCK = 8
"""Calls that never returned, each of which holds a thread; after so many the mask is disabled."""

FieldPath = tuple[str, ...]


# These are of the same kind as the threads of `runtime.threads`, whenever gevent patches.


def _held() -> Any:
    """Return a lock that another thread releases."""
    lock = allocate_lock()
    lock.acquire()
    return lock


def _wait(lock: Any, seconds: float) -> bool:
    """Return whether the lock was released in time."""
    return bool(lock.acquire(True, seconds))


class _Job:
    """The properties of one event, masked one after the other."""

    def __init__(self, mask: Mask, event: Event, fields: list[tuple[FieldPath, Any]]) -> None:
        self.mask, self.event, self.fields = mask, event, fields
        self.answers: list[Any] = []
        self.lock = allocate_lock()
        self.over = _held()
        self.given_up = False


class _Failed:
    """The outcome of a property that the mask did not return a value for."""

    def __init__(self, reason: str, kind: str = "") -> None:
        self.reason, self.kind = reason, kind


class _Worker:
    """A thread that runs a mask; it ends after a call that nobody waits for any more."""

    def __init__(self, clock: Callable[[], float], seconds: float, back: Callable[[], None]) -> None:
        self._clock, self._seconds, self._back = clock, seconds, back
        self._job: _Job | None = None
        self._wanted = _held()

    def give(self, job: _Job | None) -> None:
        """Give the worker a job; None ends it."""
        self._job = job
        self._wanted.release()

    def run(self) -> None:
        while True:
            self._wanted.acquire()
            job = self._job
            if job is None:
                return
            self._job = None
            for place, value in job.fields:
                answer = self._ask(job, place, value)
                with job.lock:
                    if job.given_up:
                        self._back()
                        return
                    job.answers.append(answer)
            job.over.release()
            del job, place, value, answer  # an idle worker holds no prompt

    def _ask(self, job: _Job, place: FieldPath, value: Any) -> Any:
        began = self._clock()
        try:
            answer = job.mask(value, _path(place), job.event)
        except BaseException as error:  # noqa: BLE001  # the application's code
            return _Failed("failed", type(error).__name__)
        return answer if self._clock() - began <= self._seconds else _Failed("too_slow")


def _let_go(idle: list[_Worker]) -> None:
    while idle:
        idle.pop().give(None)


def _copied(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy, down to the masked values, that the mask may write to."""
    return {name: {**value} if type(value) is dict else value for name, value in properties.items()}


class MaskHook:
    """The mask, applied to events. Threads may share it; each waits for its own events only."""

    def __init__(
        self,
        mask: Mask,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = start_thread,
        wait: Callable[[Any, float], bool] = _wait,
    ) -> None:
        self._mask, self._seconds, self._clock = mask, seconds, clock
        self._start, self._wait = start, wait
        self._rest: weakref.finalize[[list[_Worker]], MaskHook] | None = None
        self.reset_after_fork()
        # At the end of the interpreter no thread can be started.
        worker = self._new()
        if worker is not None:
            self._idle.append(worker)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child, which has no threads of ours, with no counts."""
        self._lock = threading.RLock()  # a signal handler may ask for counts
        self._counts: Counter[str] = Counter()
        self._stuck = 0
        if self._rest is not None:
            self._rest.detach()
        self._idle: list[_Worker] = []
        self._rest = weakref.finalize(self, _let_go, self._idle)
        self._rest.atexit = False

    def stats(self) -> dict[str, int]:
        """Return the number of properties left out: the mask `failed`, was `too_slow`, or had no thread."""
        with self._lock:
            return dict(self._counts)

    def __call__(self, event: Event) -> Event:
        """Return the event as the mask leaves it."""
        properties = event["properties"]
        if not isinstance(properties, Mapping):
            return event
        fields = [(place, _at(properties, place)) for place in unsafe_fields(event)]
        if not fields:
            return event
        answers = self._answers({**event, "properties": _copied(properties)}, fields)
        masked = {**properties}
        for (place, _), answer in zip(fields, answers, strict=True):
            *above, name = place
            holder = masked
            for key in above:  # copied once
                if holder[key] is properties[key]:
                    holder[key] = {**holder[key]}
                holder = holder[key]
            if isinstance(answer, _Failed):
                self._failed(answer)
            if answer is None or isinstance(answer, _Failed):
                holder.pop(name, None)
            else:
                holder[name] = answer
        return {**event, "properties": masked}

    def _answers(self, event: Event, fields: list[tuple[FieldPath, Any]]) -> list[Any]:
        answers: list[Any] = []
        while len(answers) < len(fields):
            rest = fields[len(answers) :]
            with self._lock:
                worker = self._idle.pop() if self._idle else None
                is_stuck = self._stuck >= MOST_STUCK
            worker = worker or (None if is_stuck else self._new())
            if worker is None:
                return answers + [_Failed("not_asked")] * len(rest)
            job = _Job(self._mask, event, rest)
            worker.give(job)
            if self._is_done(job):
                with self._lock:
                    self._idle.append(worker)
                answers += job.answers
            else:
                answers += [*job.answers, _Failed("too_slow")]
        return answers

    def _is_done(self, job: _Job) -> bool:
        """Whether all properties are masked; not if one alone took all of its time and more."""
        answered = 0
        while not self._wait(job.over, self._seconds):
            with job.lock:
                now = len(job.answers)
                if now == len(job.fields):  # it is about to report
                    continue
                if now == answered:
                    job.given_up = True
                    with self._lock:
                        self._stuck += 1
                    return False
                answered = now
        return True

    def _new(self) -> _Worker | None:
        lock = self._lock

        def back() -> None:
            masking = itself()
            if masking is not None and masking._lock is lock:  # otherwise it was the parent's
                with lock:
                    masking._stuck -= 1

        itself = weakref.ref(self)
        worker = _Worker(self._clock, self._seconds, back)
        try:
            self._start(worker.run)
        except RuntimeError:
            return None
        return worker

    def _failed(self, failure: _Failed) -> None:
        with self._lock:
            self._counts[failure.reason] += 1
        if failure.reason == "failed":
            warn_once(
                f"mask {failure.kind}", "mask raised %s: fields it fails on are not sent.", failure.kind
            )
        elif failure.reason == "too_slow":
            warn_once(
                "mask too slow",
                "mask took more than %s s for a field: such fields are not sent. It should wait for nothing.",
                self._seconds,
            )
        else:
            warn_once(
                "mask not asked",
                "`mask` is disabled: %s calls never returned, or no thread could start. Properties it should "
                "have seen are not sent.",
                MOST_STUCK,
            )


def _at(properties: Mapping[str, Any], place: FieldPath) -> Any:
    value: Any = properties
    for key in place:
        value = value[key]
    return value


def _path(place: FieldPath) -> str:
    return ".".join(map(str, place))  # `before_send` may have made keys of any type
