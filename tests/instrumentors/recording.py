"""Runs a case without and with instrumentation and holds the two against each other."""

from __future__ import annotations

import asyncio
import contextvars
import json
import re
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    from tests.instrumentors.provider import Request

_VARYING = {"host", "idempotency-key", "x-goog-api-client"}


class Recorder:
    """The SDK's tracer provider with spans kept in memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def tracer(self) -> Tracer:
        return self.provider.get_tracer("application")

    def spans(self) -> list[ReadableSpan]:
        """Give the ended spans in their order of ending, once."""
        ended = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return ended


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def everything(span: ReadableSpan) -> str:
    """Write all that a span would export: where content must not be, none of it may be in here."""
    return str(span.to_json()) + repr([(event.name, dict(event.attributes or {})) for event in span.events])


def texts(span: ReadableSpan) -> Iterator[str]:
    """Give every text that an exporter would have to encode."""
    for values in (span.attributes or {}, *(event.attributes or {} for event in span.events)):
        for name, value in values.items():
            yield name
            yield from (
                one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str)
            )
    yield span.name
    yield span.status.description or ""


class Raising(SpanProcessor):
    """Somebody else's processor, which fails."""

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._where == "on_start":
            raise RuntimeError("processor")

    def on_end(self, span: ReadableSpan) -> None:
        if self._where == "on_end":
            raise RuntimeError("processor")


class Silent:
    """A transport whose service never answers, for whichever httpx the SDK has."""

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.get_running_loop().create_future()


def close_elsewhere(pending: Coroutine[Any, Any, Any]) -> None:
    """Close a call that waits for its answer, in another context than the one that started it."""
    contextvars.copy_context().run(pending.send, None)
    pending.close()


def wire(requests: Iterable[Request]) -> list[tuple[str, dict[str, str], Any]]:
    """Make requests comparable: what differs between two equal calls is taken out, and our own addition."""
    found = []
    for request in requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        boundary = re.search(r"boundary=(\S+)", headers.get("content-type", ""))
        text = request.body.decode("latin-1")
        body: Any = text.replace(boundary[1], "-") if boundary else json.loads(text or "null")
        if isinstance(body, dict) and isinstance(options := body.get("stream_options"), dict):
            options.pop("include_usage", None)
            if not options:
                del body["stream_options"]
        dropped = {*_VARYING, "content-length", *(["content-type"] if boundary else [])}
        found.append((request.path, {n: v for n, v in headers.items() if n not in dropped}, body))
    return found


def outcome(run: Callable[[], Any]) -> Any:
    """Give what the user's code gets: its result, or the error's class and text."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - errors are results here
        return type(error), str(error)
