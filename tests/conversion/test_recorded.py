"""Recorded spans of real instrumentors and frameworks, and the truth about the calls behind them.

Each line of a recording is one use of a library: the spans it left, in the order in which they ended, and
what really happened. `UPDATE_GOLDEN=1 make test` writes the events of a few uses of each anew, to be read as
a diff.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.spans.genai_detection import is_genai_span
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.conversion.traces import SpanHistory
from tests.support.spans import RECORDED, recorded, view_of_recorded

PIPELINE = Pipeline(families=frozenset({"ai"}), prices=PriceBook())
GOLDEN = RECORDED.parent / "dialects"
NAMES = sorted(path.stem for path in RECORDED.glob("*.jsonl"))

PROPERTIES = {
    "provider": "$ai_provider",
    "error": "$ai_is_error",
    "input_tokens": "$ai_input_tokens",
    "output_tokens": "$ai_output_tokens",
    "cache_read_tokens": "$ai_cache_read_input_tokens",
    "cache_write_tokens": "$ai_cache_creation_input_tokens",
    "reasoning_tokens": "$ai_reasoning_tokens",
    "finish_reason": "$ai_stop_reason",
}
GENERATIONS = {"$ai_generation", "$ai_embedding"}

Line = dict[str, Any]
Event = dict[str, Any]


@cache
def lines(name: str) -> list[Line]:
    return recorded(name)


CASES = [
    pytest.param(name, at, id=f"{name}-{line['case']}")
    for name in NAMES
    for at, line in enumerate(lines(name))
]


def views_of(line: Line) -> list[SpanView]:
    views = map(view_of_recorded, line["spans"])
    return [view for view in views if is_genai_span(view.attributes, view.events)]


def calls_in(events: Iterable[Event]) -> dict[str, Event]:
    return {event["properties"]["$ai_span_id"]: event for event in events if event["event"] in GENERATIONS}


@pytest.mark.parametrize(("name", "at"), CASES)
def test_each_call_is_one_generation_with_all_that_its_spans_show(name: str, at: int) -> None:
    line = lines(name)[at]
    events = PIPELINE.finished_events(*views_of(line))
    calls, truth = calls_in(events), line["truth"]
    if truth["generations"]["derivable"]:
        assert len(calls) == truth["generations"]["value"]
    for call in truth["calls"]:
        event = next(calls[span_id] for span_id in call["span_ids"] if span_id in calls)
        for field, wanted in call.items():
            if field != "span_ids" and wanted["derivable"]:
                _compare(field, wanted, event)


def _compare(field: str, wanted: dict[str, Any], event: Event) -> None:
    properties, value = event["properties"], wanted["value"]
    if field in PROPERTIES:
        assert properties.get(PROPERTIES[field]) == value, field
    elif field == "model":
        assert properties["$ai_model"] in wanted["any_of"]
    elif field == "embedding":
        assert (event["event"] == "$ai_embedding") is value
    elif field == "stream":
        assert properties.get("$ai_stream", False) is value
    elif field == "input_messages":
        assert len([message for message in properties["$ai_input"] if message["role"] != "system"]) == value
    elif field == "tools_called":
        assert properties.get("$ai_tools_called", "") == ",".join(value)
    else:
        texts = properties["$ai_input" if field == "user_text" else "$ai_output_choices"]
        assert value in json.dumps(texts, ensure_ascii=False)


@pytest.mark.parametrize(("name", "at"), CASES)
def test_the_order_within_a_batch_makes_no_difference(name: str, at: int) -> None:
    views = views_of(lines(name)[at])

    def by_uuid(events: Iterable[Event]) -> list[Event]:
        return sorted(events, key=lambda event: event["uuid"])

    assert by_uuid(PIPELINE.finished_events(*reversed(views))) == by_uuid(PIPELINE.finished_events(*views))


@pytest.mark.parametrize(("name", "at"), CASES)
def test_a_flush_after_every_span_counts_no_call_twice(name: str, at: int) -> None:
    line, history = lines(name)[at], SpanHistory()
    events = [event for view in views_of(line) for event in PIPELINE.finished_events(view, history=history)]
    if line["truth"]["generations"]["derivable"]:
        assert len(calls_in(events)) == line["truth"]["generations"]["value"]
    assert len({event["uuid"] for event in events}) == len(events)


@pytest.mark.parametrize(("name", "at"), CASES)
def test_a_batch_that_is_cut_anywhere_counts_no_call_twice(name: str, at: int) -> None:
    line = lines(name)[at]
    views, truth = views_of(line), line["truth"]["generations"]
    for cut in range(1, len(views)) if truth["derivable"] else ():
        history = SpanHistory()
        events = [
            event
            for part in (views[:cut], views[cut:])
            for event in PIPELINE.finished_events(*part, history=history)
        ]
        assert (cut, len(calls_in(events))) == (cut, truth["value"])


@pytest.mark.parametrize(("name", "at"), CASES)
def test_every_parent_is_an_event_or_the_trace(name: str, at: int) -> None:
    line = lines(name)[at]
    own = {span["span_id"] for span in line["spans"]}
    parents = {
        (span["trace_id"], span["span_id"]): span["parent_span_id"]
        for span in line["spans"]
        if not is_genai_span(span["attributes"], view_of_recorded(span).events)
    }
    events = PIPELINE.finished_events(*views_of(line), parents=parents)
    known = {event["properties"]["$ai_span_id"] for event in events}
    for event in events:
        parent = event["properties"].get("$ai_parent_id")
        # A span that is none of the recorded ones is the caller's: it may come.
        assert parent is None or parent in known or parent not in own


def _shown(name: str) -> list[Line]:
    """Return a few cases: the first one, and the first of each kind that is worth reading."""
    chosen: dict[str, Line] = {"": lines(name)[0]}
    for line in lines(name):
        for word in ("tool", "emb", "429", "image", "agent", "reason", "thinking", "retriev"):
            if word in line["case"]:
                chosen.setdefault(word, line)
    return list({line["case"]: line for line in chosen.values()}.values())[:5]


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_becomes_these_events(name: str) -> None:
    events_by_case = {line["case"]: PIPELINE.finished_events(*views_of(line)) for line in _shown(name)}
    written = json.dumps(events_by_case, indent=1, ensure_ascii=False, sort_keys=True)
    written = re.sub(r'("\$lib_version"|"\$ai_lib_version"): "[^"]*"', r'\1: "..."', written) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(written, encoding="utf-8")
    assert path.exists(), f"UPDATE_GOLDEN=1 make test writes tests/golden/dialects/{path.name}"
    assert written == path.read_text(encoding="utf-8"), "if this is meant: UPDATE_GOLDEN=1 make test"
