"""One call is one generation if two other instrumentors see it, and ours does not.

`.ci/matrix` names the two (`OTEL_POSTHOG_TEST_PAIR`) and runs each pair in a process of its own, because some
cannot be switched off again. Without the variable the module is not collected (`conftest`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

import openai
import pytest
from google import genai
from google.genai import types
from google.genai.errors import APIError
from openai import AsyncOpenAI, OpenAI
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_posthog import PostHogSpanExporter, PostHogSpanProcessor
from otel_posthog.local import Inbox
from tests.instrumentors.neighbours import PAIR, switch_on
from tests.instrumentors.provider import Provider, ScriptedResponse

Event = Mapping[str, Any]
_AI = ("$ai_generation", "$ai_embedding")
MESSAGES: Any = [{"role": "user", "content": "hello"}]


# --- ways ------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """A way by which spans reach us."""

    attach: Callable[[dict[str, Any]], Any]
    flushes_meanwhile: bool = False
    """Whether the beginnings of calls are sent before their answers are there."""


ALONE = "exporter, each span alone"
WAYS = {
    "processor": Way(lambda options: PostHogSpanProcessor(**options)),
    "processor, flushed under way": Way(lambda options: PostHogSpanProcessor(**options), True),
    "exporter, one batch": Way(
        lambda options: BatchSpanProcessor(PostHogSpanExporter(**options), schedule_delay_millis=600_000)
    ),
    ALONE: Way(lambda options: SimpleSpanProcessor(PostHogSpanExporter(**options))),
}


# --- calls -----------------------------------------------------------------------------------------------


class Truth(NamedTuple):
    """The truth about one call."""

    tokens: tuple[int | None, int | None] = (7, 9)
    text: str | None = None
    event: str = "$ai_generation"
    failed: bool = False


class Use(NamedTuple):
    """A use of the SDK, its calls, and the service's response, given a call's text."""

    run: Callable[[str], Any]
    calls: Sequence[Truth]
    answer: Callable[[str], ScriptedResponse]


Act = Callable[[Any], Any]
"""Takes a client, and makes a call."""


def client(url: str) -> Any:
    return OpenAI(base_url=url, api_key="x", max_retries=0)


def client_async(url: str) -> Any:
    return AsyncOpenAI(base_url=url, api_key="x", max_retries=0)


def gemini(url: str) -> Any:
    once = types.HttpRetryOptions(attempts=1)
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url=url, retry_options=once))


def once(act: Act, make: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda url: act(make(url))


def in_threads(act: Act, make: Callable[[str], Any]) -> Callable[[str], None]:
    def run(url: str) -> None:
        sdk_client = make(url)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(contextvars.copy_context().run, act, sdk_client) for _ in range(2)]:
                done.exception()

    return run


def gathered(act: Callable[[Any], Any], make: Callable[[str], Any]) -> Callable[[str], None]:
    async def main(url: str) -> None:
        sdk_client = make(url)
        await asyncio.gather(act(sdk_client), act(sdk_client), return_exceptions=True)

    return lambda url: asyncio.run(main(url))


def chat(c: Any) -> Any:
    return c.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def chat_stream(c: Any) -> Any:
    options = {"include_usage": True}
    for _ in c.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options=options
    ):
        pass


async def chat_stream_async(c: Any) -> Any:
    options = {"include_usage": True}
    async for _ in await c.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options=options
    ):
        pass


def respond(c: Any) -> Any:
    return c.responses.create(model="gpt-4o-mini", input="hello")


def respond_stream(c: Any) -> Any:
    for _ in c.responses.create(model="gpt-4o-mini", input="hello", stream=True):
        pass


def embed(c: Any) -> Any:
    return c.embeddings.create(model="text-embedding-3-small", input="hello", encoding_format="float")


def generate(c: Any) -> Any:
    return c.models.generate_content(model="gemini-2.5-flash", contents="hello")


async def generate_async(c: Any) -> Any:
    return await c.aio.models.generate_content(model="gemini-2.5-flash", contents="hello")


def generate_stream(c: Any) -> Any:
    for _ in c.models.generate_content_stream(model="gemini-2.5-flash", contents="hello"):
        pass


async def generate_stream_async(c: Any) -> Any:
    async for _ in await c.aio.models.generate_content_stream(model="gemini-2.5-flash", contents="hello"):
        pass


def send(c: Any) -> Any:
    return c.chats.create(model="gemini-2.5-flash").send_message("hello")


def embed_content(c: Any) -> Any:
    return c.models.embed_content(model="gemini-embedding-001", contents="hello")


# --- answers ---------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
CUT = 5
"""The position at which a stream cuts a text in two."""
_numbers = count()


def _head(kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{next(_numbers)}"  # no two answers have one id: Traceloop remembers them
    return {"id": name, "object": kind, "model": "gpt-4o-mini-2024-07-18", "created": 1}


def answer(text: str) -> ScriptedResponse:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return ScriptedResponse({**_head("chat.completion"), "choices": [choice], "usage": USAGE})


def stream(text: str) -> ScriptedResponse:
    head = _head("chat.completion.chunk")

    def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    chunks = [chunk(role="assistant", content=text[:CUT]), chunk(content=text[CUT:]), chunk("stop")]
    return ScriptedResponse(events=[*chunks, {**head, "choices": [], "usage": USAGE}, "[DONE]"])


def _response(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 16,
    }
    return {
        "id": f"resp-{next(_numbers)}",
        "object": "response",
        "created_at": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "status": "completed",
        "output": [message],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }


def response(text: str) -> ScriptedResponse:
    return ScriptedResponse(_response(text))


def response_stream(text: str) -> ScriptedResponse:
    last = _response(text)
    first = {**last, "status": "in_progress", "output": [], "usage": None}
    delta = {"item_id": "m", "output_index": 0, "content_index": 0, "delta": text, "logprobs": []}
    return ScriptedResponse(
        events=[
            {"type": "response.created", "sequence_number": 0, "response": first},
            {"type": "response.output_text.delta", "sequence_number": 1, **delta},
            {"type": "response.completed", "sequence_number": 2, "response": last},
        ]
    )


def vectors(_: str) -> ScriptedResponse:
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return ScriptedResponse(
        {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}
    )


def rejected(_: str) -> ScriptedResponse:
    return ScriptedResponse(
        {"error": {"message": "slow down", "type": "requests", "code": "rate_limit"}}, status=429
    )


def _generated(text: str) -> dict[str, Any]:
    model_content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"content": model_content, "index": 0, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 9, "totalTokenCount": 16},
        "modelVersion": "gemini-2.5-flash",
    }


def content(text: str) -> ScriptedResponse:
    return ScriptedResponse({**_generated(text), "responseId": f"resp-{next(_numbers)}"})


def content_stream(text: str) -> ScriptedResponse:
    name = f"resp-{next(_numbers)}"
    return ScriptedResponse(
        events=[{**_generated(part), "responseId": name} for part in (text[:CUT], text[CUT:])]
    )


def content_vectors(_: str) -> ScriptedResponse:
    return ScriptedResponse({"embeddings": [{"values": [0.1, 0.2]}]})


def exhausted(_: str) -> ScriptedResponse:
    error = {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}
    return ScriptedResponse({"error": error}, status=429)


# --- the table -------------------------------------------------------------------------------------------

ONE, TWO = Truth(text="it is one"), Truth(text="it is two")
VECTORS = Truth((7, None), event="$ai_embedding")
UNCOUNTED = Truth((None, None), event="$ai_embedding")
FAILURE = Truth((None, None), failed=True)

_OPENAI = {
    "chat": Use(once(chat, client), [ONE], answer),
    "chat stream": Use(once(chat_stream, client), [ONE], stream),
    "responses": Use(once(respond, client), [ONE], response),
    "responses stream": Use(once(respond_stream, client), [ONE], response_stream),
    "embeddings": Use(once(embed, client), [VECTORS], vectors),
    "chat, error 429": Use(once(chat, client), [FAILURE], rejected),
    "responses, error 429": Use(once(respond, client), [FAILURE], rejected),
    "embeddings, error 429": Use(
        once(embed, client), [Truth((None, None), event="$ai_embedding", failed=True)], rejected
    ),
    "two chats, threads": Use(in_threads(chat, client), [ONE, TWO], answer),
    "two chat streams, threads": Use(in_threads(chat_stream, client), [ONE, TWO], stream),
    "two responses, threads": Use(in_threads(respond, client), [ONE, TWO], response),
    "two embeddings, threads": Use(in_threads(embed, client), [VECTORS, VECTORS], vectors),
    "two chats, error 429, threads": Use(in_threads(chat, client), [FAILURE, FAILURE], rejected),
    "two chats, gathered": Use(gathered(chat, client_async), [ONE, TWO], answer),
    "two chat streams, gathered": Use(gathered(chat_stream_async, client_async), [ONE, TWO], stream),
    "two responses, gathered": Use(gathered(respond, client_async), [ONE, TWO], response),
    "two embeddings, gathered": Use(gathered(embed, client_async), [VECTORS, VECTORS], vectors),
}
_GEMINI = {
    "generate": Use(once(generate, gemini), [ONE], content),
    "generate stream": Use(once(generate_stream, gemini), [ONE], content_stream),
    "chat": Use(once(send, gemini), [ONE], content),
    "embeddings": Use(once(embed_content, gemini), [UNCOUNTED], content_vectors),
    "error 429": Use(once(generate, gemini), [FAILURE], exhausted),
    "two, threads": Use(in_threads(generate, gemini), [ONE, TWO], content),
    "two streams, threads": Use(in_threads(generate_stream, gemini), [ONE, TWO], content_stream),
    "two, error 429, threads": Use(in_threads(generate, gemini), [FAILURE, FAILURE], exhausted),
    "two, gathered": Use(gathered(generate_async, gemini), [ONE, TWO], content),
    "two streams, gathered": Use(gathered(generate_stream_async, gemini), [ONE, TWO], content_stream),
}


# --- playing ---------------------------------------------------------------------------------------------


class _Switch(SpanProcessor):
    """A processor that forwards to the way under test; instrumentors are switched on once."""

    to: SpanProcessor | None = None

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.to is not None:
            self.to.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.to is not None:
            self.to.on_end(span)


class Company(NamedTuple):
    """The pair, switched on."""

    provider: TracerProvider
    switch: _Switch


@pytest.fixture(scope="module")
def company() -> Company:
    provider, switch = TracerProvider(shutdown_on_exit=False), _Switch()
    provider.add_span_processor(switch)
    for name in PAIR:
        switch_on(name, provider)
    return Company(provider, switch)


class Played(NamedTuple):
    """The events of a use that reached PostHog, and the truth."""

    events: Sequence[Event]
    calls: Sequence[Truth]
    where: tuple[str, str, bool]
    """Way, name of the use, and whether it was inside of a caller's span."""

    def number(self, name: str) -> int:
        return sum(event["event"] == name for event in self.events)


