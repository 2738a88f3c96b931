from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google import genai
from google.genai import types
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from instrumentors import GeminiInstrumentor
from tests.instrumentors.provider import Provider, Reply, Request
from tests.instrumentors.recording import Recorder, attributes, everything, outcome, wire

if TYPE_CHECKING:
    from otel_posthog.demo.standin import StandIn

MODEL = "gemini-2.5-flash"
Config = types.GenerateContentConfig
Case = Callable[[genai.Client], Any]


def client(url: str) -> genai.Client:
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url=url))


@pytest.fixture
def instrumented(recorder: Recorder) -> Iterator[Callable[..., None]]:
    instrumentor = GeminiInstrumentor()

    def instrument(**kwargs: Any) -> None:
        instrumentor.instrument(tracer_provider=recorder.provider, **kwargs)

    yield instrument
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def told(response: types.GenerateContentResponse) -> Any:
    return response.model_dump(exclude={"sdk_http_response"})


def generate(contents: Any = "hello", model: str = MODEL, **config: Any) -> Case:
    return lambda c: told(c.models.generate_content(model=model, contents=contents, config=Config(**config)))


def stream(contents: Any = "hello", **config: Any) -> Case:
    return lambda c: [
        told(chunk)
        for chunk in c.models.generate_content_stream(model=MODEL, contents=contents, config=Config(**config))
    ]


def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def chat(c: genai.Client) -> Any:
    session = c.chats.create(model=MODEL)
    return [session.send_message(words).text for words in ("hello", "a joke")]


def in_loop(c: genai.Client, run: Callable[[genai.Client], Any]) -> Any:
    async def main() -> Any:
        try:
            return await run(c)
        finally:
            await c.aio.aclose()

    return asyncio.run(main())


def asynchronous(c: genai.Client) -> Any:
    async def run(c: genai.Client) -> Any:
        return told(await c.aio.models.generate_content(model=MODEL, contents="hello"))

    return in_loop(c, run)


def asynchronous_stream(c: genai.Client) -> Any:
    async def run(c: genai.Client) -> Any:
        chunks = await c.aio.models.generate_content_stream(model=MODEL, contents="hello")
        return [told(chunk) async for chunk in chunks]

    return in_loop(c, run)


def embed(c: genai.Client) -> Any:
    config = types.EmbedContentConfig(output_dimensionality=8)
    found = c.models.embed_content(model="gemini-embedding-001", contents=["one", "two"], config=config)
    return found.model_dump(exclude={"sdk_http_response"})


class Expected(NamedTuple):
    """One span: its name, what its attributes say, and what is not among them."""

    name: str
    says: dict[str, Any]
    lacks: tuple[str, ...] = ()


PLAIN = {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.model": MODEL,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 2,
    "gen_ai.usage.output_tokens": 35,
    "gen_ai.usage.reasoning.output_tokens": 16,
    "posthog.prompt.length": 5,
    "posthog.messages.count": 1,
    "server.address": "127.0.0.1",
}
NAME = f"generate_content {MODEL}"
PNG = types.Part.from_bytes(data=b"\xff\xfe\xfb\xff", mime_type="image/png")

