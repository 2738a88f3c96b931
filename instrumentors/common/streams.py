"""Streams: the application's loop runs as before, and the span of the call ends exactly once.

A `StreamObserver` sees every chunk and how the stream ended: complete, failed, or abandoned (closed, broken
off, or garbage-collected; that is no error, and the span keeps what came until then). `follow` and
`follow_async` are generators that replace an SDK's own iterator, so that the application gets the SDK's
stream object. Between chunks the application's own span is current.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Protocol

from instrumentors.common.call_span import Attributes, CallSpan, logger, read_safely

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class StreamAccumulator(Protocol):
    """The chunks of one stream, added up to a response."""

    def add(self, chunk: Any, /) -> bool:
        """Add a chunk; return False to hide it from the application, which did not ask for it."""

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the response's attributes; `complete` is whether the stream came to its end."""


class StreamObserver:
    """The observer of one stream for its call; if it is dropped, the stream was abandoned.

    `timed` is False if the pieces are no chunks to the application, but parts of the body of one answer.
    """

    __slots__ = ("__weakref__", "_accumulator", "_call", "_start", "_timed", "reading")

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
        self.reading = False
        """Whether the SDK is reading the next chunk."""
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
        if call is None or not call.recording:
            return True
        if self._timed:
            call.note_chunk()
        try:
            return self._accumulator.add(chunk)
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


async def follow_async(iterator: AsyncIterator[Any], observer: StreamObserver) -> AsyncIterator[Any]:
    """Yield the chunks of an SDK's asynchronous iterator, as `follow` does."""
    step, observe = iterator.__anext__, observer.observe
    try:
        token = observer.enter_call()
        try:
            chunk = await step()
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
            chunk = await step()
            observer.reading = False
    except StopAsyncIteration:
        observer.complete()
    except GeneratorExit:
        observer.abandon()
        raise
    except BaseException as error:
        observer.fail(error)
        raise
    finally:
        # Of an abandoned stream the SDK's iterator is still open; an event loop that ends closes it itself.
        if isinstance(iterator, AsyncGenerator) and not getattr(iterator, "ag_running", False):
            await iterator.aclose()
