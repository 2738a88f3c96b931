"""Wrappers around methods of SDK classes, put in and taken out together."""

from __future__ import annotations

from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from wrapt import FunctionWrapper

if TYPE_CHECKING:
    from collections.abc import Callable


class Patches:
    """Wrapped methods that are undone together."""

    def __init__(self) -> None:
        self.active = True
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> Any:
        """Wrap a method and return the original; `wrapper` takes (wrapped, instance, args, kwargs).

        Our wrapper goes inside those that are there already, so that the spans they open are current in ours.
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
        """Set an attribute of a class or module; it is restored unless somebody else has set it since."""
        before = vars(owner).get(name)
        setattr(owner, name, value)

        def undo() -> None:
            if vars(owner).get(name) is not value:
                return
            if before is None:
                delattr(owner, name)  # the attribute was inherited
            else:
                setattr(owner, name, before)

        self._undo.append(undo)

    def undo(self) -> None:
        """Restore the originals; below a later wrapper of somebody else, ours stays without effect."""
        self.active = False
        while self._undo:
            self._undo.pop()()


def _unwrap(outer: Any, patched: Any, original: Any) -> None:
    if outer.__wrapped__ is patched:
        outer.__wrapped__ = original
