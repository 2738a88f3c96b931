"""Of two spans of one call, the one that made the request reports who served it."""

from __future__ import annotations

import pytest

from otel_posthog.conversion.model_call import Kind, ModelCall, Usage
from otel_posthog.conversion.traces.matching import agree
from otel_posthog.conversion.traces.merging import merge

DATED = "gpt-4o-mini-2024-07-18"
TOKENS = Usage(input=1001, output=101)


def span(scope: str, **changes: object) -> ModelCall:
    call = ModelCall(Kind.GENERATION, "chat", "chat", "a" * 32, scope[:1] * 16, None, 0, 10)
    return call._replace(scope=scope, usage=TOKENS, **changes)  # type: ignore[arg-type]


def test_the_provider_of_the_span_that_made_the_request_wins() -> None:
    framework = span("strands", provider="strands-agents")
    request = span("wire", provider="openai", base_url="https://api.openai.com")
    assert merge(framework, request).provider == "openai"


def test_a_provider_without_a_request_does_not_replace_another() -> None:
    assert merge(span("one", provider="azure"), span("two", provider="openai")).provider == "azure"


@pytest.mark.parametrize(
    ("outer", "inner", "model"),
    [
        (
            {"response_model": "gpt-4o-mini"},
            ("gpt-4o-mini", DATED),
            DATED,
        ),
        (
            {"response_model": "openai/gpt-4o-mini"},
            ("gpt-4o-mini", DATED),
            DATED,
        ),
        (
            {"response_model": DATED},
            ("gpt-4o-mini", "gpt-4o-mini"),
            DATED,
        ),
        ({}, ("gpt-4o-mini", DATED), DATED),
    ],
    ids=["as requested", "with its provider", "the outer one knows", "only the inner one knows"],
)
def test_the_model_that_answered_wins_over_the_requested_one(
    outer: dict[str, str], inner: tuple[str, str], model: str
) -> None:
    request = span("wire", request_model=inner[0], response_model=inner[1])
    assert merge(span("framework", **outer), request).response_model == model


@pytest.mark.parametrize(
    ("mine", "theirs", "is_one"),
    [
        ("__fake_id__", "chatcmpl-1", True),
        ("resp_bGl0ZWxsbTpjdXN0b20", "resp_68a1b2", True),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", "chatcmpl-1", True),
        ("chatcmpl-1", "chatcmpl-2", False),
        ("resp_1", "resp_2", False),
    ],
)
def test_an_id_that_a_library_invented_does_not_tell_two_spans_apart(
    mine: str, theirs: str, is_one: bool
) -> None:
    models = {"request_model": "gpt-4o-mini"}
    one, other = span("one", response_id=mine, **models), span("two", response_id=theirs, **models)
    assert agree(one, other) is is_one


def test_ids_of_two_makers_and_other_tokens_are_two_calls() -> None:
    one = span("one", response_id="__fake_id__", request_model="gpt-4o-mini")
    other = span("two", response_id="chatcmpl-1", request_model="gpt-4o-mini")
    assert not agree(one, other._replace(usage=Usage(input=1002, output=102)))
