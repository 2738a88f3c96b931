"""A malformed span still becomes events: nothing raises, and other spans are not affected."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion import events, pipeline, span_reader
from otel_posthog.conversion.dialects import DIALECTS
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.spans.genai_detection import MARKERS
from otel_posthog.conversion.spans.span_view import SpanEvent, SpanView
from otel_posthog.forwarder import forwarder
from tests.conversion.readers.test_attribute_values import ANYTHING
from tests.support.spans import START, make_view

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
PIPELINE = Pipeline(families=EVERYTHING, prices=PriceBook())
KNOWN = [
    *sorted({name for dialect in DIALECTS for rule in dialect.rules for name in rule.names}),
    *sorted(MARKERS),
    "posthog.group.company",
    "posthog.property.x",
    "posthog.flag.y",
    "gen_ai.prompt.0.content",
    "gen_ai.prompt.0.tool_calls.0.arguments",
    "gen_ai.completion.0.role",
    "traceloop.association.properties.x",
]
WRITTEN = st.sampled_from(
    ["{", "[]", "[null]", '[{"role": 1}]', '[{"parts": [null, 1, {"type": {}}]}]', '{"a":', "null", "[1e999]"]
)
ODD = ANYTHING | WRITTEN | st.integers(-(2**70), 2**70) | st.sampled_from(["\ud800", "\x00", "-1", "NaN"])


@given(
    attributes=st.dictionaries(st.sampled_from(KNOWN) | st.text(), ODD, max_size=12),
    end=st.none() | st.integers(-(2**70), 2**70),
    start=st.integers(-(2**70), 2**70),
    status=st.sampled_from(["UNSET", "OK", "ERROR"]),
    message=st.none() | st.text(),
    exception=st.dictionaries(st.sampled_from(["exception.type", "exception.message"]), ODD),
)
def test_any_span_becomes_events(
    attributes: Any, end: Any, start: int, status: str, message: Any, exception: Any
) -> None:
    view = make_view(
        attributes,
        start_ns=start,
        end_ns=end,
        status=status,
        status_message=message,
        events=[SpanEvent("exception", START, exception)],
    )
    events = PIPELINE.finished_events(view)
    assert events
    assert events == PIPELINE.finished_events(view)
    PIPELINE.started_events(view)


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"gen_ai.input.messages": "x" * 1_000_000}, id="a million characters"),
        pytest.param({"gen_ai.input.messages": "[" * 200_000}, id="nested beyond reason"),
        pytest.param({"gen_ai.input.messages": json.dumps([[[[]]]])}, id="lists of lists"),
        pytest.param(
            {"gen_ai.usage.input_tokens": -5, "gen_ai.usage.output_tokens": 10**30}, id="absurd numbers"
        ),
        pytest.param(
            {"gen_ai.provider.name": "nobody", "gen_ai.request.model": "\ud800\x00"}, id="odd names"
        ),
        pytest.param({"gen_ai.request.model": ["gpt-5.1"]}, id="a list for a name"),
    ],
)
def test_a_bad_span_still_has_its_events(attributes: dict[str, Any]) -> None:
    assert [event["event"] for event in PIPELINE.finished_events(make_view(attributes))] == [
        "$ai_generation",
        "llm_completion_requested",
        "llm_completion_success",
        "llm_generation",
    ]


def test_a_span_that_cannot_be_converted_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    good, broken, also_good = (make_view(span_id=digit * 16) for digit in "abc")
    read, make = span_reader.read_call, events.ai_event

    def unreadable(view: SpanView) -> Any:
        if view is broken:
            raise ZeroDivisionError
        return read(view)

    def unmakeable(call: Any, *args: Any, **options: Any) -> Any:
        if call.span_id == broken.span_id:
            raise ZeroDivisionError
        return make(call, *args, **options)

    for place, name, fails in ((pipeline, "read_call", unreadable), (events, "ai_event", unmakeable)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fails)
            subject = forwarder({"api_key": "phc_x"})
            converted = list(subject._converter.finished([good, broken, also_good]))
        assert len(converted) == 6
        assert subject.stats()["spans"] | {"dropped": {}} == {
            "seen": 0,
            "not ours": 0,
            "converted": 2,
            "failed to convert": 1,
            "dropped": {},
        }


def test_a_structure_span_has_no_completion_events() -> None:
    tool = make_view({"gen_ai.operation.name": "execute_tool"}, parent_id="3a341e0a2bbd6f7b")
    assert [event["event"] for event in PIPELINE.finished_events(tool)] == ["$ai_span"]
    assert Pipeline(families=frozenset({"llm_completion"})).finished_events(tool) == []


@pytest.mark.parametrize("missing", ["gen_ai.request.model", "gen_ai.operation.name"])
def test_a_start_is_announced_only_when_it_is_a_call_of_a_known_model(missing: str) -> None:
    whole = make_view()
    assert len(PIPELINE.started_events(whole)) == 1
    only = {name: value for name, value in whole.attributes.items() if name != missing}
    events = PIPELINE.started_events(make_view(only=only))
    assert (events == []) == (missing == "gen_ai.request.model")


def test_an_announcement_is_the_event_that_the_finished_span_would_send() -> None:
    [announced] = PIPELINE.started_events(make_view(end_ns=None))
    finished = PIPELINE.finished_events(make_view())
    assert announced in finished


def test_a_cost_that_a_gateway_reported_is_kept() -> None:
    [generation, *_] = PIPELINE.finished_events(
        make_view({"gen_ai.usage.cost": 0.25, "gen_ai.usage.input_tokens": 5})
    )
    assert generation["properties"]["$ai_total_cost_usd"] == 0.25
    assert generation["properties"]["$ai_cost_passthrough"] is True
