"""Log records that hold whole calls become views of spans, in the GenAI conventions' names.

The coding CLIs write a record for each request to a model, each tool run and each prompt, also if they make
no spans; the conventions have an event with all of a call. All that comes after (dialects, deduplication,
events, privacy) reads these views as it reads spans.

An event of the conventions with the id of a span belongs to that span, which counts the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_posthog.conversion.context_attributes import inherited
from otel_posthog.conversion.spans.cli_log_calls import CLI_EVENTS, OWN_SCOPES, batch_of
from otel_posthog.conversion.spans.cli_names import MODEL, USAGE
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT
from otel_posthog.conversion.spans.log_record import DETAILS_EVENT, LogContent, LogRecord
from otel_posthog.conversion.spans.log_views import time_of, view_of_record
from otel_posthog.conversion.spans.span_view import Attributes, SpanEvent, SpanView

__all__ = ["views_of_records"]


def views_of_records(records: Iterable[LogRecord]) -> Iterator[SpanView | LogContent]:
    """Yield the calls, tool runs and prompts of the records of one request, and what belongs to spans."""
    ordered = sorted(records, key=time_of)
    batch = batch_of(ordered)
    for record in ordered:
        row = CLI_EVENTS.get(record.event)
        if row is not None:
            cli, read = row
            view = read(cli, record, batch)
            if view is not None:
                yield view
        elif record.event.startswith("gen_ai."):
            yield from _of_conventions(record)


def _of_conventions(record: LogRecord) -> Iterator[SpanView | LogContent]:
    if record.event == EVALUATION_EVENT:
        if record.trace_id:
            yield _score(record)
    elif record.trace_id and record.span_id:  # the span is the call
        event = SpanEvent(record.event, time_of(record), _with_body(record))
        yield LogContent(record.trace_id, record.span_id, event, record.resource)
    elif (
        record.event == DETAILS_EVENT
        and not (record.scope or "").startswith(OWN_SCOPES)
        and any(name in record.attributes for name in _EVIDENCE)
    ):
        attributes = record.attributes
        operation, model = attributes.get("gen_ai.operation.name"), attributes.get(MODEL)
        yield view_of_record(
            record,
            name=" ".join(str(part) for part in (operation, model) if part) or record.event,
            attributes={**attributes},
            failed="error.type" in attributes,
            scope=record.scope,
        )


_EVIDENCE = (
    *(USAGE + "input_tokens", USAGE + "output_tokens"),
    *("gen_ai.output.messages", "gen_ai.response.id", "gen_ai.response.finish_reasons", "error.type"),
)
"""Attributes that only the outcome of a call has: some write the event for the request as well."""


def _with_body(record: LogRecord) -> Attributes:
    return record.attributes if record.body is None else {**record.attributes, "body": record.body}


def _score(record: LogRecord) -> SpanView:
    attributes = {
        name: value
        for name, value in record.attributes.items()
        if name.startswith("gen_ai.evaluation.") or name == "gen_ai.response.id"
    }
    return view_of_record(
        record,
        name=record.event,
        attributes={**attributes, **inherited(record.attributes)},
        scope=record.scope,
    )
