from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import openai
import pydantic
import pytest
from openai import AsyncOpenAI, OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from instrumentors import OpenAIInstrumentor
from otel_posthog import ai_context
from tests.instrumentors.provider import Provider, Reply, Request
from tests.instrumentors.recording import Recorder, attributes, everything, outcome, wire

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
FORMS = ("traceloop", "standalone")


def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="x", max_retries=0)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def instrumented(recorder: Recorder, form: str) -> Iterator[Callable[..., None]]:
    instrumentor = OpenAIInstrumentor()

    def instrument(**kwargs: Any) -> None:
        instrumentor.instrument(tracer_provider=recorder.provider, standalone=form == "standalone", **kwargs)

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


def chat_raw(c: OpenAI) -> Any:
    return c.chat.completions.with_raw_response.create(model=MODEL, messages=ASKED).text


def chat_raw_stream(c: OpenAI) -> Any:
    raw = c.chat.completions.with_raw_response.create(model=MODEL, messages=ASKED, stream=True)
    return [chunk.to_dict() for chunk in raw.parse()]


def chat_streaming_response(c: OpenAI) -> Any:
    with c.chat.completions.with_streaming_response.create(model=MODEL, messages=ASKED) as response:
        return response.parse().to_dict()


class Answer(pydantic.BaseModel):
    text: str


def chat_parse(c: OpenAI) -> Any:
    answer = c.chat.completions.parse(model=MODEL, messages=ASKED, response_format=Answer)
    assert isinstance(answer.choices[0].message.parsed, Answer)
    return answer.choices[0].message.content, answer.choices[0].message.parsed


def respond(**more: Any) -> Case:
    return lambda c: c.responses.create(model=MODEL, input="hello", instructions="be nice", **more).to_dict()


def respond_stream(c: OpenAI) -> Any:
    return [event.to_dict() for event in c.responses.create(model=MODEL, input="hello", stream=True)]


def respond_helper(c: OpenAI) -> Any:
    with c.responses.stream(model=MODEL, input="hello") as stream:
        return [event.type for event in stream], stream.get_final_response().output_text


def legacy_embedding(c: OpenAI) -> Any:
    return c.embeddings.create(model="text-embedding-3-small", input=["one", "two"], dimensions=8).to_dict()


def draw(**more: Any) -> Case:
    return lambda c: c.images.generate(model="gpt-image-1", prompt="draw", **more).to_dict()


def draw_stream(c: OpenAI) -> Any:
    events = c.images.generate(model="gpt-image-1", prompt="draw", stream=True, partial_images=1)
    return [event.to_dict() for event in events]


def edit(c: OpenAI) -> Any:
    pictures: Any = [("a.png", b"abc"), ("b.png", b"abc")]
    return c.images.edit(model="gpt-image-1", prompt="draw", image=pictures).to_dict()


def in_loop(run: Callable[[AsyncOpenAI], Any]) -> Case:
    def case(c: OpenAI) -> Any:
        async def main() -> Any:
            async with AsyncOpenAI(base_url=c.base_url, api_key="x", max_retries=0) as asynchronous:
                return await run(asynchronous)

        return asyncio.run(main())

    return case


async def chat_async(c: AsyncOpenAI) -> Any:
    return (await c.chat.completions.create(model=MODEL, messages=ASKED)).to_dict()


async def chat_stream_async(c: AsyncOpenAI) -> Any:
    chunks = await c.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
    return [chunk.to_dict() async for chunk in chunks]


async def chat_helper_async(c: AsyncOpenAI) -> Any:
    async with c.chat.completions.stream(model=MODEL, messages=ASKED) as stream:
        return [event.type async for event in stream]


async def respond_stream_async(c: AsyncOpenAI) -> Any:
    async with c.responses.stream(model=MODEL, input="hello") as stream:
        return [event.type async for event in stream]


class Expected(NamedTuple):
    name: str
    says: dict[str, Any]
    lacks: tuple[str, ...] = ()


