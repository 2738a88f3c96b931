"""Behaviour beyond the table of cases: content off, context, suppression, errors, memory."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import gzip
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
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
from instrumentors.common.sse import event_data
from otel_posthog import ai_context
from tests.instrumentors.cases.openai import FEW, MESSAGES, MODEL, WEATHER, chunk
from tests.instrumentors.provider import Provider, ReceivedRequest, ScriptedResponse
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
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from otel_posthog.demo.fake_providers import FakeProviders

PICTURE: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "hello"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,//77/w=="}},
        ],
    }
]
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


def chat(messages: Any = MESSAGES, **more: Any) -> Case:
    def run(c: OpenAI) -> Any:
        return c.chat.completions.create(model=MODEL, messages=messages, **more).to_dict()

    return run


def chat_stream(messages: Any = MESSAGES, **more: Any) -> Case:
    def run(c: OpenAI) -> Any:
        chunks: Any = c.chat.completions.create(model=MODEL, messages=messages, stream=True, **more)
        return [chunk.to_dict() for chunk in chunks]

    return run


def chat_helper(c: OpenAI) -> Any:
    with c.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=[WEATHER]) as stream:
        return [event.type for event in stream], stream.get_final_completion().to_dict()


def respond(**more: Any) -> Case:
    return lambda c: c.responses.create(model=MODEL, input="hello", instructions="be nice", **more).to_dict()


def draw(**more: Any) -> Case:
    return lambda c: c.images.generate(model="gpt-image-1", prompt="draw", **more).to_dict()


def test_messages_are_the_conventions_json(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    chat_stream([*PICTURE, {"role": "assistant", "content": "well"}], tools=[WEATHER])(
        client(standin.openai_base_url)
    )
    span_attributes = attributes(recorder.spans()[0])
    user, assistant = json.loads(span_attributes["gen_ai.input.messages"])
    assert user["parts"] == [
        {"type": "text", "content": "hello"},
        {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "//77/w=="},
    ]
    assert assistant == {"role": "assistant", "parts": [{"type": "text", "content": "well"}]}
    assert json.loads(span_attributes["gen_ai.tool.definitions"]) == [
        {"type": "function", **WEATHER["function"]}
    ]
    (message,) = json.loads(span_attributes["gen_ai.output.messages"])
    call = message["parts"][-1]
    assert (call["type"], call["name"], call["arguments"]) == ("tool_call", "get_weather", {"city": "hello"})
    assert message["finish_reason"] == "tool_call"


def test_arguments_are_not_mutated_and_a_generator_is_passed_on_whole(
    standin: FakeProviders, standin_requests: list[ReceivedRequest], instrumented: Callable[..., None]
) -> None:
    instrumented()
    options: Any = {}
    headers: dict[str, str] = {}
    standin_requests.clear()
    list(
        client(standin.openai_base_url).chat.completions.create(
            model=MODEL,
            messages=iter(MESSAGES),
            stream=True,
            stream_options=options,
            extra_headers=headers,
        )
    )
    assert (options, headers) == ({}, {})
    (request,) = standin_requests
    assert json.loads(request.body)["messages"] == MESSAGES
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
    messages = [{"role": "user", "content": secret}]
    answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": secret}}]}
    chunk = {"choices": [{"index": 0, "finish_reason": "stop", "delta": {"content": secret}}]}
    error = {"error": {"message": f"cannot say {secret}"}}
    tools = [{**WEATHER, "function": {"name": secret}}]
    runs = [
        (chat(messages, tools=tools), ScriptedResponse(answer)),
        (chat_stream(messages), ScriptedResponse(events=[chunk, "[DONE]"])),
        (chat(messages), ScriptedResponse(error, status=400)),
        (chat_stream(messages), ScriptedResponse(events=[chunk, error])),
        (lambda c: c.images.generate(prompt=secret), ScriptedResponse({"data": [{"b64_json": secret}]})),
        (lambda c: c.responses.create(input=secret), ScriptedResponse(error, status=400)),
        (lambda c: c.embeddings.create(model="m", input=secret), ScriptedResponse(error, status=400)),
        (
            lambda c: c.responses.create(input=secret),
            ScriptedResponse(
                {"status": "failed", "error": {"code": f"cannot say {secret}", "message": secret}}
            ),
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
    provider.play(ScriptedResponse(events=[WORD, WORD, END, USAGE, "[DONE]"]))
    with client(provider.url) as c:
        stream = c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
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
HALVES: dict[str, tuple[Case, ScriptedResponse]] = {
    "asked": (chat([{"role": "user", "content": HALF}], stop=[HALF]), ScriptedResponse(None)),
    "answered": (
        chat(),
        ScriptedResponse({"choices": [{"finish_reason": "stop", "message": {"content": HALF}}]}),
    ),
    "refused": (chat(), ScriptedResponse({"error": {"message": HALF}}, status=400)),
    "failed": (respond(), ScriptedResponse({"status": "failed", "error": {"code": HALF, "message": HALF}})),
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
    text = "".join(texts(span))
    assert "bad \ufffd" in text
    assert text.encode()


def test_call_closed_in_another_context_is_closed_quietly(
    recorder: Recorder, instrumented: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        silent: Any = Silent()
        c = AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=silent))
        close_elsewhere(c.chat.completions.create(model=MODEL, messages=MESSAGES))

    instrumented()
    asyncio.run(main())
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize(
    ("run", "reply"),
    [
        (chat(), ScriptedResponse({"choices": []})),
        (chat(), ScriptedResponse({"error": {"message": "no"}}, status=400)),
        (chat_stream(), ScriptedResponse(events=[{"choices": []}, "[DONE]"])),
    ],
    ids=["call", "refused call", "stream"],
)
def test_processor_that_raises_does_not_reach_the_user(
    run: Case,
    reply: ScriptedResponse,
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
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    with client(standin.openai_base_url) as c, ai_context(feature="smart_reply", privacy_mode=True):
        chat()(c)
    (span,) = recorder.spans()
    span_attributes = attributes(span)
    assert (span_attributes["posthog.feature"], span_attributes["posthog.privacy_mode"]) == (
        "smart_reply",
        True,
    )


def test_server_that_refuses_the_option_is_asked_again_and_remembered(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    refusal = ScriptedResponse({"error": {"message": "Unknown field: stream_options"}}, status=400)
    answer = ScriptedResponse(events=[WORD, END, "[DONE]"])
    provider.play(refusal, answer, answer)
    c = client(provider.url)
    assert len(chat_stream()(c)) == 2
    assert len(chat_stream()(c)) == 2
    assert [b"stream_options" in request.body for request in provider.seen] == [True, False, False]
    for span in recorder.spans():
        assert span.status.status_code is not StatusCode.ERROR


def test_callers_span_is_current_inside_the_loop(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    c = client(standin.openai_base_url)
    with recorder.tracer.start_as_current_span("caller") as caller:
        for _ in c.responses.create(model=MODEL, input="hello", stream=True):
            assert trace.get_current_span() is caller
        for _ in c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is caller


def test_suppression_and_uninstrument_are_obeyed(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
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
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
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
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_azure_is_named(
    standin: FakeProviders, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
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
    azure.chat.completions.create(model=MODEL, messages=MESSAGES)
    span_attributes = attributes(recorder.spans()[0])
    assert span_attributes["gen_ai.provider.name"] == "azure.ai.openai"
    assert span_attributes["server.address"] == "example.openai.azure.com"
    assert span_attributes["server.port"] == 443


def test_unsupported_version_is_logged_once(
    recorder: Recorder,
    instrumented: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("instrumentors.common.instrumentor.version", lambda _: "9.0.1")
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
            for _chunk in c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
                break
        gc.collect()  # the SDK's own streams are cycles
        assert len(recorder.spans()) == 3 * times
        return len(gc.get_objects())

    before = calls(30)
    assert calls(200) - before < 200  # objects; one kept per call would be 600


ANSWER = {**HEAD, "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}]}
ANSWER["usage"] = USAGE["usage"]
Handler = Callable[[httpx2.Request], httpx2.Response]


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that is still to be read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def events(*data: Any) -> bytes:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in data]
    return b"".join(f"data: {one}\n\n".encode() for one in texts)


def unread(body: bytes, kind: str = "application/json", **headers: str) -> Handler:
    return lambda _: httpx2.Response(200, headers={"content-type": kind, **headers}, stream=Body(body))


def transport(answer: Handler, **options: Any) -> OpenAI:
    http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return OpenAI(
        **{"base_url": "http://a.io", "api_key": "x", "max_retries": 0, "http_client": http_client, **options}
    )


def transport_async(answer: Handler) -> AsyncOpenAI:
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return AsyncOpenAI(base_url="http://a.io", api_key="x", max_retries=0, http_client=http_client)


def reading(c: OpenAI) -> Any:
    return c.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES)


@pytest.mark.parametrize(
    ("scope", "their_attributes", "calls"),
    [
        ("opentelemetry.instrumentation.openai.v1", {}, 0),
        ("opentelemetry.instrumentation.openai_v2", {"gen_ai.operation.name": "chat"}, 0),
        ("openinference.instrumentation.openai", {"openinference.span.kind": "LLM"}, 0),
        ("openinference.instrumentation.openai", {"openinference.span.kind": "TOOL"}, 1),
        ("openinference.instrumentation.openai_agents", {}, 1),
        ("opentelemetry.instrumentation.openai_agents", {}, 1),
        ("opentelemetry.instrumentation.openai.v1", {"traceloop.span.kind": "task"}, 1),
        ("opentelemetry.instrumentation.openai_v2", {"gen_ai.operation.name": "execute_tool"}, 1),
    ],
)
def test_a_span_around_the_call_is_not_taken_for_the_call(
    scope: str,
    their_attributes: dict[str, str],
    calls: int,
    recorder: Recorder,
    instrumented: Callable[..., None],
) -> None:
    instrumented()
    tracer = recorder.provider.get_tracer(scope)
    with tracer.start_as_current_span("theirs", attributes=their_attributes):
        chat()(transport(unread(json.dumps(ANSWER).encode())))
    *inside, theirs = recorder.spans()
    assert len(inside) == calls
    assert theirs.name == ("theirs" if calls else f"chat {MODEL}")


class Unspeakable(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_an_error_whose_text_raises_is_the_users_all_the_same(
    recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise Unspeakable

    instrumented()
    with pytest.raises(Unspeakable):
        chat()(transport(answer))
    (span,) = recorder.spans()
    assert attributes(span)["error.type"] == "Unspeakable"
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("run", "answer"),
    [
        (chat(), unread(json.dumps(ANSWER).encode())),
        (chat(), lambda _: httpx2.Response(400, json={})),
        (chat_stream(), unread(events(WORD, END, "[DONE]"), "text/event-stream")),
        (lambda c: next(chat_stream_of(c)).id, unread(events(WORD, END), "text/event-stream")),
        (lambda c: reading(c).__enter__().read(), unread(json.dumps(ANSWER).encode())),
    ],
)
def test_a_span_processor_that_raises_does_not_reach_the_user(
    run: Case, answer: Handler, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    baseline = outcome(lambda: run(transport(answer)))
    recorder.provider.add_span_processor(Raising("on_end"))
    instrumented()
    assert outcome(lambda: run(transport(answer))) == baseline
    assert len(recorder.spans()) == 1


def chat_stream_of(c: OpenAI) -> Any:
    with c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
        yield from stream


def test_a_refusal_of_the_users_own_options_is_not_remembered(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    refusal = ScriptedResponse({"error": {"message": "Unknown parameter: 'stream_options.foo'"}}, status=400)
    provider.play(refusal, ScriptedResponse(events=[WORD, END, USAGE, "[DONE]"]))
    c = client(provider.url)
    with pytest.raises(openai.BadRequestError):
        chat_stream(stream_options={"foo": 1})(c)
    chat_stream()(c)
    assert [b"include_usage" in request.body for request in provider.seen] == [True, True]
    assert attributes(recorder.spans()[1])["gen_ai.usage.input_tokens"] == 7


def test_a_second_refusal_is_not_remembered(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    refusal = ScriptedResponse({"error": {"message": "stream_options, or the weather"}}, status=400)
    provider.play(refusal, refusal, ScriptedResponse(events=[WORD, END, USAGE, "[DONE]"]))
    c = client(provider.url)
    with pytest.raises(openai.BadRequestError):
        chat_stream()(c)
    chat_stream()(c)
    assert [b"include_usage" in request.body for request in provider.seen] == [True, False, True]


RAW = {"x-stainless-RAW-response": "true"}


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (lambda c: c.post("/chat/completions", body={"model": MODEL, "stream": True}, cast_to=str), {}),
        (
            lambda c: c.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body={"stream": True}),
            {},
        ),
        (
            lambda c: c.post(
                "/chat/completions",
                body={"model": MODEL, "stream": True},
                cast_to=httpx2.Response,
                stream=True,
                stream_cls=openai.Stream[object],
            ),
            {},
        ),
    ],
)
def test_usage_is_not_asked_for_where_the_user_reads_the_body(
    run: Case, options: dict[str, Any], recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return unread(events(WORD, END, "[DONE]"), "text/event-stream")(request)

    instrumented()
    result: Any = run(transport(answer, **options))
    if not isinstance(result, str):
        response: Any = getattr(result, "http_response", result)
        response.read()
    assert b"stream_options" not in seen[0]
    span_attributes = attributes(recorder.spans()[0])
    assert span_attributes["gen_ai.request.stream"] is True
    assert span_attributes["gen_ai.response.finish_reasons"] == ("stop",)


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (
            lambda c: c.chat.completions.create(
                model=MODEL, messages=MESSAGES, stream=True, extra_headers=RAW
            ),
            {},
        ),
        (
            lambda c: c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True),
            {"default_headers": RAW},
        ),
    ],
)
def test_usage_that_is_asked_for_is_hidden_in_a_raw_body(
    run: Case, options: dict[str, Any], recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    seen: list[bytes] = []
    null = {**WORD, "usage": None}

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return unread(events(null, END, USAGE, "[DONE]"), "text/event-stream")(request)

    instrumented()
    result: Any = run(transport(answer, **options))
    body = result.http_response.read()
    assert b"include_usage" in seen[0]
    assert b"usage" not in body
    assert next(event_data(body)) == json.dumps(WORD).encode()
    assert [*event_data(body)][-1] == b"[DONE]"
    assert attributes(recorder.spans()[0])["gen_ai.usage.input_tokens"] == 7


def test_a_response_outlives_its_owner_and_can_be_pickled(
    recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    body = json.dumps(ANSWER).encode()
    http: Any = reading(transport(unread(body))).__enter__().http_response
    gc.collect()
    read = http.read
    assert pickle.loads(pickle.dumps(http)).status_code == 200
    del http  # and its owner has gone before
    gc.collect()
    assert read() == body
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.usage.input_tokens"] == 7


def test_a_compressed_body_is_read_as_it_came(recorder: Recorder, instrumented: Callable[..., None]) -> None:
    instrumented()
    body = gzip.compress(json.dumps(ANSWER).encode())
    c = transport(unread(body, **{"content-encoding": "gzip"}))
    with reading(c) as response:
        assert b"".join(response.http_response.iter_raw()) == body
    assert attributes(recorder.spans()[0])["gen_ai.usage.input_tokens"] == 7


def test_of_a_huge_body_nothing_is_kept(
    recorder: Recorder, instrumented: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instrumentors.openai.request._KEPT_BYTES", 10)
    instrumented()
    body = json.dumps(ANSWER).encode()
    with reading(transport(unread(body))) as response:
        assert response.read() == body
    (span,) = recorder.spans()
    assert "gen_ai.usage.input_tokens" not in attributes(span)
    assert span.status.status_code is StatusCode.UNSET


def test_retries_of_other_requests_are_not_counted_on_the_users_span(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    later = {"x-should-retry": "true", "retry-after-ms": "1"}
    provider.play(
        ScriptedResponse({}, status=429, headers=later), ScriptedResponse({"data": [], "object": "list"})
    )
    with recorder.tracer.start_as_current_span("caller"):
        OpenAI(base_url=provider.url, api_key="x", max_retries=1).models.list()
    (caller,) = recorder.spans()
    assert attributes(caller) == {}


def test_the_message_of_an_error_is_no_attribute(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    error_event = {"type": "error", "code": "c", "message": "oops"}
    provider.play(ScriptedResponse(events=[error_event, {"error": {"message": "boom"}}]))
    with pytest.raises(openai.APIError):
        list(client(provider.url).responses.create(model=MODEL, input="hello", stream=True))
    (span,) = recorder.spans()
    assert "error.message" not in attributes(span)
    assert span.status.description == "boom"


def test_closing_the_iterator_of_an_async_stream_closes_its_response(
    recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    async def main() -> bool:
        c = transport_async(unread(events(WORD, WORD, END), "text/event-stream"))
        stream: Any = await c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        await stream.__anext__()
        await stream._iterator.aclose()
        return bool(stream.response.is_closed)

    instrumented()
    assert asyncio.run(main())


def test_a_coroutine_closed_in_another_context_is_no_trouble(
    recorder: Recorder, instrumented: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(9)
        raise AssertionError

    async def main() -> None:
        http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        c = AsyncOpenAI(base_url="http://a.io", api_key="x", http_client=http_client)
        call: Any = c.chat.completions.create(model=MODEL, messages=MESSAGES)
        contextvars.copy_context().run(call.send, None)
        call.close()

    instrumented()
    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(recorder.spans()) == 1


def test_lists_for_content_are_one_message(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    def thinking(words: str) -> Any:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": words}]}]

    def content_chunk(content: Any) -> Any:
        return {**HEAD, "choices": [{"index": 0, "delta": {"content": content}}]}

    instrumented()
    chunks = [
        content_chunk(thinking("hm, ")),
        content_chunk(thinking("ok")),
        content_chunk("hey "),
        content_chunk("you"),
        END,
        USAGE,
        "[DONE]",
    ]
    provider.play(ScriptedResponse(events=chunks))
    assert len(list(chat_stream_of(client(provider.url)))) == 5
    span_attributes = attributes(recorder.spans()[0])
    assert (span_attributes["gen_ai.response.id"], span_attributes["gen_ai.usage.input_tokens"]) == ("c-1", 7)
    (message,) = json.loads(span_attributes["gen_ai.output.messages"])
    assert message["parts"] == [
        {"type": "reasoning", "content": "hm, ok"},
        {"type": "text", "content": "hey you"},
    ]


_ODD = {"id": "t", "type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("options", [{}, {"tool_calls": [_ODD]}], ids=["raw", "parsed"])
def test_arguments_that_are_an_object_are_the_arguments_of_the_call(
    stream: bool,
    options: Any,
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
) -> None:
    instrumented()
    message = {"role": "assistant", "content": "Let me look.", "tool_calls": [{"index": 0, **_ODD}]}
    choice = {"index": 0, "finish_reason": "tool_calls", "delta" if stream else "message": message}
    whole = {"id": "c", "model": "m", "choices": [choice], "usage": FEW}
    provider.play(ScriptedResponse(events=[whole, "[DONE]"]) if stream else ScriptedResponse(whole))
    completions = client(provider.url).chat.completions
    create = completions.create if options else completions.with_raw_response.create
    result: Any = create(model=MODEL, messages=MESSAGES, stream=stream)
    if not options:
        assert b"Oslo" in result.http_response.read()
    elif stream:
        assert len([*result]) == 1
    (span,) = recorder.spans()
    (output,) = json.loads(attributes(span)["gen_ai.output.messages"])
    assert output["parts"] == [
        {"type": "text", "content": "Let me look."},
        {"type": "tool_call", "name": "f", "arguments": {"city": "Oslo"}, "id": "t"},
    ]
    assert attributes(span)["gen_ai.usage.input_tokens"] == 7
    assert attributes(span)["gen_ai.response.finish_reasons"] == ("tool_call",)


def test_a_choice_of_a_chunk_that_cannot_be_read_costs_only_itself(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    first = chunk(content="one ")
    first["choices"].insert(0, "odd")
    last = chunk("stop", FEW, content="two", tool_calls=["odd"])
    provider.play(ScriptedResponse(events=[first, last, "[DONE]"]))
    chunks: Any = client(provider.url).chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert len([*chunks]) == 2
    span_attributes = attributes(recorder.spans()[0])
    (message,) = json.loads(span_attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": "one two"}]
    assert span_attributes["gen_ai.usage.input_tokens"] == 7
