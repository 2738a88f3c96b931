"""The bytes of HTTP responses: heard of where every way of reading or closing a response comes by.

httpx, and httpx2, read and close through `response.stream`. What stands there for the library's own stream
works for bound methods, for responses that are dropped, and beside whatever the user puts onto the response;
it does not point back to the response, and is no part of it when it is pickled.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from instrumentors.common.streams import StreamObserver, follow, follow_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["closes_with", "reads_with"]

_BASES = frozenset({"SyncByteStream", "AsyncByteStream"})


def closes_with(response: Any, watch: StreamObserver) -> None:
    """Tell `watch` when the response is closed: nothing else tells that nobody reads on."""
    _replace(response, _Closed, weakref.ref(watch))  # who iterates holds the watch


def reads_with(response: Any, watch: StreamObserver) -> None:
    """Tell `watch` of every piece that is read, however that is done, and how the reading ended."""
    _replace(response, _Read, watch)


def _replace(response: Any, kind: Any, watch: Any) -> None:
    library: Any = type(response.stream)
    response.stream = _of_library(kind, library)(response.stream, watch)


@lru_cache(maxsize=16)
def _of_library(kind: Any, stream: Any) -> Any:
    # The library asks for its own base classes.
    bases = [base for base in stream.__mro__ if base.__name__ in _BASES]
    return type(kind.__name__, (kind, *bases), {})


class _Closed:
    """Says that it was closed."""

    def __init__(self, stream: Any, watch: Any) -> None:
        self._stream, self._watched = stream, watch

    @property
    def elapsed(self) -> Any:
        """Which httpx2 asks the stream for."""
        return getattr(self._stream, "elapsed", None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = self._stream.__aiter__()
        return found

    def close(self) -> None:
        """Close."""
        self._left()
        self._stream.close()

    async def aclose(self) -> None:
        """Close."""
        self._left()
        await self._stream.aclose()

    def _watch(self) -> StreamObserver | None:
        found: StreamObserver | None = self._watched()
        return found

    def _left(self) -> None:
        watch = self._watch()
        # The SDK closes the response inside the read that ends or fails; that read tells more.
        if watch is not None and not watch.reading:
            watch.left()


class _Read(_Closed):
    """Says what was read besides."""

    _taken = False

    def _watch(self) -> StreamObserver:
        watch: StreamObserver = self._watched
        return watch

    def _first(self) -> bool:
        # The SDK discards what is left behind the last event by reading it once more.
        taken, self._taken = self._taken, True
        return not taken

    def __iter__(self) -> Iterator[bytes]:
        pieces = super().__iter__()
        return follow(pieces, self._watch()) if self._first() else pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = super().__aiter__()
        return follow_async(pieces, self._watch()) if self._first() else pieces