def _uses() -> list[Any]:
    uses = _GEMINI if any("gemini" in name for name in PAIR) else _OPENAI
    return [
        pytest.param((way, name, inside, use), id=f"{way}: {name}, {'inside' if inside else 'alone'}")
        for way in WAYS
        for name, use in uses.items()
        for inside in (True, False)
        if PAIR
    ]


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with Inbox() as local_inbox:
        yield local_inbox


@pytest.fixture(scope="module", params=_uses())
def played(request: pytest.FixtureRequest, company: Company, provider: Provider, inbox: Inbox) -> Played:
    """Play a use once, for all tests."""
    name, use_name, inside, use = request.param
    way = WAYS[name]
    before = max((event["_inbox"]["id"] for event in inbox.events()), default=0)
    processor = way.attach({"api_key": "phc_x", "endpoint": inbox.url, "flush_interval": 60.0})
    together = threading.Barrier(len(use.calls))

    def first() -> None:
        together.wait(10)  # all calls are under way
        if way.flushes_meanwhile:
            assert processor.force_flush()
            together.wait(10)

    provider.play(*(use.answer(call.text or "")._replace(first=first) for call in use.calls))
    company.switch.to = processor
    caller = company.provider.get_tracer("application").start_as_current_span("caller")
    with caller if inside else contextlib.nullcontext(), contextlib.suppress(openai.APIError, APIError):
        use.run(provider.url)
    company.switch.to = None
    processor.shutdown()
    return Played(inbox.events(after=before), use.calls, (name, use_name, inside))


