"""What must happen around `os.fork`, for every object that asks for it as long as it lives."""

from __future__ import annotations

import os
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


def follow_forks(followed: Forked) -> None:
    """Tell the object of every fork of this process."""
    _objects.add(followed)


def _before() -> None:
    # Each in the order in which it was made, so that two forks at once take locks in one order.
    _held[:] = sorted(_objects, key=id)
    for followed in _held:
        followed.before_fork()


def _in_parent() -> None:
    for followed in reversed(_held):
        followed.after_fork_in_parent()
    _held.clear()


def _in_child() -> None:
    for followed in reversed(_held):
        followed.after_fork_in_child()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
