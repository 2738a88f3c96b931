"""Files of spans, as an OpenTelemetry Collector's file exporter writes them and as people save requests.

Its formats are documented in opentelemetry-collector-contrib/exporter/fileexporter. `format: json` is one
request a line. `format: proto`, and either format with `compression: zstd`, is messages, each compressed by
itself and after its length in 4 bytes, big-endian. With the feature gate `exporter.file.nativeCompression`
(from v0.154.0) the whole file is zstd instead, and inside as it would be without compression.

A file is recognised by its content. No more of it is held at a time than a line, message or document.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from otel_posthog.cli.otlp_files.compression import DamagedError, damages, inflate, inflated, is_zstd
from otel_posthog.cli.otlp_files.json_text import BOM, LARGEST, NO_OTLP, Report, at, of_json, of_text
from otel_posthog.conversion.spans.log_calls import views_of_records
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.otlp_logs import holds_log_records, records_of_bytes
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView

__all__ = ["spans_of_file"]

_HEAD = 4096
_LENGTH = 4
_TAG = b"\x0a"
"""The tag of `resource_spans`, the only field of a request, in protobuf. As text it ends a line."""
_NEVER_IN_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LINE_OF_OBJECT = re.compile(rb'^[ \t\[]*\{\s*"', re.MULTILINE)


def spans_of_file(path: Path, unreadable: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    """Yield the spans of a file: a `SpanView` for each GenAI span, a `ContextSpan` for each other one.

    A part that cannot be read is left out, and `unreadable` gets one sentence with its place. An empty file
    has no spans.

    Raises:
        ValueError: the file is none of the kinds known here.
    """
    with ExitStack() as opened:
        try:
            stream = inflated(opened.enter_context(path.open("rb")), opened)
            read = _reader_for(stream.peek(_HEAD))
        except damages() as error:
            raise ValueError(f"the compression of the file is damaged from its start ({error})") from None
        try:
            yield from read(stream, unreadable)
        except damages() as error:
            unreadable(f"the rest of the file: its compression is damaged ({error})")


def _reader_for(
    head: bytes,
) -> Callable[[io.BufferedReader, Report], Iterator[SpanView | ContextSpan | LogContent]]:
    text = head.removeprefix(BOM).lstrip()
    if not _NEVER_IN_TEXT.search(head) and (not text or _LINE_OF_OBJECT.search(text)):
        return of_text
    if head.startswith(_TAG):
        return _of_bare_request
    if text.startswith((b"{", b"[")):
        return of_text
    message = head[_LENGTH:]
    if 0 < _length(head) <= LARGEST and (is_zstd(message) or message.startswith((_TAG, b"{"))):
        return _of_messages
    raise ValueError(NO_OTLP)


def _of_bare_request(stream: io.BufferedReader, _: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"the file has more than {LARGEST:,} bytes for one request")
    try:
        return _of_protobuf(data)
    except DamagedError:
        raise ValueError(NO_OTLP) from None


def _of_messages(
    stream: io.BufferedReader, unreadable: Report
) -> Iterator[SpanView | ContextSpan | LogContent]:
    number = 0
    while prefix := stream.read(_LENGTH):
        number += 1
        report = at(f"message {number}", unreadable)
        length = _length(prefix)
        if length > LARGEST:
            report(f"its length of {length:,} bytes is beyond {LARGEST:,}; what follows it is not read")
            return
        message = stream.read(length)
        if len(prefix) < _LENGTH or len(message) < length:
            report("the file ends before it does")
            return
        yield from _of_message(message, report)


def _length(head: bytes) -> int:
    return int.from_bytes(head[:_LENGTH], "big")


def _of_message(message: bytes, report: Report) -> Iterator[SpanView | ContextSpan | LogContent]:
    try:
        plain = inflate(message, LARGEST) if is_zstd(message) else message
        views = of_json(plain, report) if plain.startswith(b"{") else _of_protobuf(plain)
    except DamagedError as error:
        report(str(error))
    else:
        yield from views


def _of_protobuf(data: bytes) -> Iterator[SpanView | ContextSpan | LogContent]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        if holds_log_records(data):
            return views_of_records([record for record in records_of_bytes(data) if record is not None])
        return views_of_request(ExportTraceServiceRequest.FromString(data))
    except DecodeError:
        raise DamagedError("is neither JSON nor protobuf of a trace request") from None