def test_one_call_is_one_generation(played: Played) -> None:
    expected = Counter(call.event for call in played.calls)
    counts = Counter(event["event"] for event in played.events)
    times = 2 if _is_in_two_traces(played) else 1
    if _is_ambiguous(played):
        assert len(played.calls) <= counts["$ai_generation"] <= 2 * len(played.calls)
        return
    assert {name: counts[name] for name in expected} == {name: times * n for name, n in expected.items()}
    assert counts["$ai_generation"] + counts["$ai_embedding"] == times * len(played.calls)


def test_one_call_is_requested_once_and_has_one_outcome(played: Played) -> None:
    calls, failed = len(played.calls), sum(call.failed for call in played.calls)
    if _is_ambiguous(played):
        assert calls <= played.number("llm_completion_failed") <= 2 * calls
        return
    times = 2 if _is_in_two_traces(played) else 1
    requests = 2 if times == 2 or _is_announced_in_two_traces(played) else 1
    numbers = [played.number(f"llm_completion_{what}") for what in ("requested", "success", "failed")]
    assert numbers == [requests * calls, times * (calls - failed), times * failed]


def test_its_tokens_are_on_the_generation(played: Played) -> None:
    generations = [event["properties"] for event in played.events if event["event"] in _AI]
    tokens = [(one.get("$ai_input_tokens"), one.get("$ai_output_tokens")) for one in generations]
    if _is_in_two_traces(played) or _is_ambiguous(played):
        assert {*tokens} <= {(None, None), *(call.tokens for call in played.calls)}
        return
    too_late = _knows_tokens_too_late(played)
    assert tokens == [(None, None) if too_late else call.tokens for call in played.calls]


