"""Streams: the user's loop runs as before, and the span of the call ends exactly once.

A `StreamObserver` is told about every chunk and how the stream ended: exhausted, failed, or left early
(closed, broken off, or dropped and garbage-collected; that is no error and keeps what came so far).
`follow` and `follow_async` are generators that stand in the place of an SDK's own iterator, so that the
stream object the user gets is the SDK's. Between chunks the caller's own span is current.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Protocol

from instrumentors.common.call_span import Attributes, Call, logger, read

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


class StreamAccumulator(Protocol):
    """What the chunks of one stream add up to."""

    def add(self, chunk: Any, /) -> bool:
        """Take a chunk; false hides it from the user, who did not ask for it."""

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give the response's attributes; `complete` is whether the stream came to its end."""


class StreamObserver:
    """Follows one stream for its call. Dropping it counts as leaving the stream.

    `timed` is off for what is no stream of chunks to its user: the pieces in which one answer came.
    """

    __slots__ = ("__weakref__", "_call", "_gather", "_open", "_timed", "reading")

    def __init__(
        self,
        gather: StreamAccumulator,
        *,
        call: Call | None = None,
        start: Callable[[], Call] | None = None,
        timed: bool = True,
    ) -> None:
        self._timed = timed
        self._call, self._gather, self._open = call, gather, start
        self.reading = False
        """Whether the SDK is at work on the next chunk."""
        if call is not None:
            call.hold()

    def begin(self) -> Any:
        """Open the call of a stream that is sent with its first chunk; give the token for `begun`."""
        self.reading = True
        if self._open is None:
            return None
        opened, self._open = self._open, None
        try:
            self._call = opened()
        except Exception as error:  # noqa: BLE001 - the user's stream goes on without a span
            logger.debug("otel-posthog could not follow a stream: %s", type(error).__name__)
            return None
        self._call.hold()
        return self._call.enter()

    def begun(self, token: Any) -> None:
        """Take the span out of the context again."""
        self.reading = False
        if token is not None and self._call is not None:
            self._call.leave(token)

    def see(self, chunk: Any) -> bool:
        """Note a chunk; false when it is to be kept from the user."""
        call = self._call
        if call is None or not call.recording:
            return True
        if self._timed:
            call.chunk()
        try:
            return self._gather.add(chunk)
        except Exception as error:  # noqa: BLE001 - an unreadable chunk is still the user's
            logger.debug("otel-posthog could not read a chunk: %s", type(error).__name__)
            return True

    def done(self) -> None:
        """End the call: the stream came to its end."""
        self._finish(complete=True)

    def left(self) -> None:
        """End the call: the user has seen enough."""
        self._finish(complete=False)

    def failed(self, error: BaseException) -> None:
        """End the call with the error that the stream raised."""
        if (call := self._take()) is not None:
            call.fail(error, read(self._gather.facts, call.content, False))

    def _finish(self, *, complete: bool) -> None:
        if (call := self._take()) is not None:
            facts = read(self._gather.facts, call.content, complete) if call.recording else {}
            call.finish(facts, str(facts.pop("error.message", "")), left=not complete)

    def _take(self) -> Call | None:
        call, self._call = self._call, None
        return call

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.left()


def follow(iterator: Iterator[Any], watch: StreamObserver) -> Iterator[Any]:
    """The chunks of an SDK's iterator, one by one, told to `watch`."""
    step, see = iterator.__next__, watch.see
    try:
        token = watch.begin()
        try:
            chunk = step()
        finally:
            watch.begun(token)
        while True:
            if see(chunk):
                try:
                    yield chunk
                except BaseException:
                    watch.left()  # thrown in by the reader's side: a loop that shuts down, for one
                    raise
            watch.reading = True
            chunk = step()
            watch.reading = False
    except StopIteration:
        watch.done()
    except GeneratorExit:
        watch.left()
        raise
    except BaseException as error:
        watch.failed(error)
        raise


async def follow_async(iterator: AsyncIterator[Any], watch: StreamObserver) -> AsyncIterator[Any]:
    """What `follow` does, awaited."""
    step, see = iterator.__anext__, watch.see
    try:
        token = watch.begin()
        try:
            chunk = await step()
        finally:
            watch.begun(token)
        while True:
            if see(chunk):
                try:
                    yield chunk
                except BaseException:
                    watch.left()  # thrown in by the reader's side: a loop that shuts down, for one
                    raise
            watch.reading = True
            chunk = await step()
            watch.reading = False
    except StopAsyncIteration:
        watch.done()
    except GeneratorExit:
        watch.left()
        raise
    except BaseException as error:
        watch.failed(error)
        raise
    finally:
        # Left early, the SDK's own has still to close what it reads from; a loop that ends closes it itself.
        if isinstance(iterator, AsyncGenerator) and not getattr(iterator, "ag_running", False):
            await iterator.aclose()
