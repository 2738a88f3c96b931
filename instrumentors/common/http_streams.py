"""HTTP responses whose reading and closing an observer sees, whichever method the application calls.

httpx and httpx2 read and close through `response.stream`. The stream that replaces the library's own there
works for bound methods and for responses that are dropped, and leaves room for attributes that the user sets
on the response. It does not point back to the response, and is not pickled with it.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from instrumentors.common.streams import StreamObserver, follow, follow_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_BASES = frozenset({"SyncByteStream", "AsyncByteStream"})


def observe_close(
    response: Any, observer: StreamObserver, note: Callable[[bytes], Any] | None = None
) -> None:
    """Notify `observer` when the response is closed: nothing else shows that its stream was abandoned.

    `note` takes each piece of the body.
    """
    _replace(response, _ObservedClose, weakref.ref(observer))  # the iterator holds the observer
    response.stream.note = note


class PieceFilter(Protocol):
    """A filter of the pieces of a body on their way to the application."""

    def feed(self, piece: bytes, /) -> bytes:
        """Return what the application may see by now."""

    def flush(self) -> bytes:
        """Return the rest at the end."""


def observe_reads(response: Any, observer: StreamObserver, hider: PieceFilter | None = None) -> None:
    """Notify `observer` of every piece that is read, however it is read, and of how the reading ended.

    `hider` takes out of the pieces what the application did not ask for.
    """
    _replace(response, _ObservedReads, observer)
    response.stream.hider = hider


def _replace(response: Any, kind: Any, observer: Any) -> None:
    library_stream: Any = type(response.stream)
    response.stream = _with_library_bases(kind, library_stream)(response.stream, observer)


@lru_cache(maxsize=16)
def _with_library_bases(kind: Any, library_stream: Any) -> Any:
    # The library checks that a stream is an instance of its own base classes.
    bases = [base for base in library_stream.__mro__ if base.__name__ in _BASES]
    return type(kind.__name__, (kind, *bases), {})


class _ObservedClose:
    """A byte stream whose closing is observed; `reference` returns the observer."""

    def __init__(self, stream: Any, reference: Any) -> None:
        self._stream, self._reference = stream, reference

    @property
    def elapsed(self) -> Any:
        """The duration that httpx2 reads from the stream."""
        return getattr(self._stream, "elapsed", None)

    note: Callable[[bytes], Any] | None = None

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._stream)
        return pieces if self.note is None else _noted(pieces, self.note)

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = self._stream.__aiter__()
        return pieces if self.note is None else _noted_async(pieces, self.note)

    def close(self) -> None:
        """Close the stream."""
        self._note_close()
        self._stream.close()

    async def aclose(self) -> None:
        """Close the stream."""
        self._note_close()
        await self._stream.aclose()

    def _observer(self) -> StreamObserver | None:
        observer: StreamObserver | None = self._reference()
        return observer

    def _note_close(self) -> None:
        observer = self._observer()
        # The SDK closes the response inside the read that ends or fails, and that read ends the call.
        if observer is not None and not observer.reading:
            observer.abandon()


def _noted(pieces: Iterator[bytes], note: Callable[[bytes], Any]) -> Iterator[bytes]:
    for piece in pieces:
        note(piece)
        yield piece


async def _noted_async(pieces: AsyncIterator[bytes], note: Callable[[bytes], Any]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        note(piece)
        yield piece


class _ObservedReads(_ObservedClose):
    """A byte stream whose pieces are observed as well; `reference` is the observer."""

    _read = False
    hider: PieceFilter | None = None

    def _observer(self) -> StreamObserver:
        observer: StreamObserver = self._reference
        return observer

    def _is_first_read(self) -> bool:
        # The SDK reads once more to discard the bytes behind the last event.
        read, self._read = self._read, True
        return not read

    def __iter__(self) -> Iterator[bytes]:
        pieces = super().__iter__()
        if not self._is_first_read():
            return pieces
        followed = follow(pieces, self._observer())
        return followed if self.hider is None else _hidden(followed, self.hider)

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = super().__aiter__()
        if not self._is_first_read():
            return pieces
        followed = follow_async(pieces, self._observer())
        return followed if self.hider is None else _hidden_async(followed, self.hider)


def _hidden(pieces: Iterator[bytes], hider: PieceFilter) -> Iterator[bytes]:
    for piece in pieces:
        if shown := hider.feed(piece):
            yield shown
    if rest := hider.flush():
        yield rest


async def _hidden_async(pieces: AsyncIterator[bytes], hider: PieceFilter) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if shown := hider.feed(piece):
            yield shown
    if rest := hider.flush():
        yield rest
