"""The parts that run a case and compare it without and with instrumentation."""

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

    from tests.instrumentors.provider import ReceivedRequest

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
        """Return the ended spans, in their order of ending, and forget them."""
        ended = list(self.exporter.get_finished_spans())
        self.exporter.clear()
        return ended


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def everything(span: ReadableSpan) -> str:
    """Return all that a span would export, as text; if content is off, none of it may be in there."""
    return str(span.to_json()) + repr([(event.name, dict(event.attributes or {})) for event in span.events])


def texts(span: ReadableSpan) -> Iterator[str]:
    """Yield every text that an exporter would encode."""
    for values in (span.attributes or {}, *(event.attributes or {} for event in span.events)):
        for name, value in values.items():
            yield name
            yield from (
                one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, str)
            )
    yield span.name
    yield span.status.description or ""


class Raising(SpanProcessor):
    """Another span processor, which raises."""

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
    """Close a pending call in another context than the one that started it."""
    contextvars.copy_context().run(pending.send, None)
    pending.close()


def wire(requests: Iterable[ReceivedRequest]) -> list[tuple[str, dict[str, str], Any]]:
    """Return requests without the parts that differ between two equal calls, and without our own addition."""
    comparable = []
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
        comparable.append((request.path, {n: v for n, v in headers.items() if n not in dropped}, body))
    return comparable


def outcome(run: Callable[[], Any]) -> Any:
    """Return the result of a use, or its error's class and text."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - errors are results here
        return type(error), str(error)
