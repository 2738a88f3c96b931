"""What must happen around `os.fork`, for every object that asks for it as long as it lives."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forked(Protocol):
    """What an object may do around a fork."""

    def before_fork(self) -> None:
        """Make sure that no thread of ours is where a copy of it could not go on."""

    def after_fork_in_parent(self) -> None:
        """Go on as before."""

    def after_fork_in_child(self) -> None:
        """Begin anew: what the parent was doing stays the parent's."""


_objects: weakref.WeakSet[Forked] = weakref.WeakSet()
_held: list[Forked] = []
_one_at_a_time = threading.Lock()
"""Two threads may fork at the same time."""


def follow_forks(followed: Forked) -> None:
    """Tell the object of every fork of this process."""
    _objects.add(followed)


def _before() -> None:
    _one_at_a_time.acquire()
    _held[:] = _objects
    for followed in _held:
        followed.before_fork()


def _in_parent() -> None:
    for followed in reversed(_held):
        followed.after_fork_in_parent()
    _held.clear()
    _one_at_a_time.release()


def _in_child() -> None:
    global _one_at_a_time  # noqa: PLW0603  # what the parent's threads held nobody lets go
    _one_at_a_time = threading.Lock()
    for followed in reversed(_held):
        followed.after_fork_in_child()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
