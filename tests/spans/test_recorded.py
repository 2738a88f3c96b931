"""Real spans of real instrumentors, and the truth of the calls behind them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.events import PriceBook
from otel_posthog.pipeline import Pipeline
from otel_posthog.spans.markers import MARKERS
from tests.support.spans import recorded, view_of_recorded

PIPELINE = Pipeline(families=frozenset({"ai"}), prices=PriceBook())

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

# An agent that runs at the provider is one call there; telling it from an agent that runs here, whose
# model calls have spans of their own, takes the whole trace. So far it is structure.
NOT_YET = {("google-genai", "int.agent")}

CASES = [
    pytest.param(name, line, id=f"{name}-{line['case']}")
    for name in ("genai-openai", "google-genai", "traceloop-openai", "traceloop-gemini")
    for line in recorded(name)
    if (name, line["case"]) not in NOT_YET
]


@pytest.mark.parametrize(("name", "line"), CASES)
def test_what_a_recorded_span_shows_is_on_its_event(name: str, line: dict[str, Any]) -> None:
    events = [
        event
        for span in line["spans"]
        if not MARKERS.isdisjoint(span["attributes"])
        for event in PIPELINE.finished(view_of_recorded(span))
    ]
    calls = {
        event["properties"]["$ai_span_id"]: event
        for event in events
        if event["event"] in {"$ai_generation", "$ai_embedding"}
    }
    truth = line["truth"]
    if truth["generations"]["derivable"]:
        assert len(calls) == truth["generations"]["value"]
    for call in truth["calls"]:
        event = next(calls[span_id] for span_id in call.pop("span_ids") if span_id in calls)
        for field, wanted in call.items():
            if wanted["derivable"]:
                _compare(field, wanted, event)


def _compare(field: str, wanted: dict[str, Any], event: dict[str, Any]) -> None:
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