def test_its_words_are_on_the_generation(played: Played) -> None:
    # If each span comes alone, an outer one's text comes too late and is on its `$ai_span`.
    late = ("$ai_span", "$ai_trace") if played.where[0] == ALONE else ()
    output = str(
        [
            [event["properties"].get(name) for name in ("$ai_output_choices", "$ai_output_state")]
            for event in played.events
            if event["event"] in (*_AI, *late)
        ]
    )
    first = CUT if _knows_last_words_only(played) else 0
    assert [call.text for call in played.calls if call.text and call.text[first:] not in output] == []


# --- limits ----------------------------------------------------------------------------------------------

_ERRORS = {"error 429", "two, error 429, threads"}
_IN_TWO_TRACES: Mapping[tuple[str, ...], set[str]] = {
    ("genai-openai", "traceloop"): {"responses, error 429"},
    ("logfire", "traceloop"): {"responses, error 429", "responses stream"},
    ("openinference", "traceloop"): {"responses, error 429"},
    ("traceloop", "logfire"): {"responses, error 429", "responses stream"},
    ("traceloop", "openinference"): {"responses, error 429"},
    ("official-gemini", "traceloop-gemini"): _ERRORS,
    ("openinference-gemini", "traceloop-gemini"): _ERRORS,
}
"""By pair: uses whose two spans cannot be recognised as one call without a span above.

Traceloop's spans of Responses and Gemini are never current, so the other's is in a trace of its own. Then
only the id of the response connects them: an error has none, and Logfire reports none of a streamed response.
"""


def _is_in_two_traces(played: Played) -> bool:
    _, use, inside = played.where
    return not inside and use in _IN_TWO_TRACES.get(tuple(PAIR), ())


def _is_ambiguous(played: Played) -> bool:
    """Whether calls at one time, each of two spans side by side without a response id, come span by span.

    The second span may then be taken for the twin of another call's, and that call's own is left over.
    """
    way, use, inside = played.where
    return way == ALONE and inside and use == "two, error 429, threads" and "traceloop-gemini" in PAIR


def _is_announced_in_two_traces(played: Played) -> bool:
    """Whether both name the model as they begin, and only the answer shows that they are one call."""
    way, use, inside = played.where
    known_async = PAIR == ["official-gemini", "traceloop-gemini"] and use != "embeddings"
    return known_async and WAYS[way].flushes_meanwhile and not inside


def _knows_tokens_too_late(played: Played) -> bool:
    """Whether the first span that shows the call ends before its stream: Logfire's, sent at once."""
    way, use, _ = played.where
    return way == ALONE and "logfire" in PAIR and "stream" in use


def _knows_last_words_only(played: Played) -> bool:
    """Whether only Traceloop's Gemini spans have a stream's text; they keep the last chunk."""
    return {*PAIR} == {"official-gemini", "traceloop-gemini"} and "stream" in played.where[1]
