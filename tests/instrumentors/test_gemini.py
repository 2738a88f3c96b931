"""Behaviour beyond the table of cases: content off, context, suppression, errors, memory."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from google.genai import types
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode

from instrumentors import GeminiInstrumentor
from instrumentors.gemini import generate_content
from instrumentors.gemini import interactions_payload as payload
from instrumentors.gemini.call import request_id
from tests.instrumentors.cases import gemini as cases
from tests.instrumentors.provider import Provider, ScriptedResponse
from tests.instrumentors.recording import (
    Raising,
    Recorder,
    Silent,
    attributes,
    close_elsewhere,
    everything,
    outcome,
    texts,
)

if TYPE_CHECKING:
    from otel_posthog.demo.fake_providers import FakeProviders


@pytest.fixture
def instrumented(recorder: Recorder) -> Iterator[Callable[..., None]]:
    instrumentor = GeminiInstrumentor()

    def instrument(**kwargs: Any) -> None:
        instrumentor.instrument(tracer_provider=recorder.provider, **kwargs)

    yield instrument
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_messages_are_the_conventions_json(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    search = [types.Tool(google_search=types.GoogleSearch())]
    run = cases.stream(["hello", cases.PNG], system_instruction="be nice", tools=search)
    run(standin.gemini_base_url)
    span_attributes = attributes(recorder.spans()[0])
    blob = {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "//77/w=="}
    assert json.loads(span_attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hello"}, blob]}
    ]
    assert json.loads(span_attributes["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "be nice"}
    ]
    assert json.loads(span_attributes["gen_ai.tool.definitions"]) == [
        {"type": "google_search", "name": "google_search"}
    ]
    (message,) = json.loads(span_attributes["gen_ai.output.messages"])
    assert message["finish_reason"] == "stop"
    assert [part["type"] for part in message["parts"]] == ["text"]  # nine chunks are one text


def test_sampler_and_processor_see_the_whole_request(
    standin: FakeProviders,
    recorder: Recorder,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def should_sample(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs["attributes"] if "attributes" in kwargs else args[4])
        return original(*args, **kwargs)

    original = recorder.provider.sampler.should_sample
    monkeypatch.setattr(recorder.provider.sampler, "should_sample", should_sample)
    instrumented()
    cases.stream(temperature=0.5)(standin.gemini_base_url)
    assert seen["gen_ai.request.temperature"] == 0.5
    assert seen["gen_ai.request.stream"] is True
    assert "hello" in seen["gen_ai.input.messages"]


SECRET = {"candidates": [{"content": {"parts": [{"text": "s3cret"}]}, "finishReason": "STOP"}]}
REFUSED = {"error": {"code": 400, "message": "cannot say s3cret", "status": "INVALID_ARGUMENT"}}
SECRET_REQUEST: dict[str, Any] = {
    "contents": ["s3cret", cases.PNG],
    "system_instruction": "s3cret",
    "tools": [types.Tool(google_search=types.GoogleSearch())],
}
OUTPUT_STEP = {"type": "model_output", "content": [{"type": "text", "text": "s3cret"}]}
ERRORS = [{"code": "internal", "message": "cannot say s3cret"}]
TOOL = {"type": "function", "name": "f", "description": "s3cret", "parameters": {}}
INTERACTION: dict[str, Any] = {"system_instruction": "s3cret", "tools": [TOOL]}
SECRET_RUNS: dict[str, tuple[cases.Run, ScriptedResponse]] = {
    "answer": (cases.generate(**SECRET_REQUEST), ScriptedResponse(SECRET)),
    "stream": (cases.stream(**SECRET_REQUEST), ScriptedResponse(events=[SECRET, SECRET])),
    "error": (cases.generate(**SECRET_REQUEST), ScriptedResponse(REFUSED, status=400)),
    "error inside a stream": (cases.stream(**SECRET_REQUEST), ScriptedResponse(events=[SECRET, REFUSED])),
    "interaction": (
        cases.interact("s3cret", **INTERACTION),
        ScriptedResponse(cases.interaction(OUTPUT_STEP)),
    ),
    "failed interaction": (
        cases.interact("s3cret", **INTERACTION),
        ScriptedResponse(cases.interaction(OUTPUT_STEP, status="failed", errors=ERRORS)),
    ),
    "refused interaction": (cases.interact("s3cret", **INTERACTION), ScriptedResponse(REFUSED, status=400)),
    "error event": (
        cases.flowing(),
        cases.flow(cases.event("error", error={"code": "x", "message": "s3cret"}), status=None),
    ),
    "free text for a code in a stream": (
        cases.stream(**SECRET_REQUEST),
        ScriptedResponse(events=[{"candidates": [], "error": {"code": "cannot say s3cret"}}]),
    ),
    "free text for an interaction's code": (
        cases.interact("s3cret", **INTERACTION),
        ScriptedResponse(
            cases.interaction(OUTPUT_STEP, status="failed", errors=[{"code": "cannot say s3cret"}])
        ),
    ),
    "images": (
        cases.quietly(lambda c: c.models.generate_images(model=cases.IMAGEN, prompt="s3cret")),
        ScriptedResponse({"predictions": [cases.PREDICTED, {"raiFilteredReason": "s3cret"}]}),
    ),
}


@pytest.mark.parametrize("name", SECRET_RUNS)
def test_content_off_leaves_no_content_anywhere(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    if "inter" in name or "event" in name:
        pytest.importorskip("google.genai._gaos")
    instrumented(capture_content=False)
    run, reply = SECRET_RUNS[name]
    provider.play(reply)
    outcome(lambda: run(provider.url))
    (span,) = recorder.spans()
    assert "s3cret" not in everything(span)
    assert "//77" not in everything(span)
    assert attributes(span)["posthog.prompt.length"] > 0


def test_environment_turns_content_off(
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "NO_CONTENT")
    instrumented()
    provider.play(ScriptedResponse(SECRET))
    cases.generate(**SECRET_REQUEST)(provider.url)
    assert "s3cret" not in everything(recorder.spans()[0])


@pytest.mark.parametrize("content", [True, False])
def test_refusal_without_a_message_is_described_by_its_code(
    content: bool, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    pytest.importorskip("google.genai._gaos")
    instrumented(capture_content=content)
    provider.play(ScriptedResponse(b"<html>", status=400))
    outcome(lambda: cases.interact()(provider.url))
    assert recorder.spans()[0].status.description == "400"


HALF = "bad \ud83d"
HALVES: dict[str, tuple[cases.Run, ScriptedResponse]] = {
    "asked": (cases.generate(HALF, stop_sequences=[HALF]), ScriptedResponse(cases.LAST)),
    "answered": (cases.generate(), ScriptedResponse(cases.answer({"text": HALF}))),
    "refused": (cases.generate(), ScriptedResponse({"error": {"code": 400, "message": HALF}}, status=400)),
    "refused in a stream": (
        cases.stream(),
        ScriptedResponse(events=[{"candidates": [], "error": {"code": 400, "message": HALF}}]),
    ),
    "failed interaction": (
        cases.interact(),
        ScriptedResponse(cases.interaction(status="failed", errors=[{"code": HALF, "message": HALF}])),
    ),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_surrogate_pair_gets_onto_no_span(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    if "interaction" in name:
        pytest.importorskip("google.genai._gaos")
    instrumented()
    run, reply = HALVES[name]
    provider.play(reply)
    outcome(lambda: run(provider.url))
    (span,) = recorder.spans()
    text = "".join(texts(span))
    assert "bad \ufffd" in text
    assert text.encode()


async def interact_pending(c: Any) -> None:
    await c.aio.interactions.create(model="m", input="hello")


@pytest.mark.parametrize("use", [cases.asynchronous, interact_pending])
def test_call_closed_in_another_context_is_closed_quietly(
    use: Any,
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if use is interact_pending:
        pytest.importorskip("google.genai._gaos")
    instrumented()
    options = {"async_client_args": {"transport": Silent()}}

    async def main() -> None:
        close_elsewhere(use(cases.client(provider.url, **options)))

    asyncio.run(main())
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


RUNS: dict[str, tuple[cases.Run, ScriptedResponse]] = {
    "call": (cases.generate(), ScriptedResponse(cases.LAST)),
    "async call": (cases.run_async(cases.asynchronous), ScriptedResponse(cases.LAST)),
    "refused call": (cases.generate(), ScriptedResponse(REFUSED, status=400)),
    "stream": (cases.stream(), ScriptedResponse(events=[cases.FIRST, cases.LAST])),
    "async stream": (
        cases.run_async(cases.asynchronous_stream),
        ScriptedResponse(events=[cases.FIRST, cases.LAST]),
    ),
    "interaction": (cases.interact(), ScriptedResponse(cases.interaction())),
}


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize("name", RUNS)
def test_processor_that_raises_does_not_reach_the_user(
    name: str, where: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    if name == "interaction":
        pytest.importorskip("google.genai._gaos")
    run, reply = RUNS[name]
    provider.play(reply)
    baseline = outcome(lambda: run(provider.url))
    recorder.provider.add_span_processor(Raising(where))
    instrumented()
    provider.play(reply)
    assert outcome(lambda: run(provider.url)) == baseline


@pytest.mark.parametrize("name", ["400", "connection lost in a stream"])
def test_exception_is_recorded_once(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    provider.play(*cases.CASES[name].responses)
    outcome(lambda: cases.CASES[name].run(provider.url))
    (span,) = recorder.spans()
    assert [event.name for event in span.events] == ["exception"]


def test_callers_span_is_current_inside_the_loop(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    c = cases.client(standin.gemini_base_url)
    with recorder.tracer.start_as_current_span("caller") as caller:
        for _ in cases.chunks(c):
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is caller


def test_callers_span_is_current_inside_the_loop_over_an_interaction(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    pytest.importorskip("google.genai._gaos")
    instrumented()
    provider.play(cases.flow(*cases.HELLO))
    c = cases.once(provider.url)
    with recorder.tracer.start_as_current_span("caller") as caller:
        for _ in c.interactions.create(model="m", input="hello", stream=True):
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is caller


def test_suppression_and_uninstrument_are_obeyed(
    standin: FakeProviders, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    from google.genai._api_client import BaseApiClient

    before = dict(vars(BaseApiClient))
    instrumented()
    with suppress_instrumentation():
        cases.generate()(standin.gemini_base_url)
        cases.stream()(standin.gemini_base_url)
    assert recorder.spans() == []
    GeminiInstrumentor().uninstrument()
    cases.generate()(standin.gemini_base_url)
    assert recorder.spans() == []
    assert dict(vars(BaseApiClient)) == before


def test_suppression_and_uninstrument_are_obeyed_by_interactions(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    basesdk = pytest.importorskip("google.genai._gaos.basesdk")
    before = dict(vars(basesdk.BaseSDK))
    instrumented()
    with suppress_instrumentation():
        provider.play(ScriptedResponse(cases.interaction()))
        cases.interact()(provider.url)
    GeminiInstrumentor().uninstrument()
    provider.play(ScriptedResponse(cases.interaction()))
    cases.interact()(provider.url)
    assert recorder.spans() == []
    assert dict(vars(basesdk.BaseSDK)) == before


@pytest.mark.parametrize("body", [{"candidates": [], "usageMetadata": {"promptTokenCount": "many"}}, [1], 7])
def test_unreadable_answer_still_ends_the_span(
    body: Any, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    provider.play(ScriptedResponse(body))
    outcome(lambda: cases.generate()(provider.url))
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.request.model"] == cases.MODEL


@pytest.mark.parametrize("body", [{"steps": 7, "usage": [], "status": {}}, [1], 7])
def test_unreadable_interaction_still_ends_the_span(
    body: Any, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    pytest.importorskip("google.genai._gaos")
    instrumented()
    provider.play(ScriptedResponse(body))
    outcome(lambda: cases.interact()(provider.url))
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.request.model"] == cases.FLASH


def test_unsampled_stream_is_not_kept(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    monkeypatch.setattr(recorder.provider, "sampler", ALWAYS_OFF)
    instrumented()
    provider.play(ScriptedResponse(events=[cases.LAST]))
    assert len(cases.stream()(provider.url)) == 1
    assert recorder.spans() == []


def test_sdk_without_a_known_method_is_logged_and_followed_for_the_rest(
    standin: FakeProviders,
    recorder: Recorder,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from google.genai._api_client import BaseApiClient

    monkeypatch.delattr(BaseApiClient, "request_streamed")
    monkeypatch.delattr(BaseApiClient, "_request_once", raising=False)
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        instrumented()
    assert [record.getMessage() for record in caplog.records] == [
        "google-genai has no request_streamed any more: such calls give no span"
    ]
    outcome(lambda: cases.generate()(standin.gemini_base_url))
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR  # the SDK's own method is gone


# The form that interactions had until google-genai 2.x, in which contents take the place of steps.
OLD = {
    "id": "i",
    "model": "m",
    "status": "requires_action",
    "outputs": [
        {"type": "thought", "summary": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "hello"},
        {"type": "function_call", "id": "f", "name": "w", "arguments": {"a": 1}},
    ],
    "usage": {"total_input_tokens": 5, "total_output_tokens": 7, "total_thought_tokens": 3},
}
OLD_EVENTS = [
    {"event_type": "interaction.start", "interaction": {"id": "i", "model": "m", "status": "in_progress"}},
    {
        "event_type": "content.delta",
        "index": 0,
        "delta": {"type": "thought_summary", "content": {"text": "hm"}},
    },
    {"event_type": "content.start", "index": 1, "content": {"type": "text", "text": "hel"}},
    {"event_type": "content.delta", "index": 1, "delta": {"type": "text", "text": "lo"}},
    {"event_type": "content.stop", "index": 1},
    {
        "event_type": "content.delta",
        "index": 2,
        "delta": {"type": "function_call", "id": "f", "name": "w", "arguments": {"a": 1}},
    },
    {"event_type": "interaction.complete", "interaction": {**OLD, "outputs": None}},
]


def sent(events: list[Any], line: str = "\n") -> bytes:
    return "".join(f"event: x{line}data: {json.dumps(event)}{line}{line}" for event in events).encode()


@pytest.mark.parametrize(
    "body",
    [json.dumps(OLD).encode(), sent(OLD_EVENTS), sent(OLD_EVENTS, "\r\n"), sent(OLD_EVENTS) + b'data: {"br'],
    ids=["response", "stream", "other line ends", "broken off"],
)
def test_older_form_of_interactions_is_read(body: bytes) -> None:
    read_attributes = payload.stream_attributes(body, content=True, complete=True)
    assert read_attributes["gen_ai.response.id"] == "i"
    assert read_attributes["gen_ai.response.finish_reasons"] == ["tool_call"]
    assert read_attributes["gen_ai.usage.input_tokens"] == 5
    assert read_attributes["gen_ai.usage.output_tokens"] == 10
    (message,) = json.loads(read_attributes["gen_ai.output.messages"])
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "hello"},
        {"type": "tool_call", "name": "w", "arguments": {"a": 1}, "id": "f"},
    ]


def test_turns_of_an_interaction_are_messages() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "model", "content": [{"type": "text", "text": "b"}]}]
    read_attributes = payload.request_attributes({"model": "models/m", "input": turns}, content=True)
    assert read_attributes["gen_ai.request.model"] == "m"
    assert [one["role"] for one in json.loads(read_attributes["gen_ai.input.messages"])] == [
        "user",
        "assistant",
    ]


@pytest.mark.parametrize(
    ("headers", "identifier"),
    [
        ({"X-Request-Id": "r"}, "r"),
        ({"x-goog-request-id": "g"}, "g"),
        ({"date": "d"}, None),
        (None, None),
    ],
)
def test_services_name_for_the_request_is_read(headers: Any, identifier: str | None) -> None:
    assert request_id(headers).get("posthog.request.id") == identifier


def test_a_part_that_cannot_be_read_costs_only_itself() -> None:
    content = {"role": "model", "parts": ["odd", {"text": "hi"}, 7]}
    candidate = {"content": content, "finishReason": "STOP"}
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 9}
    accumulator = generate_content.GenerateContentAccumulator()
    accumulator.add(
        SimpleNamespace(body=json.dumps({"candidates": ["odd", candidate], "usageMetadata": usage}))
    )
    streamed = accumulator.attributes(True, True)
    whole = generate_content.response_attributes({"candidates": [candidate], "usageMetadata": usage}, True)
    for span_attributes in (streamed, whole):
        (message,) = json.loads(span_attributes["gen_ai.output.messages"])
        assert {"type": "text", "content": "hi"} in message["parts"]
        assert span_attributes["gen_ai.usage.input_tokens"] == 7


def test_media_inside_of_a_function_response_are_input() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "//77"}}
    answer = {"name": "shot", "response": {"ok": True}, "parts": [picture]}
    request = {"contents": [{"role": "user", "parts": [{"functionResponse": answer}]}]}
    span_attributes = generate_content.request_attributes(request, "m", True)
    (message,) = json.loads(span_attributes["gen_ai.input.messages"])
    assert message["role"] == "tool"
    assert [part["type"] for part in message["parts"]] == ["tool_call_response", "blob"]
    assert span_attributes["posthog.files.count"] == 1


def test_arguments_of_a_function_that_are_streamed_are_one_call() -> None:
    calls: list[dict[str, Any]] = [
        {"name": "f", "willContinue": True},
        {
            "partialArgs": [{"jsonPath": "$.city", "stringValue": "Os", "willContinue": True}],
            "willContinue": True,
        },
        {"partialArgs": [{"jsonPath": "$.city", "stringValue": "lo"}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.days[0].n", "numberValue": 2}], "willContinue": True},
        {},
        {"name": "g", "args": {"a": 1}},
    ]
    accumulator = generate_content.GenerateContentAccumulator()
    for call in calls:
        candidate = {"content": {"role": "model", "parts": [{"functionCall": call}]}}
        accumulator.add(SimpleNamespace(body=json.dumps({"candidates": [candidate]})))
    span_attributes = accumulator.attributes(True, False)
    (message,) = json.loads(span_attributes["gen_ai.output.messages"])
    assert [(part["name"], part["arguments"]) for part in message["parts"]] == [
        ("f", {"city": "Oslo", "days": [{"n": 2}]}),
        ("g", {"a": 1}),
    ]
    assert span_attributes["posthog.tool_calls.count"] == 2
