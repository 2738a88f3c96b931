"""Hooks around `os.fork` for every object that follows forks, for as long as the object lives."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class ForkFollower(Protocol):
    """An object with something to do in a forked child.

    It may also have `before_fork`, which leaves no thread holding a lock or connection that the child would
    inherit, and `after_fork_in_parent`, which lets those threads go on.
    """

    def after_fork_in_child(self) -> None:
        """Begin anew, with new locks: all work in progress stays the parent's."""


_followers: weakref.WeakSet[ForkFollower] = weakref.WeakSet()
_forking: list[ForkFollower] = []
"""The followers that were there before the fork that is in progress."""
_one_at_a_time = threading.Lock()
"""Two threads may fork at the same time."""


def follow_forks(follower: ForkFollower) -> None:
    """Call the fork hooks that `follower` has at every fork of this process."""
    _followers.add(follower)


def _call(hook: str, follower: ForkFollower) -> None:
    method = getattr(follower, hook, None)
    if method is not None:
        method()


def _before() -> None:
    _one_at_a_time.acquire()
    _forking[:] = _followers
    for follower in _forking:
        _call("before_fork", follower)


def _in_parent() -> None:
    for follower in reversed(_forking):
        _call("after_fork_in_parent", follower)
    _forking.clear()
    _one_at_a_time.release()


def _in_child() -> None:
    global _one_at_a_time  # noqa: PLW0603  # a thread of the parent may hold the old one
    _one_at_a_time = threading.Lock()
    for follower in reversed(_forking):
        follower.after_fork_in_child()
    _forking.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
