"""Streams: the application's loop runs as before, and the span of the call ends exactly once.

A `StreamObserver` sees every chunk and how the stream ended: complete, failed, or abandoned (closed, broken
off, or let go; that is no error, and the span keeps what came until then). `follow` and `follow_async` return
iterators that replace an SDK's own, so that the application gets the SDK's stream object. Between chunks the
application's own span is current.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections.abc import AsyncGenerator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from instrumentors.common.call_span import Attributes, CallSpan, logger, read_safely

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class StreamAccumulator(Protocol):
    """The chunks of one stream, added up to a response.

    It may have an attribute `finished`: whether the last chunk was the service's last word.
    """

    def add(self, chunk: Any, /) -> bool:
        """Add a chunk; return False to hide it from the application, which did not ask for it."""

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the response's attributes; `complete` is whether the stream came to its end."""


class StreamObserver:
    """The observer of one stream for its call; if it is dropped, the stream was abandoned.

    `timed` is False if the pieces are no chunks to the application, but parts of the body of one answer.
    """

    __slots__ = ("__weakref__", "_accumulator", "_call", "_complete", "_start", "_timed", "reading")

    def __init__(
        self,
        accumulator: StreamAccumulator,
        *,
        call: CallSpan | None = None,
        start: Callable[[], CallSpan] | None = None,
        timed: bool = True,
    ) -> None:
        self._timed = timed
        self._call, self._accumulator, self._start = call, accumulator, start
        self._complete = False
        self.reading = False
        """Whether the SDK is reading the next chunk."""
        _abandon_at_exit()
        _open_observers.add(self)
        if call is not None:
            call.keep_open()

    def enter_call(self) -> Any:
        """Start the call of a stream that is sent with its first chunk; return the token for `leave_call`."""
        self.reading = True
        if self._start is None:
            return None
        start, self._start = self._start, None
        try:
            self._call = start()
        except Exception as error:  # noqa: BLE001 - the user's stream goes on without a span
            logger.debug("otel-posthog could not follow a stream: %s", type(error).__name__)
            return None
        self._call.keep_open()
        return self._call.enter()

    def leave_call(self, token: Any) -> None:
        """Make the application's span current again."""
        self.reading = False
        if token is not None and self._call is not None:
            self._call.leave(token)

    def observe(self, chunk: Any) -> bool:
        """Note a chunk; return False to hide it from the application."""
        call = self._call
        if call is not None:
            if not call.recording:
                return True
            if self._timed:
                call.note_chunk()
        elif not self._complete:
            return True
        try:
            shown = self._accumulator.add(chunk)
            if call is not None and getattr(self._accumulator, "finished", False):
                self._complete = True
                self.complete()  # the last word: the application may leave the stream here
            return shown
        except Exception as error:  # noqa: BLE001 - an unreadable chunk is still the user's
            logger.debug("otel-posthog could not read a chunk: %s", type(error).__name__)
            return True

    def complete(self) -> None:
        """End the call: the stream came to its end."""
        self._end(complete=True)

    def abandon(self) -> None:
        """End the call: the application left the stream."""
        self._end(complete=False)

    def fail(self, error: BaseException) -> None:
        """End the call with the error that the stream raised."""
        if (call := self._release_call()) is not None:
            call.fail(error, read_safely(self._accumulator.attributes, call.content, False))

    def _end(self, *, complete: bool) -> None:
        if (call := self._release_call()) is not None:
            attributes = (
                read_safely(self._accumulator.attributes, call.content, complete) if call.recording else {}
            )
            call.end(attributes, str(attributes.pop("error.message", "")), abandoned=not complete)

    def _release_call(self) -> CallSpan | None:
        call, self._call = self._call, None
        _open_observers.discard(self)
        return call

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.abandon()


def follow(iterator: Iterator[Any], observer: StreamObserver) -> Iterator[Any]:
    """Yield the chunks of an SDK's iterator; `observer` sees each of them first."""
    step, observe = iterator.__next__, observer.observe
    try:
        token = observer.enter_call()
        try:
            chunk = step()
        finally:
            observer.leave_call(token)
        while True:
            if observe(chunk):
                try:
                    yield chunk
                except BaseException:
                    observer.abandon()  # the application threw it in, for example a loop that shuts down
                    raise
            observer.reading = True
            chunk = step()
            observer.reading = False
    except StopIteration:
        observer.complete()
    except GeneratorExit:
        observer.abandon()
        raise
    except BaseException as error:
        observer.fail(error)
        raise


def follow_async(iterator: AsyncIterator[Any], observer: StreamObserver) -> AsyncIterator[Any]:
    """Return an asynchronous iterator over the chunks of an SDK's, as `follow` does."""
    return _AsyncFollower(iterator, observer)


class _AsyncFollower:
    """The chunks of an SDK's asynchronous iterator.

    It is no generator: when a loop ends, asyncio closes all generators at once, and of two that stand in each
    other one logs that the other is running already.
    """

    def __init__(self, iterator: AsyncIterator[Any], observer: StreamObserver) -> None:
        self._iterator, self._observer = iterator, observer
        self._step = iterator.__anext__
        self._entered = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        observer = self._observer
        try:
            if not self._entered:
                self._entered = True
                token = observer.enter_call()
                try:
                    chunk = await self._step()
                finally:
                    observer.leave_call(token)
                if observer.observe(chunk):
                    return chunk
            while True:
                observer.reading = True
                chunk = await self._step()
                observer.reading = False
                if observer.observe(chunk):
                    return chunk
        except StopAsyncIteration:
            observer.complete()
            raise
        except GeneratorExit:
            observer.abandon()
            raise
        except BaseException as error:
            observer.fail(error)
            raise

    async def aclose(self) -> None:
        """Close the SDK's iterator, unless an event loop that ends is closing it."""
        self._observer.abandon()
        if isinstance(self._iterator, AsyncGenerator) and not getattr(self._iterator, "ag_running", False):
            await self._iterator.aclose()


_open_observers: weakref.WeakSet[StreamObserver] = weakref.WeakSet()


@lru_cache(maxsize=1)
def _abandon_at_exit() -> None:
    """Register, with the first stream, what ends the calls of streams that are open when the process ends.

    Functions that were registered last run first: before the tracer provider and we ourselves shut down.
    """
    atexit.register(abandon_open_streams)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_open_observers.clear)


def abandon_open_streams() -> None:
    """End the calls of all streams that are still open, with what came until now."""
    for observer in list(_open_observers):
        with contextlib.suppress(Exception):
            observer.abandon()
