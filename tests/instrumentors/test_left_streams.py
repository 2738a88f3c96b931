"""Streams that the application leaves: at the last word, by letting go, and at the end of the process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from instrumentors import OpenAIInstrumentor
from instrumentors.common.streams import abandon_open_streams
from tests.instrumentors.cases.openai import (
    FEW,
    MESSAGES,
    MODEL,
    RESPONSE,
    WORD,
    chunk,
    event,
)
from tests.instrumentors.provider import Provider, ScriptedResponse
from tests.instrumentors.recording import Recorder, attributes
from tests.support.paths import ROOT

CHATS = ScriptedResponse(events=[WORD, chunk("stop", FEW), "[DONE]"])
RESPONSES = ScriptedResponse(
    events=[
        event("response.created", response={**RESPONSE, "status": "in_progress", "usage": None}),
        event("response.completed", 1, response=RESPONSE),
    ]
)


@pytest.fixture
def client(provider: Provider, recorder: Recorder) -> Iterator[OpenAI]:
    OpenAIInstrumentor().instrument(tracer_provider=recorder.provider)
    gc.disable()
    try:
        with OpenAI(base_url=provider.url, api_key="x", max_retries=0) as made:
            yield made
    finally:
        gc.enable()
        OpenAIInstrumentor().uninstrument()


def chats(c: Any) -> Any:
    return c.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)


def responses(c: Any) -> Any:
    return c.responses.create(model=MODEL, input="hello", stream=True)


def _is_last(piece: Any) -> bool:
    return piece.type == "response.completed" if hasattr(piece, "type") else bool(piece.usage)


@pytest.mark.parametrize(("use", "reply"), [(chats, CHATS), (responses, RESPONSES)])
def test_a_stream_ends_its_call_at_the_last_word(
    use: Callable[[Any], Any], reply: ScriptedResponse, client: OpenAI, provider: Provider, recorder: Recorder
) -> None:
    provider.play(reply)
    stream = use(client)
    assert any(_is_last(piece) for piece in stream)
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes(span)["gen_ai.usage.input_tokens"] == 7
    stream.close()
    assert recorder.spans() == []


@pytest.mark.parametrize(("use", "reply"), [(chats, CHATS), (responses, RESPONSES)])
def test_a_stream_that_is_let_go_ends_its_call_without_a_garbage_collection(
    use: Callable[[Any], Any], reply: ScriptedResponse, client: OpenAI, provider: Provider, recorder: Recorder
) -> None:
    provider.play(reply)
    stream = use(client)
    next(stream)
    assert recorder.spans() == []
    del stream
    assert len(recorder.spans()) == 1


def test_an_asynchronous_stream_that_is_let_go_ends_its_call(
    client: OpenAI, provider: Provider, recorder: Recorder
) -> None:
    async def main() -> int:
        async with AsyncOpenAI(base_url=provider.url, api_key="x", max_retries=0) as c:
            stream = await chats(c)
            await stream.__anext__()
            del stream
            return len(recorder.spans())

    provider.play(CHATS)
    assert asyncio.run(main()) == 1


def test_streams_that_are_open_when_the_process_ends_end_their_calls(
    client: OpenAI, provider: Provider, recorder: Recorder
) -> None:
    provider.play(CHATS)
    stream = chats(client)
    next(stream)
    abandon_open_streams()
    assert [attributes(span)["gen_ai.response.id"] for span in recorder.spans()] == ["c-1"]
    stream.close()
    assert recorder.spans() == []


_SCRIPT = """
import asyncio, sys
from openai import AsyncOpenAI, OpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from instrumentors import OpenAIInstrumentor
url, kind = sys.argv[1:]
OpenAIInstrumentor().instrument(tracer_provider=(provider := TracerProvider()))
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
async def left():
    global stream
    async def pieces():
        global stream
        stream = await AsyncOpenAI(base_url=url, api_key="x").chat.completions.create(**asked)
        async for one in stream:
            yield one
            break
    async for one in pieces():
        pass
if kind == "async":
    asyncio.run(left())
else:
    stream = OpenAI(base_url=url, api_key="x").chat.completions.create(**asked)
    next(stream)
"""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_program_that_ends_with_an_open_stream_loses_no_call(kind: str, provider: Provider) -> None:
    provider.play(CHATS)
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, provider.url, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,  # CPython 3.13.0 crashes at exit on an open stream of openai, without us as well
        timeout=60,
    )
    assert ended.stdout.count('"gen_ai.response.id": "c-1"') == 1
    # The SDK's own generators, which asyncio closes all at once, may log here without us as well.
    ours = ("otel_posthog", "instrumentors", "follow", "A span ended after shutdown")
    assert [word for word in ours if word in ended.stderr] == []
