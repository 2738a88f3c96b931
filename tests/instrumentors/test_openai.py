"""What the table of cases cannot say: content off, context, suppression, and what must not happen."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import StatusCode

from instrumentors import OpenAIInstrumentor
from otel_posthog import ai_context
from tests.instrumentors.provider import Provider, Reply, Request
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
    from otel_posthog.demo.standin import StandIn

MODEL = "gpt-4o-mini"
ASKED: Any = [{"role": "system", "content": "be nice"}, {"role": "user", "content": "hello"}]
PICTURE: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "hello"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,//77/w=="}},
        ],
    }
]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
Case = Callable[[OpenAI], Any]


PYTEST = [sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider"]
PYTEST += [str(Path(__file__).with_name("test_cases.py"))]


def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="x", max_retries=0)


@pytest.fixture
def instrumented(recorder: Recorder) -> Iterator[Callable[..., None]]:
    instrumentor = OpenAIInstrumentor()

    def instrument(**kwargs: Any) -> None:
        instrumentor.instrument(tracer_provider=recorder.provider, **kwargs)

    yield instrument
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def chat(messages: Any = ASKED, **more: Any) -> Case:
    def run(c: OpenAI) -> Any:
        return c.chat.completions.create(model=MODEL, messages=messages, **more).to_dict()

    return run


def chat_stream(messages: Any = ASKED, **more: Any) -> Case:
    def run(c: OpenAI) -> Any:
        chunks: Any = c.chat.completions.create(model=MODEL, messages=messages, stream=True, **more)
        return [chunk.to_dict() for chunk in chunks]

    return run


def chat_helper(c: OpenAI) -> Any:
    with c.chat.completions.stream(model=MODEL, messages=ASKED, tools=[WEATHER]) as stream:
        return [event.type for event in stream], stream.get_final_completion().to_dict()


def respond(**more: Any) -> Case:
    return lambda c: c.responses.create(model=MODEL, input="hello", instructions="be nice", **more).to_dict()


def draw(**more: Any) -> Case:
    return lambda c: c.images.generate(model="gpt-image-1", prompt="draw", **more).to_dict()


def test_messages_are_the_conventions_json(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    chat_stream([*PICTURE, {"role": "assistant", "content": "well"}], tools=[WEATHER])(
        client(standin.openai_base_url)
    )
    found = attributes(recorder.spans()[0])
    user, assistant = json.loads(found["gen_ai.input.messages"])
    assert user["parts"] == [
        {"type": "text", "content": "hello"},
        {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "//77/w=="},
    ]
    assert assistant == {"role": "assistant", "parts": [{"type": "text", "content": "well"}]}
    assert json.loads(found["gen_ai.tool.definitions"]) == [{"type": "function", **WEATHER["function"]}]
    (message,) = json.loads(found["gen_ai.output.messages"])
    call = message["parts"][-1]
    assert (call["type"], call["name"], call["arguments"]) == ("tool_call", "get_weather", {"city": "hello"})
    assert message["finish_reason"] == "tool_call"


def test_arguments_are_not_mutated_and_a_generator_is_passed_on_whole(
    standin: StandIn, standin_requests: list[Request], instrumented: Callable[..., None]
) -> None:
    instrumented()
    options: Any = {}
    headers: dict[str, str] = {}
    standin_requests.clear()
    list(
        client(standin.openai_base_url).chat.completions.create(
            model=MODEL,
            messages=iter(ASKED),
            stream=True,
            stream_options=options,
            extra_headers=headers,
        )
    )
    assert (options, headers) == ({}, {})
    (request,) = standin_requests
    assert json.loads(request.body)["messages"] == ASKED
    assert "traceparent" not in request.headers


@pytest.mark.parametrize("switch", ["argument", "environment"])
def test_content_off_leaves_no_content_anywhere(
    switch: str,
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if switch == "environment":
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "false")
        instrumented()
    else:
        instrumented(capture_content=False)
    secret = "s3cret"
    asked = [{"role": "user", "content": secret}]
    answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": secret}}]}
    chunk = {"choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": secret}}]}
    error = {"error": {"message": f"cannot say {secret}"}}
    tools = [{**WEATHER, "function": {"name": secret}}]
    runs = [
        (chat(asked, tools=tools), Reply(answer)),
        (chat_stream(asked), Reply(events=[chunk, "[DONE]"])),
        (chat(asked), Reply(error, status=400)),
        (chat_stream(asked), Reply(events=[chunk, error])),
        (lambda c: c.images.generate(prompt=secret), Reply({"data": [{"b64_json": secret}]})),
        (lambda c: c.responses.create(input=secret), Reply(error, status=400)),
        (lambda c: c.embeddings.create(model="m", input=secret), Reply(error, status=400)),
        (
            lambda c: c.responses.create(input=secret),
            Reply({"status": "failed", "error": {"code": f"cannot say {secret}", "message": secret}}),
        ),
    ]
    for run, reply in runs:
        provider.play(reply)
        outcome(partial(run, client(provider.url)))
    spans = recorder.spans()
    assert len(spans) == len(runs)
    for span in spans:
        assert secret not in everything(span)
        assert attributes(span)["posthog.prompt.length"] == len(secret)


HEAD = {"id": "c-1", "model": "m-1", "object": "chat.completion.chunk", "created": 1}
WORD = {**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "one "}}]}
END = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {**HEAD, "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}}


def test_a_closed_stream_that_is_still_held_has_ended_its_span(
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    instrumented()
    provider.play(Reply(events=[WORD, WORD, END, USAGE, "[DONE]"]))
    with client(provider.url) as c:
        stream = c.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        for _ in stream:
            break
        stream.close()
        (span,) = recorder.spans()
        del stream
        gc.collect()
    assert "one " in attributes(span)["gen_ai.output.messages"]
    assert recorder.spans() == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


HALF = "bad \ud83d"
HALVES: dict[str, tuple[Case, Reply]] = {
    "asked": (chat([{"role": "user", "content": HALF}], stop=[HALF]), Reply(None)),
    "answered": (chat(), Reply({"choices": [{"finish_reason": "stop", "message": {"content": HALF}}]})),
    "refused": (chat(), Reply({"error": {"message": HALF}}, status=400)),
    "failed": (respond(), Reply({"status": "failed", "error": {"code": HALF, "message": HALF}})),
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_surrogate_pair_gets_onto_no_span(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    run, reply = HALVES[name]
    provider.play(reply)
    outcome(partial(run, client(provider.url)))
    (span,) = recorder.spans()
    found = "".join(texts(span))
    assert "bad \ufffd" in found
    assert found.encode()


def test_call_closed_in_another_context_is_closed_quietly(
    recorder: Recorder, instrumented: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        silent: Any = Silent()
        c = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=silent))
        close_elsewhere(c.chat.completions.create(model=MODEL, messages=ASKED))

    instrumented()
    asyncio.run(main())
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize(
    ("run", "reply"),
    [
        (chat(), Reply({"choices": []})),
        (chat(), Reply({"error": {"message": "no"}}, status=400)),
        (chat_stream(), Reply(events=[{"choices": []}, "[DONE]"])),
    ],
    ids=["call", "refused call", "stream"],
)
def test_processor_that_raises_does_not_reach_the_user(
    run: Case,
    reply: Reply,
    where: str,
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
) -> None:
    provider.play(reply)
    baseline = outcome(partial(run, client(provider.url)))
    recorder.provider.add_span_processor(Raising(where))
    instrumented()
    provider.play(reply)
    assert outcome(partial(run, client(provider.url))) == baseline


def test_the_context_is_on_the_span_without_our_processor(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    with client(standin.openai_base_url) as c, ai_context(feature="smart_reply", privacy_mode=True):
        chat()(c)
    (span,) = recorder.spans()
    found = attributes(span)
    assert (found["posthog.feature"], found["posthog.privacy_mode"]) == ("smart_reply", True)


def test_server_that_refuses_the_option_is_asked_again_and_remembered(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    refusal = Reply({"error": {"message": "Unknown field: stream_options"}}, status=400)
    answer = Reply(events=[WORD, END, "[DONE]"])
    provider.play(refusal, answer, answer)
    c = client(provider.url)
    assert len(chat_stream()(c)) == 2
    assert len(chat_stream()(c)) == 2
    assert [b"stream_options" in request.body for request in provider.seen] == [True, False, False]
    for span in recorder.spans():
        assert span.status.status_code is not StatusCode.ERROR


def test_callers_span_is_current_inside_the_loop(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    c = client(standin.openai_base_url)
    with recorder.tracer.start_as_current_span("caller") as caller:
        for _ in c.responses.create(model=MODEL, input="hello", stream=True):
            assert trace.get_current_span() is caller
        for _ in c.chat.completions.create(model=MODEL, messages=ASKED, stream=True):
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is caller


def test_suppression_and_uninstrument_are_obeyed(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    from openai.resources.chat import Completions
    from openai.resources.responses import Responses

    classes = (OpenAI, AsyncOpenAI, Completions, Responses)
    before = [dict(vars(one)) for one in classes]
    instrumented()
    with suppress_instrumentation():
        chat()(client(standin.openai_base_url))
        respond()(client(standin.openai_base_url))
    assert recorder.spans() == []
    OpenAIInstrumentor().uninstrument()
    chat()(client(standin.openai_base_url))
    assert recorder.spans() == []
    assert [dict(vars(one)) for one in classes] == before


def test_instrumenting_again_after_uninstrumenting_gives_one_span(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    OpenAIInstrumentor().uninstrument()
    instrumented()
    chat()(client(standin.openai_base_url))
    assert len(recorder.spans()) == 1


@pytest.mark.parametrize("order", ["before", "after"])
def test_beside_traceloop_there_is_one_span_a_call(order: str) -> None:
    # In a process of its own: Traceloop's `uninstrument` leaves its wrappers on. CI runs all neighbours.
    done = subprocess.run(
        [
            *PYTEST,
            "-W",
            "ignore",
            "-k",
            "stream or responses or image or left",
        ],
        env={**os.environ, "OTEL_POSTHOG_TEST_NEIGHBOUR": f"traceloop:{order}"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_azure_is_named(standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        message = {"role": "assistant", "content": "hi"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return httpx2.Response(200, json={**HEAD, "choices": [choice]})

    instrumented()
    azure = openai.AzureOpenAI(
        azure_endpoint="https://example.openai.azure.com",
        api_key="x",
        api_version="2024-10-21",
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )
    azure.chat.completions.create(model=MODEL, messages=ASKED)
    found = attributes(recorder.spans()[0])
    assert found["gen_ai.provider.name"] == "azure.ai.openai"
    assert found["server.address"] == "example.openai.azure.com"
    assert found["server.port"] == 443


def test_unsupported_version_is_said_once(
    recorder: Recorder,
    instrumented: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("instrumentors.patches.version", lambda _: "9.0.1")
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        instrumented()
    (record,) = caplog.records
    assert "openai 9.0.1" in record.message


def test_missing_sdk_is_a_module_not_found_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModuleNotFoundError):
        OpenAIInstrumentor().instrument()
    assert not OpenAIInstrumentor().is_instrumented_by_opentelemetry


def test_import_is_light() -> None:
    code = (
        "import sys, instrumentors;"
        "assert instrumentors.__all__ == ['GeminiInstrumentor', 'OpenAIInstrumentor'];"
        "assert not {'openai', 'google.genai', 'opentelemetry.sdk'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_stays_flat(recorder: Recorder, instrumented: Callable[..., None]) -> None:
    words = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in (WORD, WORD, END))

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.content:
            return httpx2.Response(200, content=words, headers={"content-type": "text/event-stream"})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}
        return httpx2.Response(200, json={**HEAD, "choices": [choice]})

    instrumented()
    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    c = OpenAI(base_url="http://127.0.0.1:1", api_key="x", http_client=transport)

    def calls(times: int) -> int:
        for _ in range(times):
            chat()(c)
            chat_stream()(c)
            for _chunk in c.chat.completions.create(model=MODEL, messages=ASKED, stream=True):
                break
        gc.collect()  # the SDK's own streams are cycles
        assert len(recorder.spans()) == 3 * times
        return len(gc.get_objects())

    before = calls(30)
    assert calls(200) - before < 200  # objects; one kept per call would be 600