CASES: dict[str, tuple[Case, list[Expected]]] = {
    "plain": (generate(), [Expected(NAME, PLAIN, ("gen_ai.request.stream", "error.type"))]),
    "async": (asynchronous, [Expected(NAME, PLAIN)]),
    "stream": (stream(), [Expected(NAME, {**PLAIN, "gen_ai.request.stream": True})]),
    "async stream": (asynchronous_stream, [Expected(NAME, {**PLAIN, "gen_ai.request.stream": True})]),
    "parameters": (
        generate(
            temperature=0.5,
            top_p=0.9,
            top_k=4,
            seed=7,
            max_output_tokens=3,
            stop_sequences=["x"],
            system_instruction="be nice",
            response_mime_type="application/json",
            thinking_config=types.ThinkingConfig(thinking_budget=5),
        ),
        [
            Expected(
                NAME,
                {
                    "gen_ai.request.temperature": 0.5,
                    "gen_ai.request.top_p": 0.9,
                    "gen_ai.request.top_k": 4,
                    "gen_ai.request.seed": 7,
                    "gen_ai.request.max_tokens": 3,
                    "gen_ai.request.stop_sequences": ("x",),
                    "gen_ai.output.type": "json",
                    "gen_ai.response.finish_reasons": ("length",),
                    "gen_ai.usage.reasoning.output_tokens": 5,
                    "posthog.thinking.budget": 5,
                    "posthog.prompt.length": len("hello") + len("be nice"),
                },
            )
        ],
    ),
    "thinking level and search": (
        generate(
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
            tools=[types.Tool(google_search=types.GoogleSearch(), url_context=types.UrlContext())],
        ),
        [
            Expected(
                NAME,
                {
                    "gen_ai.request.reasoning.level": "low",
                    "posthog.thinking.level": "low",
                    "posthog.web_search.enabled": True,
                    "posthog.web_search.used": True,
                    "posthog.web_search.count": 1,
                    "posthog.url_context.used": True,
                    "gen_ai.usage.input_tokens": 42,  # 2 of the prompt, 40 of the tool's
                },
            )
        ],
    ),
    "image in": (
        generate(["hello", PNG]),
        [Expected(NAME, {"posthog.files.count": 1, "gen_ai.usage.image.input_tokens": 258})],
    ),
    "image out": (
        generate(
            ["draw", PNG, PNG],
            "gemini-2.5-flash-image",
            image_config=types.ImageConfig(aspect_ratio="16:9", image_size="1K"),
        ),
        [
            Expected(
                "generate_content gemini-2.5-flash-image",
                {
                    "gen_ai.output.type": "image",
                    "posthog.image.count": 1,
                    "posthog.image.size": "1K",
                    "posthog.image.aspect_ratio": "16:9",
                    "posthog.image.reference_count": 2,
                    "gen_ai.usage.image.output_tokens": 258,
                },
            )
        ],
    ),
    "chat": (
        chat,
        [Expected(NAME, {"posthog.messages.count": 1}), Expected(NAME, {"posthog.messages.count": 3})],
    ),
    "automatic function calling": (
        lambda c: (
            c.chats.create(model=MODEL, config=Config(tools=[get_weather])).send_message("weather?").text
        ),
        [
            Expected(
                NAME,
                {
                    "gen_ai.response.finish_reasons": ("tool_call",),
                    "posthog.tool_calls.count": 1,
                    "posthog.tools.count": 1,
                },
            ),
            Expected(NAME, {"gen_ai.response.finish_reasons": ("stop",), "posthog.messages.count": 3}),
        ],
    ),
    "embeddings": (
        embed,
        [
            Expected(
                "embeddings gemini-embedding-001",
                {
                    "gen_ai.operation.name": "embeddings",
                    "gen_ai.embeddings.dimension.count": 8,
                    "gen_ai.usage.input_tokens": 2,
                    "posthog.messages.count": 2,
                },
                ("gen_ai.usage.output_tokens",),
            )
        ],
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
    baseline = run(client(standin.gemini_base_url))
    sent = wire(standin_requests)
    instrumented()
    standin_requests.clear()
    with recorder.tracer.start_as_current_span("caller") as caller:
        assert run(client(standin.gemini_base_url)) == baseline
    assert wire(standin_requests) == sent
    *spans, _ = recorder.spans()
    assert [span.name for span in spans] == [one.name for one in expected]
    for span, one in zip(spans, expected, strict=True):
        found = attributes(span)
        assert {key: found.get(key) for key in one.says} == one.says
        assert not [key for key in one.lacks if key in found]
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent is not None
        assert span.parent.span_id == caller.get_span_context().span_id
        if found.get("gen_ai.request.stream"):
            assert found["gen_ai.response.time_to_first_chunk"] > 0
            assert found["posthog.stream.duration"] > 0


def test_messages_are_the_conventions_json(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    stream(
        ["hello", PNG], system_instruction="be nice", tools=[types.Tool(google_search=types.GoogleSearch())]
    )(client(standin.gemini_base_url))
    found = attributes(recorder.spans()[0])
    blob = {"type": "blob", "mime_type": "image/png", "modality": "image", "content": "//77/w=="}
    assert json.loads(found["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hello"}, blob]}
    ]
    assert json.loads(found["gen_ai.system_instructions"]) == [{"type": "text", "content": "be nice"}]
    assert json.loads(found["gen_ai.tool.definitions"]) == [
        {"type": "google_search", "name": "google_search"}
    ]
    (message,) = json.loads(found["gen_ai.output.messages"])
    assert message["finish_reason"] == "stop"
    assert [part["type"] for part in message["parts"]] == ["text"]  # nine chunks are one text


def test_sampler_and_processor_see_the_whole_request(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def should_sample(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs["attributes"] if "attributes" in kwargs else args[4])
        return original(*args, **kwargs)

    original = recorder.provider.sampler.should_sample
    monkeypatch.setattr(recorder.provider.sampler, "should_sample", should_sample)
    instrumented()
    stream(temperature=0.5)(client(standin.gemini_base_url))
    assert seen["gen_ai.request.temperature"] == 0.5
    assert seen["gen_ai.request.stream"] is True
    assert "hello" in seen["gen_ai.input.messages"]


@pytest.mark.parametrize("switch", ["argument", "environment"])
def test_content_off_leaves_no_content_anywhere(
    switch: str,
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if switch == "environment":
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "NO_CONTENT")
        instrumented()
    else:
        instrumented(capture_content=False)
    error = {"error": {"code": 400, "message": "cannot say s3cret", "status": "INVALID_ARGUMENT"}}
    answer = {"candidates": [{"content": {"parts": [{"text": "s3cret"}]}, "finishReason": "STOP"}]}
    provider.play(Reply(answer), Reply(events=[answer, answer]), Reply(error, status=400))
    asked: dict[str, Any] = {
        "contents": ["s3cret", PNG],
        "system_instruction": "s3cret",
        "tools": [types.Tool(google_search=types.GoogleSearch())],
    }
    for run in (generate(**asked), stream(**asked), generate(**asked)):
        outcome(partial(run, client(provider.url)))
    spans = recorder.spans()
    assert len(spans) == 3
    for span in spans:
        assert "s3cret" not in everything(span)
        assert "//77" not in everything(span)
        assert attributes(span)["posthog.prompt.length"] == 12
        assert attributes(span)["posthog.files.count"] == 1
    assert spans[2].events[0].name == "exception"


TEXT = {"content": {"role": "model", "parts": [{"text": "one "}]}, "index": 0}
FIRST = {
    "candidates": [TEXT],
    "usageMetadata": {"promptTokenCount": 7},
    "modelVersion": "m-1",
    "responseId": "r",
}


def broken(reply: Reply, status: StatusCode, says: dict[str, Any], *, streamed: bool = True) -> Any:
    return reply, status, says, streamed


FAULTS: dict[str, Any] = {
    "429": broken(
        Reply({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, status=429),
        StatusCode.ERROR,
        {"error.type": "429", "posthog.http.status": 429},
        streamed=False,
    ),
    "500": broken(
        Reply({"error": {"code": 500, "message": "oops", "status": "INTERNAL"}}, status=500),
        StatusCode.ERROR,
        {"error.type": "500", "posthog.http.status": 500},
    ),
    "connection lost before the response": broken(
        Reply({"candidates": []}, drop=True),
        StatusCode.ERROR,
        {"error.type": "RemoteProtocolError"},
        streamed=False,
    ),
    "connection lost in the stream": broken(
        Reply(events=[FIRST], drop=True),
        StatusCode.ERROR,
        {
            "error.type": "RemoteProtocolError",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.response.model": "m-1",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"one "}]}]',
        },
    ),
    "error inside the stream": broken(
        Reply(events=[FIRST, {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}]),
        StatusCode.ERROR,
        {"error.type": "503", "posthog.http.status": 503, "gen_ai.response.id": "r"},
    ),
    "usage in a tail without candidates": broken(
        Reply(
            events=[
                FIRST,
                {"candidates": [{"finishReason": "STOP", "index": 0}]},
                {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 9}},
            ]
        ),
        StatusCode.UNSET,
        {
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.response.finish_reasons": ("stop",),
        },
    ),
    "no finish reason": broken(
        Reply(events=[FIRST]), StatusCode.UNSET, {"gen_ai.response.finish_reasons": ("error",)}
    ),
    "blocked prompt": broken(
        Reply({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}),
        StatusCode.UNSET,
        {
            "gen_ai.response.finish_reasons": ("content_filter",),
            "posthog.prompt.block_reason": "SAFETY",
            "gen_ai.usage.input_tokens": 3,
        },
        streamed=False,
    ),
    "blocked prompt in a stream": broken(
        Reply(events=[{"promptFeedback": {"blockReason": "SAFETY"}}]),
        StatusCode.UNSET,
        {"gen_ai.response.finish_reasons": ("content_filter",)},
    ),
    "safety stop": broken(
        Reply({"candidates": [{**TEXT, "finishReason": "SAFETY"}]}),
        StatusCode.UNSET,
        {"gen_ai.response.finish_reasons": ("content_filter",)},
        streamed=False,
    ),
    "two candidates": broken(
        Reply(
            events=[
                {"candidates": [TEXT, {**TEXT, "index": 1}]},
                {
                    "candidates": [
                        {**TEXT, "finishReason": "STOP"},
                        {"index": 1, "finishReason": "MAX_TOKENS"},
                    ]
                },
            ]
        ),
        StatusCode.UNSET,
        {
            "gen_ai.response.finish_reasons": ("stop", "length"),
            "gen_ai.output.messages": (
                '[{"role":"assistant","parts":[{"type":"text","content":"one one "}],"finish_reason":"stop"},'
                '{"role":"assistant","parts":[{"type":"text","content":"one "}],"finish_reason":"length"}]'
            ),
        },
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_reaches_span_and_user_alike(
    name: str, provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    reply, status, says, streamed = FAULTS[name]
    run = (stream if streamed else generate)("hello")
    provider.play(reply)
    baseline = outcome(lambda: run(client(provider.url)))
    instrumented()
    provider.play(reply)
    assert outcome(lambda: run(client(provider.url))) == baseline
    (span,) = recorder.spans()
    found = attributes(span)
    assert {key: found.get(key) for key in says} == says
    assert span.status.status_code is status
    assert bool(span.events) is (status is StatusCode.ERROR)


def leave_by_break(c: genai.Client) -> None:
    for _ in c.models.generate_content_stream(model=MODEL, contents="hello"):
        break


def leave_by_close(c: genai.Client) -> None:
    chunks: Any = c.models.generate_content_stream(model=MODEL, contents="hello")
    next(chunks)
    chunks.close()


def leave_by_exception(c: genai.Client) -> None:
    def loop() -> None:
        for _ in c.models.generate_content_stream(model=MODEL, contents="hello"):
            raise LookupError

    outcome(loop)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_close, leave_by_exception])
def test_stream_left_early_ends_its_span_and_is_no_error(
    leave: Callable[[genai.Client], None],
    provider: Provider,
    recorder: Recorder,
    instrumented: Callable[..., None],
) -> None:
    instrumented()
    provider.play(Reply(events=[FIRST, FIRST, FIRST]))
    leave(client(provider.url))
    gc.collect()
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    found = attributes(span)
    assert found["gen_ai.usage.input_tokens"] == 7
    assert "one " in found["gen_ai.output.messages"]
    assert "gen_ai.response.finish_reasons" not in found


def test_stream_that_was_never_started_leaves_no_span(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    provider.play()
    c = client(provider.url)
    c.models.generate_content_stream(model=MODEL, contents="hello")
    gc.collect()
    assert recorder.spans() == []
    assert provider.seen == []


def test_cancelled_call_is_an_error(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        c = client(provider.url)
        monkeypatch.setattr(c._api_client, "_async_request", never)
        task = asyncio.create_task(c.aio.models.generate_content(model=MODEL, contents="hello"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await c.aio.aclose()

    instrumented()
    asyncio.run(main())
    (span,) = recorder.spans()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "CancelledError"


def test_callers_span_is_current_inside_the_loop(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    c = client(standin.gemini_base_url)
    with recorder.tracer.start_as_current_span("caller") as caller:
        for _ in c.models.generate_content_stream(model=MODEL, contents="hello"):
            assert trace.get_current_span() is caller
        assert trace.get_current_span() is caller


def test_suppression_and_uninstrument_are_obeyed(
    standin: StandIn, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    from google.genai._api_client import BaseApiClient

    before = dict(vars(BaseApiClient))
    instrumented()
    with suppress_instrumentation():
        generate()(client(standin.gemini_base_url))
        stream()(client(standin.gemini_base_url))
    assert recorder.spans() == []
    GeminiInstrumentor().uninstrument()
    generate()(client(standin.gemini_base_url))
    assert recorder.spans() == []
    assert dict(vars(BaseApiClient)) == before


def test_unreadable_answer_still_ends_the_span(
    provider: Provider, recorder: Recorder, instrumented: Callable[..., None]
) -> None:
    instrumented()
    # usageMetadata of the wrong type: the SDK takes no notice of it before validation.
    provider.play(Reply({"candidates": [], "usageMetadata": {"promptTokenCount": "many"}}))
    outcome(lambda: generate()(client(provider.url)))
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.request.model"] == MODEL