PLAIN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.model": MODEL,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 4,
    "gen_ai.usage.output_tokens": 19,
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.usage.reasoning.output_tokens": 0,
    "posthog.prompt.length": 12,
    "posthog.messages.count": 2,
    "server.address": "127.0.0.1",
}
STREAMED = {**PLAIN, "gen_ai.request.stream": True}
# Responses: instructions are no message; its stream cases have none.
RESPONSE = {**PLAIN, "posthog.messages.count": 1}
RESPONSE_STREAM = {**RESPONSE, "gen_ai.usage.input_tokens": 2, "posthog.prompt.length": 5}
CHAT = f"chat {MODEL}"

CASES: dict[str, tuple[Case, Expected]] = {
    "chat": (chat(), Expected(CHAT, PLAIN, ("gen_ai.request.stream", "error.type", "gen_ai.request.seed"))),
    "chat async": (in_loop(chat_async), Expected(CHAT, PLAIN)),
    "chat n=2": (
        chat(n=2),
        Expected(
            CHAT, {"gen_ai.request.choice.count": 2, "gen_ai.response.finish_reasons": ("stop", "stop")}
        ),
    ),
    "chat parameters": (
        chat(
            seed=7,
            stop="x",
            max_completion_tokens=3,
            temperature=0.5,
            top_p=0.9,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            reasoning_effort="low",
            service_tier="default",
            response_format={"type": "json_object"},
            web_search_options={},
        ),
        Expected(
            CHAT,
            {
                "gen_ai.request.seed": 7,
                "gen_ai.request.stop_sequences": ("x",),
                "gen_ai.request.max_tokens": 3,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.request.top_p": 0.9,
                "gen_ai.request.frequency_penalty": 0.1,
                "gen_ai.request.presence_penalty": 0.2,
                "gen_ai.request.reasoning.level": "low",
                "gen_ai.output.type": "json",
                "gen_ai.usage.reasoning.output_tokens": 16,
                "gen_ai.response.finish_reasons": ("length",),
                "openai.request.service_tier": "default",
                "posthog.thinking.level": "low",
                "posthog.web_search.enabled": True,
            },
        ),
    ),
    "chat tools": (
        chat(tools=[WEATHER]),
        Expected(
            CHAT,
            {
                "gen_ai.response.finish_reasons": ("tool_call",),
                "posthog.tools.count": 1,
                "posthog.tool_calls.count": 1,
            },
        ),
    ),
    "chat picture": (chat(PICTURE), Expected(CHAT, {"posthog.files.count": 1, "posthog.prompt.length": 5})),
    "chat parse": (
        chat_parse,
        Expected(CHAT, {"gen_ai.output.type": "json", "gen_ai.usage.input_tokens": 4}),
    ),
    "chat raw": (chat_raw, Expected(CHAT, PLAIN)),
    "chat raw stream": (
        chat_raw_stream,
        Expected(CHAT, {"gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ("stop",)}),
    ),
    "chat streaming response": (chat_streaming_response, Expected(CHAT, PLAIN)),
    "chat stream": (chat_stream(), Expected(CHAT, STREAMED)),
    "chat stream, usage asked for": (
        chat_stream(stream_options={"include_usage": True}),
        Expected(CHAT, STREAMED),
    ),
    "chat stream, usage refused": (
        chat_stream(stream_options={"include_usage": False}),
        Expected(CHAT, {"gen_ai.request.stream": True}, ("gen_ai.usage.input_tokens",)),
    ),
    "chat stream, other options": (
        chat_stream(stream_options={"include_obfuscation": False}),
        Expected(CHAT, STREAMED),
    ),
    "chat stream n=2, tools": (
        chat_stream(n=2, tools=[WEATHER]),
        Expected(CHAT, {"gen_ai.response.finish_reasons": ("tool_call", "tool_call")}),
    ),
    "chat stream async": (in_loop(chat_stream_async), Expected(CHAT, STREAMED)),
    "chat stream helper": (
        chat_helper,
        Expected(CHAT, {"gen_ai.usage.input_tokens": 4, "gen_ai.response.finish_reasons": ("tool_call",)}),
    ),
    "chat stream helper async": (in_loop(chat_helper_async), Expected(CHAT, STREAMED)),
    "responses": (respond(), Expected(CHAT, RESPONSE)),
    "responses, search and tools": (
        respond(
            reasoning={"effort": "low"},
            previous_response_id="resp_0",
            tools=[{"type": "web_search"}, {"type": "image_generation", "size": "1024x1024"}],
        ),
        Expected(
            CHAT,
            {
                "gen_ai.request.reasoning.level": "low",
                "gen_ai.request.previous_response.id": "resp_0",
                "gen_ai.response.finish_reasons": ("stop",),
                "posthog.web_search.enabled": True,
                "posthog.web_search.used": True,
                "posthog.web_search.count": 1,
                "posthog.image.count": 1,
                "posthog.image.size": "1024x1024",
            },
        ),
    ),
    "responses, function": (
        respond(tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}]),
        Expected(CHAT, {"gen_ai.response.finish_reasons": ("tool_call",), "posthog.tool_calls.count": 1}),
    ),
    "responses stream": (respond_stream, Expected(CHAT, {**RESPONSE_STREAM, "gen_ai.request.stream": True})),
    "responses stream helper": (respond_helper, Expected(CHAT, RESPONSE_STREAM)),
    "responses stream helper async": (in_loop(respond_stream_async), Expected(CHAT, RESPONSE_STREAM)),
    "embeddings": (
        legacy_embedding,
        Expected(
            "embeddings text-embedding-3-small",
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.embeddings.dimension.count": 8,
                "gen_ai.usage.input_tokens": 2,
                "posthog.messages.count": 2,
            },
            ("gen_ai.usage.output_tokens",),
        ),
    ),
    "image": (
        draw(n=2, size="1024x1536", quality="high"),
        Expected(
            "image_generation gpt-image-1",
            {
                "gen_ai.output.type": "image",
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.output_tokens": 516,
                "gen_ai.usage.image.output_tokens": 516,
                "gen_ai.usage.text.input_tokens": 1,
                "posthog.image.count": 2,
                "posthog.image.size": "1024x1536",
                "posthog.image.quality": "high",
            },
        ),
    ),
    "image stream": (
        draw_stream,
        Expected(
            "image_generation gpt-image-1",
            {"posthog.image.count": 1, "gen_ai.request.stream": True, "gen_ai.usage.output_tokens": 258},
        ),
    ),
    "image edit": (
        edit,
        Expected(
            "image_generation gpt-image-1",
            {"posthog.image.reference_count": 2, "gen_ai.usage.image.input_tokens": 516},
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_call_is_one_right_span_and_changes_nothing(
    name: str,
    standin: StandIn,
    standin_requests: list[Request],
    recorder: Recorder,
    instrumented: Callable[..., None],
) -> None:
    run, expected = CASES[name]
    standin_requests.clear()
    baseline = run(client(standin.openai_base_url))
    sent = wire(standin_requests)
    instrumented()
    standin_requests.clear()
    with recorder.tracer.start_as_current_span("caller") as caller:
        assert run(client(standin.openai_base_url)) == baseline
    assert wire(standin_requests) == sent
    span, last = recorder.spans()
    assert last.name == "caller"
    found = attributes(span)
    assert span.name == expected.name
    assert {key: found.get(key) for key in expected.says} == expected.says
    assert not [key for key in expected.lacks if key in found]
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is not StatusCode.ERROR
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    if found.get("gen_ai.request.stream"):
        assert found["gen_ai.response.time_to_first_chunk"] > 0
        assert found["posthog.stream.duration"] > 0


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
RESP: dict[str, Any] = {
    "id": "r-1",
    "object": "response",
    "model": "m-1",
    "status": "completed",
    "output": [],
}
LIMITED = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}


class Fault(NamedTuple):
    run: Case
    reply: Reply
    status: StatusCode
    says: dict[str, Any]


FAULTS = {
    "429": Fault(
        chat(),
        Reply(LIMITED, status=429),
        StatusCode.ERROR,
        {"error.type": "RateLimitError", "posthog.http.status": 429},
    ),
    "429 of a stream": Fault(
        chat_stream(),
        Reply(LIMITED, status=429),
        StatusCode.ERROR,
        {"error.type": "RateLimitError", "posthog.http.status": 429, "gen_ai.request.stream": True},
    ),
    "500 async": Fault(
        in_loop(chat_async),
        Reply(LIMITED, status=500),
        StatusCode.ERROR,
        {"error.type": "InternalServerError", "posthog.http.status": 500},
    ),
    "embeddings 429": Fault(
        legacy_embedding, Reply(LIMITED, status=429), StatusCode.ERROR, {"posthog.http.status": 429}
    ),
    "answer that cannot be parsed": Fault(
        chat_parse,
        Reply(
            {
                **HEAD,
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "no JSON"}}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16},
            }
        ),
        StatusCode.ERROR,
        {"error.type": "ValidationError", "gen_ai.usage.input_tokens": 7},
    ),
    "responses 429": Fault(
        respond(), Reply(LIMITED, status=429), StatusCode.ERROR, {"posthog.http.status": 429}
    ),
    "image 400": Fault(
        draw(), Reply(LIMITED, status=400), StatusCode.ERROR, {"error.type": "BadRequestError"}
    ),
    "connection lost before the response": Fault(
        chat(), Reply({"id": 1}, drop=True), StatusCode.ERROR, {"error.type": "APIConnectionError"}
    ),
    "connection lost in the stream": Fault(
        chat_stream(),
        Reply(events=[WORD], drop=True),
        StatusCode.ERROR,
        {"error.type": "APIConnectionError", "gen_ai.response.model": "m-1"},
    ),
    "connection lost in the async stream": Fault(
        in_loop(chat_stream_async),
        Reply(events=[WORD], drop=True),
        StatusCode.ERROR,
        {"error.type": "APIConnectionError", "gen_ai.response.id": "c-1"},
    ),
    "error inside the stream": Fault(
        chat_stream(), Reply(events=[WORD, LIMITED]), StatusCode.ERROR, {"error.type": "APIError"}
    ),
    "usage tail": Fault(
        chat_stream(),
        Reply(events=[WORD, END, USAGE, "[DONE]"]),
        StatusCode.UNSET,
        {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 9},
    ),
    "usage in the last chunk with a choice": Fault(
        chat_stream(),
        Reply(events=[WORD, {**END, "usage": USAGE["usage"]}, "[DONE]"]),
        StatusCode.UNSET,
        {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 9},
    ),
    "responses failed": Fault(
        respond(),
        Reply({**RESP, "status": "failed", "error": {"code": "server_error", "message": "oops"}}),
        StatusCode.ERROR,
        {"error.type": "server_error", "gen_ai.response.finish_reasons": ("error",)},
    ),
    "responses incomplete": Fault(
        respond(),
        Reply({**RESP, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}),
        StatusCode.UNSET,
        {"gen_ai.response.finish_reasons": ("length",)},
    ),
    "responses error event": Fault(
        respond_stream,
        Reply(
            events=[
                {
                    "type": "response.created",
                    "sequence_number": 0,
                    "response": {**RESP, "status": "in_progress"},
                },
                {
                    "type": "error",
                    "sequence_number": 1,
                    "code": "server_error",
                    "message": "oops",
                    "param": None,
                },
            ]
        ),
        StatusCode.ERROR,
        {"error.type": "server_error", "gen_ai.response.id": "r-1"},
    ),
    "responses stream failed": Fault(
        respond_stream,
        Reply(
            events=[
                {
                    "type": "response.failed",
                    "sequence_number": 0,
                    "response": {
                        **RESP,
                        "status": "failed",
                        "error": {"code": "server_error", "message": "oops"},
                    },
                }
            ]
        ),
        StatusCode.ERROR,
        {"error.type": "server_error"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_reaches_span_and_user_alike(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    run, reply, status, says = FAULTS[name]
    hidden = name == "usage tail"  # without us there would be no such chunk
    provider.play(
        reply._replace(events=[e for e in reply.events or () if e is not USAGE]) if hidden else reply
    )
    baseline = outcome(lambda: run(client(provider.url)))
    instrumented()
    provider.play(reply)
    with client(provider.url) as c:
        assert outcome(lambda: run(c)) == baseline
        gc.collect()
    (span,) = recorder.spans()
    found = attributes(span)
    assert {key: found.get(key) for key in says} == says
    assert (span.status.status_code is StatusCode.ERROR) is (status is StatusCode.ERROR)


def leave_by_break(c: OpenAI) -> None:
    for _ in c.chat.completions.create(model=MODEL, messages=ASKED, stream=True):
        break


def leave_by_close(c: OpenAI) -> None:
    stream = c.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
    next(stream)
    stream.close()


def leave_with(c: OpenAI) -> None:
    with c.chat.completions.create(model=MODEL, messages=ASKED, stream=True) as stream:
        next(stream)


def leave_by_exception(c: OpenAI) -> None:
    def loop() -> None:
        with c.chat.completions.create(model=MODEL, messages=ASKED, stream=True) as stream:
            for _ in stream:
                raise LookupError

    outcome(loop)


def leave_helper(c: OpenAI) -> None:
    with c.chat.completions.stream(model=MODEL, messages=ASKED) as stream:
        next(stream)


def leave_never_started(c: OpenAI) -> None:
    c.chat.completions.create(model=MODEL, messages=ASKED, stream=True)


def leave_async(c: OpenAI) -> None:
    async def run(c: AsyncOpenAI) -> None:
        stream = await c.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        async for _ in stream:
            break
        await stream.close()

    in_loop(run)(c)


LEAVES = [
    leave_by_break,
    leave_by_close,
    leave_with,
    leave_by_exception,
    leave_helper,
    leave_never_started,
    leave_async,
]


@pytest.mark.parametrize("leave", LEAVES)
def test_stream_left_early_ends_its_span_and_is_no_error(
    leave: Callable[[OpenAI], None], provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    provider.play(Reply(events=[WORD, WORD, END, USAGE, "[DONE]"]))
    with client(provider.url) as c:
        leave(c)
        gc.collect()
    (span,) = recorder.spans()
    assert span.status.status_code is not StatusCode.ERROR
    assert not [event for event in span.events if event.name == "exception"]
    if leave is not leave_never_started:
        found = attributes(span)
        assert found["gen_ai.response.id"] == "c-1"
        assert "one " in found["gen_ai.output.messages"]
        assert found["gen_ai.response.time_to_first_chunk"] > 0


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


def test_the_context_is_on_the_span_without_our_processor(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    with client(standin.openai_base_url) as c, ai_context(feature="smart_reply", privacy_mode=True):
        chat()(c)
    (span,) = recorder.spans()
    found = attributes(span)
    assert (found["posthog.feature"], found["posthog.privacy_mode"]) == ("smart_reply", True)


def test_cancelled_call_is_an_error_and_ends(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def never(_: httpx2.Request) -> httpx2.Response:
            begun.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        transport = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
        async with AsyncOpenAI(base_url=standin.openai_base_url, api_key="x", http_client=transport) as c:
            task = asyncio.create_task(c.chat.completions.create(model=MODEL, messages=ASKED))
            await begun.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    instrumented()
    asyncio.run(main())
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "CancelledError"


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
def test_traceloops_own_entry_point_beside_ours_gives_one_span_and_no_warning(
    order: str, standin: StandIn, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor as Traceloop

    ours = OpenAIInstrumentor()
    loaders: list[Callable[[], Any]] = [
        lambda: ours.instrument(tracer_provider=recorder.provider),
        lambda: Traceloop().instrument(tracer_provider=recorder.provider),
    ]
    with caplog.at_level(logging.WARNING):
        for load in loaders if order == "after" else reversed(loaders):
            load()
        try:
            for run in (chat(), chat(PICTURE), chat_helper, respond(), draw()):
                run(client(standin.openai_base_url))
                (span,) = recorder.spans()
                assert "posthog.prompt.length" in attributes(span)
        finally:
            ours.uninstrument()
            if Traceloop().is_instrumented_by_opentelemetry:
                Traceloop().uninstrument()
                from instrumentors import traceloop

                traceloop.unwrap_all()
    assert [record.message for record in caplog.records] == []


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
