"""Events that another process finished, before a process that hides more sends them."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.privacy.pseudonyms import pseudonym
from otel_posthog.conversion.privacy.redaction import KINDS, redactor
from otel_posthog.conversion.privacy.stored_events import hide_event_content, pseudonymize_event, redact_event
from otel_posthog.delivery.encoding.json_encoder import encode
from tests.conversion.events.test_properties import KINDS as SPANS
from tests.conversion.privacy.test_privacy import PLANTED, SENTENCE, SHAPES, TOKEN, planted
from tests.conversion.test_recorded import NAMES, lines
from tests.support.spans import CHAT, make_view, view_of_recorded

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
OPEN = Pipeline(families=EVERYTHING, prices=PriceBook())
PRIVATE = Pipeline(families=EVERYTHING, prices=PriceBook(), content=False)
KEY = b"0123456789abcdef"
NAMED = Pipeline(families=EVERYTHING, prices=PriceBook(), pseudonym_key=KEY)
EVERY = redactor(KINDS)
REDACTING = Pipeline(families=EVERYTHING, prices=PriceBook(), redact=EVERY)

Event = dict[str, Any]


def kept(event: Event) -> Event:
    """Return the event as it is read from disk."""
    decoded: Event = orjson.loads(encode(event))
    return decoded


def events(pipeline: Pipeline, name: str) -> list[Event]:
    return [
        kept(event)
        for line in lines(name)
        for event in pipeline.finished_events(*(view_of_recorded(span) for span in line["spans"]))
    ]


# --- where content is hidden ---

NOT_NAMING = [name for name in PLANTED if not name.endswith(("privacy_mode", "$feature/x"))]
"""The variant of a flag is sent if it is an identifier, no matter who set it."""


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    canary=st.sampled_from([SENTENCE, TOKEN]),
    kind=st.sampled_from(sorted(SPANS)),
    names=st.dictionaries(
        st.sampled_from(NOT_NAMING),
        st.sampled_from(sorted(SHAPES[SENTENCE])),
        min_size=1,
        max_size=40,
    ),
    root=st.booleans(),
)
def test_nothing_planted_is_left(canary: str, kind: str, names: dict[str, str], root: bool) -> None:
    view = planted(canary, names, kind, parent_id=None if root else "2" * 16, scope=None)
    for event in OPEN.finished_events(view):
        left = hide_event_content(kept(event))
        assert canary.encode() not in encode(left), left
        assert hide_event_content(left) == left


@pytest.mark.parametrize("kind", SPANS)
@pytest.mark.parametrize("canary", [SENTENCE, TOKEN])
def test_no_single_attribute_lets_anything_out(kind: str, canary: str) -> None:
    for name in PLANTED if canary == SENTENCE else NOT_NAMING:
        for shape in ("text", "request", "metadata"):
            for event in OPEN.finished_events(planted(canary, {name: shape}, kind, scope=None)):
                assert canary.encode() not in encode(hide_event_content(kept(event))), (name, shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_event_is_hidden_like_a_fresh_one(name: str) -> None:
    figures = {"temperature", "top_p", "stream", "user_id", "$ai_span_name"}  # also under a custom name
    for here, there in zip(events(PRIVATE, name), events(OPEN, name), strict=True):
        left = hide_event_content(there)
        for event in (here, left):
            for each in figures:
                event["properties"].pop(each, None)
        assert left == here


TOLD: dict[str, Any] = {
    "posthog.distinct_id": "Jane Doe",
    "posthog.feature": "Smart reply",
    "posthog.trace_id": "ticket 17",
    "posthog.chat_id": "chat of A and B",
    "posthog.property.plan": "free for all",
    "posthog.flag.new-model": "variant-a",
    "posthog.group.company": "Acme Inc",
    "posthog.group.team": "red",
}


def test_identifiers_of_the_application_are_kept() -> None:
    events = OPEN.finished_events(make_view(TOLD, parent_id=None))
    hidden_events = [
        hide_event_content(kept(event)) for event in events if event["event"] != "llm_generation"
    ]
    encoded = encode({"all": hidden_events})
    for word in ("Jane", "Smart", "ticket", "chat of", "free", "Acme"):
        assert word.encode() not in encoded
    assert {event["properties"]["$feature/new-model"] for event in hidden_events} == {"variant-a"}
    assert {event["properties"]["$groups"]["team"] for event in hidden_events} == {"red"}


def test_events_of_a_trace_stay_together_and_are_personless_without_a_user() -> None:
    events = [
        hide_event_content(kept(event))
        for event in OPEN.finished_events(make_view(TOLD), make_view(TOLD, span_id="3" * 16))
    ]
    of_trace = [event for event in events if event["event"] != "llm_generation"]
    [trace_id] = {event["properties"]["$ai_trace_id"] for event in of_trace}
    assert {event["distinct_id"] for event in of_trace} == {trace_id}
    assert {event["properties"]["$process_person_profile"] for event in events} == {False}


def test_feedback_is_kept() -> None:
    event = {"event": "$ai_feedback", "distinct_id": "u", "properties": {"$ai_feedback_text": "too slow"}}
    assert hide_event_content(event)["properties"] == {"$ai_feedback_text": "too slow"}


def test_how_likely_an_event_was_kept_is_left() -> None:
    event = {"event": "$ai_generation", "distinct_id": "u", "properties": {"$sample_rate": 0.1}}
    assert hide_event_content(event)["properties"] == {"$sample_rate": 0.1}


# --- texts ---


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_event_is_redacted_like_a_fresh_one(name: str) -> None:
    for here, there in zip(events(REDACTING, name), events(OPEN, name), strict=True):
        assert redact_event(there, EVERY) == here
        assert redact_event(here, EVERY) == here


MAIL = "jane@example.com"
CALL = {"type": "tool_call", "id": MAIL, "name": "f", "arguments": {"to": MAIL}}


@pytest.mark.parametrize(
    "attributes",
    [
        {
            "gen_ai.input.messages": json.dumps(
                [{"role": "user", "parts": [{"type": "text", "content": MAIL}]}]
            )
        },
        {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [CALL]}])},
        {"gen_ai.tool.definitions": json.dumps([{"name": "f", "description": MAIL}])},
        {"gen_ai.request.stop_sequences": [MAIL]},
        {"posthog.property.mail": MAIL, "posthog.property.inner": json.dumps({"mail": MAIL})},
        {"posthog.username": MAIL},
        {"posthog.distinct_id": MAIL, "posthog.group.mail": MAIL},
    ],
    ids=["message", "tool call", "tools", "stop", "custom", "username", "ids"],
)
def test_texts_are_redacted_and_ids_are_not(attributes: dict[str, Any]) -> None:
    view = make_view(attributes)
    here, there = REDACTING.finished_events(view), OPEN.finished_events(view)
    assert MAIL.encode() in encode({"all": there})
    assert [redact_event(kept(event), EVERY) for event in there] == [kept(event) for event in here]


# --- users ---


@pytest.mark.parametrize(
    "attributes",
    [
        {"posthog.distinct_id": "user-1", "posthog.username": "Jane"},
        {"posthog.distinct_id": "u" * 300},
        {"posthog.distinct_id": "anonymous"},
        {"posthog.session_id": "session-1"},
        {"posthog.distinct_id": "user-1", "posthog.chat_id": "user-1"},
        {},
    ],
    ids=["user", "long", "nobody", "session", "chat named after the user", "none"],
)
def test_users_have_the_pseudonym_that_they_have_here(attributes: dict[str, Any]) -> None:
    view = make_view(only={**CHAT, **attributes})
    events = [pseudonymize_event(kept(event), KEY) for event in OPEN.finished_events(view)]
    assert events == [kept(event) for event in NAMED.finished_events(view)]


def test_a_user_whom_a_hook_named_has_a_pseudonym_too() -> None:
    [event] = [
        event for event in OPEN.finished_events(make_view()) if event["event"] == "llm_completion_success"
    ]
    assert pseudonymize_event({**event, "distinct_id": "jane"}, KEY)["distinct_id"] == pseudonym("jane", KEY)


# --- anything that a hook left there ---

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OF_OURS = ["$ai_input", "$ai_tools", "$ai_trace_id", "$ai_model_parameters", "metadata", "$groups", "user_id"]
OTHERS = [
    "$ai_error",
    "$ai_error_type",
    "$ai_span_name",
    "$feature/x",
    "$sample_rate",
    "$ai_base_url",
    "$ai_tools_called",
]
HOOKED = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["$ai_generation", "llm_completion_success", "$ai_metric", "mine"]),
        "distinct_id": JSON,
        "properties": st.dictionaries(
            st.sampled_from(OF_OURS + OTHERS) | st.text(max_size=5), JSON, max_size=6
        ),
    }
)


@given(HOOKED)
def test_hiding_and_redacting_any_event_are_idempotent(event: Event) -> None:
    left = hide_event_content(event)
    assert hide_event_content(left) == left
    redacted = redact_event(event, EVERY)
    assert redact_event(redacted, EVERY) == redacted
    assert isinstance(pseudonymize_event(event, KEY)["properties"], dict)
