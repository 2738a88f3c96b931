"""Stream proxies: the user's loop runs as before, and the span of the call ends exactly once.

A `Watch` is told about every chunk and how the stream ended: exhausted, failed, or left early (closed, broken
off, or dropped and garbage-collected; that is no error and keeps what came so far). The proxies are the thin
synchronous and asynchronous faces around it. Between chunks the caller's own span is current.
"""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from wrapt import ObjectProxy

from instrumentors.spans import Attributes, Call, logger, read

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


class Gather(Protocol):
    """What the chunks of one stream add up to."""

    def add(self, chunk: Any, /) -> bool:
        """Take a chunk; false hides it from the user, who did not ask for it."""

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give the response's attributes; `complete` is whether the stream came to its end."""


class Watch:
    """Follows one stream for its call. Dropping it counts as leaving the stream."""

    __slots__ = ("__weakref__", "_call", "_gather", "_open", "reading")

    def __init__(
        self, gather: Gather, *, call: Call | None = None, start: Callable[[], Call] | None = None
    ) -> None:
        self._call, self._gather, self._open = call, gather, start
        self.reading = False
        if call is not None:
            reference = weakref.ref(self)

            def complete() -> None:
                if (watch := reference()) is not None:
                    watch.left()

            call.before_end(complete)

    def begin(self) -> Any:
        """Open the call of a stream that is sent with its first chunk; give the token for `begun`."""
        self.reading = True
        if self._open is None:
            return None
        opened, self._open = self._open, None
        self._call = opened()
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
            facts = read(self._gather.facts, call.content, complete)
            call.finish(facts, str(facts.pop("error.message", "")))
            if not complete:
                call.end_for_owner()

    def _take(self) -> Call | None:
        call, self._call = self._call, None
        return call

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.left()


def ends_with(response: Any, watch: Watch, closer: str) -> None:
    """Hear of it when an HTTP response is closed, whoever closes it.

    The SDK's stream helpers close the response directly and not the stream that they were given. The hook
    goes away with the first close, so that an exhausted stream leaves no cycle behind.
    """
    reference = weakref.ref(watch)

    def close(*args: Any, **kwargs: Any) -> Any:
        vars(response).pop(closer, None)
        watch = reference()
        # The SDK closes the response inside the read that ends or fails; that read tells more.
        if watch is not None and not watch.reading:
            watch.left()
        return getattr(response, closer)(*args, **kwargs)

    setattr(response, closer, close)


class FollowedStream(ObjectProxy[Any]):
    """A stream as the SDK gave it, followed chunk by chunk."""

    def __init__(self, stream: Any, watch: Watch) -> None:
        super().__init__(stream)
        self._self_watch = watch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        watch: Watch = self._self_watch
        while True:
            token = watch.begin()
            try:
                chunk = next(self.__wrapped__)
            except StopIteration:
                watch.done()
                raise
            except BaseException as error:
                watch.failed(error)
                raise
            finally:
                watch.begun(token)
            if watch.see(chunk):
                return chunk

    def __enter__(self) -> Self:
        self.__wrapped__.__enter__()
        return self

    def __exit__(self, *error: object) -> Any:
        self._self_watch.left()
        return self.__wrapped__.__exit__(*error)

    def close(self) -> Any:
        """Close the stream, which ends its call."""
        self._self_watch.left()
        return self.__wrapped__.close()


class FollowedAsyncStream(ObjectProxy[Any]):
    """An asynchronous stream as the SDK gave it, followed chunk by chunk."""

    def __init__(self, stream: Any, watch: Watch) -> None:
        super().__init__(stream)
        self._self_watch = watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        watch: Watch = self._self_watch
        while True:
            token = watch.begin()
            try:
                chunk = await self.__wrapped__.__anext__()
            except StopAsyncIteration:
                watch.done()
                raise
            except BaseException as error:
                watch.failed(error)
                raise
            finally:
                watch.begun(token)
            if watch.see(chunk):
                return chunk

    async def __aenter__(self) -> Self:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        self._self_watch.left()
        return await self.__wrapped__.__aexit__(*error)

    async def close(self) -> Any:
        """Close the stream, which ends its call."""
        self._self_watch.left()
        return await self.__wrapped__.close()

    async def aclose(self) -> Any:
        """Close the asynchronous generator, which ends its call."""
        self._self_watch.left()
        return await self.__wrapped__.aclose()
