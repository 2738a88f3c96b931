"""Puts wrappers into SDK classes and takes them out again, and says what versions are known to work."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from wrapt import FunctionWrapper

from instrumentors.common.call_span import logger

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """Wrapped methods, undone together."""

    def __init__(self) -> None:
        self.active = True
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> Any:
        """Wrap a method, and answer what is inside; `wrapper` takes (wrapped, instance, args, kwargs).

        Ours goes inside of the wrappers that are there, where their spans can be seen.
        """
        outer, original = None, getattr_static(owner, name)
        while isinstance(original, FunctionWrapper):
            outer, original = original, original.__wrapped__
        patched = FunctionWrapper(original, wrapper, enabled=lambda: self.active)
        if outer is None:
            self.replace(owner, name, patched)
        else:
            outer.__wrapped__ = patched
            self._undo.append(lambda: _unwrap(outer, patched, original))
        return original

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of a class or module; undone as far as nobody has set it since."""
        before = vars(owner).get(name)
        setattr(owner, name, value)

        def undo() -> None:
            if vars(owner).get(name) is not value:
                return
            if before is None:
                delattr(owner, name)  # it was inherited
            else:
                setattr(owner, name, before)

        self._undo.append(undo)

    def undo(self) -> None:
        """Restore what was there; beneath somebody else's later wrapper ours stays, without effect."""
        self.active = False
        while self._undo:
            self._undo.pop()()


def _unwrap(outer: Any, patched: Any, original: Any) -> None:
    if outer.__wrapped__ is patched:
        outer.__wrapped__ = original


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
