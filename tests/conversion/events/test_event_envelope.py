from __future__ import annotations

import hashlib
import hmac
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.events.event_envelope import _NAMESPACE, event_uuid, person_properties, timestamp
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import make_view

HEX = st.text("0123456789abcdef", min_size=16, max_size=32)


@given(trace=HEX, span=HEX, name=st.text(max_size=40))
def test_an_event_uuid_is_the_standard_uuid5_of_span_and_name(trace: str, span: str, name: str) -> None:
    wanted = uuid.uuid5(uuid.UUID(bytes=_NAMESPACE), f"{trace}:{span}:{name}")
    assert event_uuid(trace, span, name) == str(wanted)


def test_events_of_one_span_have_different_uuids() -> None:
    assert event_uuid("a", "b", "$ai_generation") != event_uuid("a", "b", "llm_completion_success")


@given(st.integers(0, 253_402_300_798_999_999_999))
def test_a_timestamp_is_the_moment_to_the_microsecond_in_utc(ns: int) -> None:
    text = timestamp(ns)
    assert text.endswith("Z")
    since_epoch = datetime.fromisoformat(text[:-1] + "+00:00") - datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert since_epoch // (since_epoch.resolution) == ns // 1000


@pytest.mark.parametrize("ns", [-1, 2**64, 2**70])
def test_an_absurd_time_is_still_a_timestamp(ns: int) -> None:
    assert len(timestamp(ns)) == 27


@pytest.mark.parametrize(
    ("attributes", "distinct_id", "personless"),
    [
        ({"posthog.distinct_id": "u", "posthog.chat_id": "c"}, "u", False),
        ({"posthog.session_id": "s", "posthog.chat_id": "c"}, "s", True),
        ({"posthog.conversation_id": "v", "posthog.chat_id": "c"}, "v", True),
        ({"posthog.chat_id": "c"}, "c", True),
        ({}, "1ccef0580a178f3612a542518f9fff59", True),
        ({"posthog.distinct_id": "anonymous"}, "1ccef0580a178f3612a542518f9fff59", True),
        ({"posthog.distinct_id": " \u200b"}, "1ccef0580a178f3612a542518f9fff59", True),
        ({"posthog.distinct_id": "x" * 200}, "x" * 200, False),
    ],
)
def test_an_event_is_about_the_user_else_personless(
    attributes: dict[str, Any], distinct_id: str, personless: bool
) -> None:
    actual, properties = person_properties(read_call(make_view(attributes)))
    assert actual == distinct_id
    assert properties.get("$process_person_profile", True) is not personless


def test_long_ids_stay_apart() -> None:
    ids = {
        person_properties(read_call(make_view({"posthog.distinct_id": "x" * 300 + end})))[0]
        for end in ("a", "b")
    }
    assert {len(each) for each in ids} == {200}
    assert len(ids) == 2


def pseudonymous(**attributes: str) -> list[dict[str, Any]]:
    pipeline = Pipeline(
        families=frozenset({"ai", "llm_completion", "llm_generation"}), pseudonym_key=b"k" * 16
    )
    return pipeline.finished_events(make_view(attributes))


def test_a_user_is_the_same_pseudonym_everywhere_and_is_named_nowhere() -> None:
    events = pseudonymous(**{"user.id": "ann@example.com", "user.name": "Ann"})
    wanted = hmac.new(b"k" * 16, b"ann@example.com", hashlib.sha256).hexdigest()
    assert {event["distinct_id"] for event in events} == {wanted}
    assert {event["properties"]["user_id"] for event in events} == {wanted}
    assert "ann" not in str(events).lower()


@pytest.mark.parametrize("nobody", ["anonymous", "null", " "])
def test_nobody_is_no_pseudonym(nobody: str) -> None:
    for event in pseudonymous(**{"user.id": nobody}):
        assert event["properties"]["$process_person_profile"] is False
