"""Text of OTLP requests: JSON lines, or one JSON document, be it a request or a list of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from otel_posthog.conversion.spans.log_calls import views_of_records
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.otlp_json import views_of_json_request
from otel_posthog.conversion.spans.otlp_logs_json import records_of_json
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["BOM", "LARGEST", "NO_OTLP", "Report", "at", "of_json", "of_text"]

LARGEST = 0x0A00_0000
"""Bytes (160 MiB) of a line, message or document."""

NO_OTLP = (
    "the file has no OTLP requests, as JSON or protobuf, or as the Collector's file exporter writes them"
)
BOM = b"\xef\xbb\xbf"

_STEP = 1 << 16
_SIGNALS = ("Spans", "spans", "Metrics", "metrics", "Logs", "logs")
"""The exporter's pipelines may share a file. Spans and log records are read."""
_FIELDS = frozenset(f"{start}{each}" for each in _SIGNALS for start in ("resource", "resource_"))

Report = Callable[[str], object]


def of_text(stream: io.BufferedReader, unreadable: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    """JSON lines from the first line that is a request; without any such line the whole is one document."""
    lines = _lines(stream, unreadable)
    before: list[tuple[int, bytes]] = []
    size = 0
    for number, line in lines:
        # A list with one request a line has requests as lines, but is not JSON lines.
        in_list = bool(before) and before[0][1].lstrip().startswith(b"[")
        if not in_list and _is_request(_parsed(line)):
            for each in (*before, (number, line)):
                yield from _of_line(*each, unreadable)
            break
        before.append((number, line))
        size += len(line)
        if size > LARGEST:
            raise ValueError(
                f"no line of the file is a request, and one document has at most {LARGEST:,} bytes"
            )
    else:
        if before:
            yield from _of_document(b"".join(line for _, line in before), unreadable)
        return
    for number, line in lines:
        yield from _of_line(number, line, unreadable)


def _lines(stream: io.BufferedReader, unreadable: Report) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1."""
    number = 0
    while line := stream.readline(LARGEST + 1):
        number += 1
        if len(line) > LARGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(_STEP)
            unreadable(f"line {number}: has more than {LARGEST:,} bytes")
            continue
        line = line.removeprefix(BOM) if number == 1 else line
        if line.strip():
            yield number, line


def _parsed(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _is_request(document: Any) -> bool:
    first = document[0] if isinstance(document, list) and document else document
    return isinstance(first, dict) and not _FIELDS.isdisjoint(first)


def _of_line(number: int, line: bytes, unreadable: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    return of_json(line, at(f"line {number}", unreadable))


def of_json(data: bytes, report: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    """Yield the views of a line or message; `report` gets a sentence for each fault."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        report(f"is not JSON ({error.msg} at column {error.colno})")
    else:
        yield from _of_parsed(document, report)


def _of_document(data: bytes, unreadable: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the file is not JSON ({error.msg} at character {error.pos})") from None
    if document and not _is_request(document):
        raise ValueError(NO_OTLP)
    return _of_parsed(document, unreadable)


def _of_parsed(document: Any, report: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    if isinstance(document, list):
        for number, request in enumerate(document, 1):
            yield from _of_parsed_request(request, at(f"request {number}", report))
    else:
        yield from _of_parsed_request(document, report)


def _of_parsed_request(request: Any, report: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    if isinstance(request, dict) and request and _FIELDS.isdisjoint(request):
        report("has no resourceSpans or resourceLogs")
    else:
        yield from views_of_json_request(request, report)
    if isinstance(request, dict):
        yield from views_of_records(record for record in records_of_json(request, report) if record)


def at(place: str, report: Report) -> Report:
    """Return `report` with the place before each sentence."""
    return lambda sentence: report(f"{place}: {sentence}")
