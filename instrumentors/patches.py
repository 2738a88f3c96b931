"""Puts wrappers into SDK classes and takes them out again, and says what versions are known to work."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from wrapt import FunctionWrapper

from instrumentors.spans import logger

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """Wrapped methods, undone together."""

    def __init__(self) -> None:
        self._active = True
        self._done: list[tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """Wrap a method; `wrapper` takes (wrapped, instance, args, kwargs)."""
        inherited = name not in vars(owner)
        original = getattr_static(owner, name)
        patched = FunctionWrapper(original, wrapper, enabled=lambda: self._active)
        setattr(owner, name, patched)
        self._done.append((owner, name, patched, None if inherited else original))

    def undo(self) -> None:
        """Restore what was there; beneath somebody else's later wrapper ours stays, without effect."""
        self._active = False
        for owner, name, patched, original in self._done:
            if vars(owner).get(name) is not patched:
                continue
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._done.clear()


def check_version(distribution: str, *, lowest: tuple[int, int], below: tuple[int, int]) -> None:
    """Warn once of a version that is not known to work; what works of it is used all the same."""
    try:
        found = version(distribution)
    except PackageNotFoundError:
        return
    digits = [int(part) for part in found.split(".")[:2] if part.isdigit()]
    if not lowest <= tuple(digits) < below:
        wanted = f">={lowest[0]}.{lowest[1]},<{below[0]}"
        logger.warning(
            "%s %s is not known to work with otel-posthog (%s is); going on", distribution, found, wanted
        )
