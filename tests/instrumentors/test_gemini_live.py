"""Live sessions against a scripted socket, since the SDK insists on TLS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google import genai
from google.genai import live, types
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from instrumentors import GeminiInstrumentor
from otel_posthog import ai_context
from tests.instrumentors.recording import Raising, Recorder, attributes, everything, outcome

MODEL = "gemini-live-2.5-flash-preview"
USAGE = {
    "promptTokenCount": 7,
    "responseTokenCount": 5,
    "thoughtsTokenCount": 2,
    "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
}
WORDS = {"serverContent": {"modelTurn": {"parts": [{"text": "hel"}]}}}
MORE = {"serverContent": {"modelTurn": {"parts": [{"text": "lo"}]}}}
END = {"serverContent": {"turnComplete": True}, "usageMetadata": USAGE}
CALL = {"toolCall": {"functionCalls": [{"id": "f", "name": "w", "args": {"c": "B"}}]}, "usageMetadata": USAGE}
HEARD = [{"serverContent": {"inputTranscription": {"text": piece}}} for piece in ("What ", "time?")]
SPOKEN = {"serverContent": {"outputTranscription": {"text": "Noon"}}}
SILENT_END = {"serverContent": {"turnComplete": True}}
LATE_USAGE = {"usageMetadata": USAGE}
ACTIVITY_END = {"voiceActivity": {"type": "ACTIVITY_END"}}
AUDIO = types.Blob(data=b"\0\0", mime_type="audio/pcm")
MESSAGES = types.Content(role="user", parts=[types.Part(text="hello")])
RESULT = types.FunctionResponse(id="f", name="w", response={"result": "sun"})


class Clock:
    """A stopwatch that can be advanced."""

    def __init__(self) -> None:
        self.real, self.ahead = time.perf_counter, 0.0

    def __call__(self) -> float:
        return self.real() + self.ahead


class Socket:
    """A socket that receives scripted messages and fails at their end; a number is a pause in seconds."""

    def __init__(self, clock: Clock, *messages: Any) -> None:
        self.clock = clock
        self.script: list[Any] = [{"setupComplete": {}}, *messages]
        self.sent: list[Any] = []
        self.broken = False

    async def send(self, message: str) -> None:
        if self.broken:
            raise ConnectionResetError("gone")
        self.sent.append(json.loads(message))

    async def recv(self, **_: Any) -> bytes:
        while self.script and isinstance(self.script[0], float):
            self.clock.ahead += self.script.pop(0)
        if not self.script:
            raise ConnectionError("lost")
        message = self.script.pop(0)
        if isinstance(message, Close):
            raise ConnectionClosedError(message, None)
        return json.dumps(message).encode()

    async def close(self) -> None:
        pass


Use = Callable[[Any], Awaitable[Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)

    def run(use: Use, *messages: Any, **config: Any) -> Any:
        socket = Socket(clock, *messages)

        @asynccontextmanager
        async def connect(*_: Any, **__: Any) -> AsyncIterator[Socket]:
            yield socket

        monkeypatch.setattr(live, "ws_connect", connect)

        async def main() -> Any:
            c = genai.Client(api_key="x")
            async with c.aio.live.connect(model=MODEL, config=types.LiveConnectConfig(**config)) as session:
                return await use(session)

        return outcome(lambda: asyncio.run(main())), socket.sent

    return run


@pytest.fixture
def instrument(recorder: Recorder) -> Iterator[Callable[..., None]]:
    instrumentor = GeminiInstrumentor()
    yield lambda **kwargs: instrumentor.instrument(tracer_provider=recorder.provider, **kwargs)
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


async def ask(session: Any) -> Any:
    await session.send_client_content(turns=MESSAGES, turn_complete=True)
    return [message.model_dump() async for message in session.receive()]


async def ask_twice(session: Any) -> Any:
    return [await ask(session), await ask(session)]


async def use_tool(session: Any) -> Any:
    await session.send_client_content(turns=MESSAGES, turn_complete=True)
    async for message in session.receive():
        if message.tool_call:
            await session.send_tool_response(function_responses=RESULT)


async def leave(session: Any) -> Any:
    await session.send_client_content(turns=MESSAGES, turn_complete=True)
    async for message in session.receive():
        return message.model_dump()
    return None


def realtime(*inputs: dict[str, Any]) -> Use:
    """Return a use that sends realtime input and listens, once for each input."""

    async def use(session: Any) -> Any:
        messages = []
        for fields in inputs:
            for name, value in fields.items():
                await session.send_realtime_input(**{name: value})
            messages += await listen(session)
        return messages

    return use


async def send_audio_by_the_older_method(session: Any) -> Any:
    with pytest.warns(DeprecationWarning, match="send"):
        await session.send(input=AUDIO)
    return await listen(session)


async def interrupt(session: Any) -> Any:
    await session.send_realtime_input(text="hello")
    await session._receive()
    await session.send_realtime_input(text="stop")
    return [await listen(session), await listen(session)]


async def send_two_texts(session: Any) -> Any:
    await session.send_realtime_input(text="hello")
    await session.send_realtime_input(text="and?")
    return await listen(session)


async def leave_after_a_text(session: Any) -> Any:
    await session.send_realtime_input(text="hello")


async def ask_and_reconsider(session: Any) -> Any:
    await ask(session)
    await session._receive()


async def listen(session: Any) -> Any:
    return [message.model_dump() async for message in session.receive()]


async def show(session: Any) -> Any:
    picture = {"inline_data": {"data": b"\xff\xfe\xfb\xff", "mime_type": "image/png"}}
    await session.send_client_content(turns={"role": "user", "parts": [picture]})
    return [message.model_dump() async for message in session.receive()]


async def ask_with_a_slip(session: Any) -> Any:
    await session.send_client_content(turns=MESSAGES, turn_complete=False)
    with pytest.raises(ValueError, match="input"):
        await session.send_client_content(turns=5)
    return await ask(session)


async def ask_in_vain(session: Any) -> Any:
    session._ws.broken = True
    return await ask(session)


async def add_in_vain(session: Any) -> Any:
    await session.send_client_content(turns=MESSAGES, turn_complete=False)
    return await ask_in_vain(session)


async def ask_wrongly(session: Any) -> Any:
    await session.send_client_content(turns=5)


ONE = {
    "gen_ai.operation.name": "realtime_inference",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": MODEL,
    "gen_ai.request.stream": True,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.reasoning.output_tokens": 2,
    "gen_ai.usage.audio.output_tokens": 5,
}
TURNS: dict[str, tuple[Use, tuple[Any, ...], list[dict[str, Any]], bool]] = {
    "a turn": (
        ask,
        (WORDS, MORE, END),
        [
            {
                **ONE,
                "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]',
                "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"hello"}],'
                '"finish_reason":"stop"}]',
                "posthog.prompt.length": 5,
                "server.address": "generativelanguage.googleapis.com",
            }
        ],
        False,
    ),
    "two turns": (ask_twice, (WORDS, END, WORDS, END), [ONE, ONE], False),
    "a tool": (
        use_tool,
        (CALL, WORDS, END),
        [{"gen_ai.response.finish_reasons": ("tool_call",), "posthog.tool_calls.count": 1}, ONE],
        False,
    ),
    "nothing sent": (listen, (WORDS, END), [ONE], False),
    "left": (leave, (WORDS, END), [{"gen_ai.response.finish_reasons": None}], False),
    "bytes in a dict": (
        show,
        (WORDS, END),
        [
            {
                "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"blob","mime_type":"image/png",'
                '"modality":"image","content":"//77/w=="}]}]'
            }
        ],
        False,
    ),
    "a slip within": (ask_with_a_slip, (WORDS, END), [ONE], False),
    "closed by the service": (
        ask,
        (WORDS, Close(1011, "quota")),
        [{"error.type": "1011", "posthog.http.status": None}],
        True,
    ),
    "lost": (ask, (WORDS,), [{"error.type": "ConnectionError"}], True),
}


@pytest.mark.parametrize("name", TURNS)
def test_turn_is_one_right_span_and_changes_nothing(
    name: str, run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    use, messages, expected, error = TURNS[name]
    baseline = run(use, *messages)
    instrument()
    with recorder.tracer.start_as_current_span("caller") as caller:
        assert run(use, *messages) == baseline
    *spans, _ = recorder.spans()
    assert [span.name for span in spans] == [f"realtime_inference {MODEL}"] * len(expected)
    for span, expected_attributes in zip(spans, expected, strict=True):
        span_attributes = attributes(span)
        assert {key: span_attributes.get(key) for key in expected_attributes} == expected_attributes
        assert span_attributes["gen_ai.response.time_to_first_chunk"] >= 0
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
        assert parent_of(span) == caller.get_span_context().span_id


def user(*contents: str) -> str:
    messages = [{"role": "user", "parts": [{"type": "text", "content": content}]} for content in contents]
    return json.dumps(messages, separators=(",", ":"))


TALK = {"audio": AUDIO}
MANUAL = {"activity_start": types.ActivityStart(), "audio": AUDIO, "activity_end": types.ActivityEnd()}
REALTIME: dict[str, tuple[Use, tuple[Any, ...], list[tuple[str | None, float]]]] = {
    "a text": (realtime({"text": "hello"}), (0.3, SPOKEN, END), [(user("hello"), 0.3)]),
    "two texts": (
        realtime({"text": "hello"}, {"text": "and?"}),
        (0.3, SPOKEN, END, 0.4, SPOKEN, END),
        [(user("hello"), 0.3), (user("and?"), 0.4)],
    ),
    "a text in two": (
        send_two_texts,
        (0.3, SPOKEN, END),
        [(user("hello", "and?"), 0.3)],
    ),
    "an activity of the application": (
        realtime(MANUAL),
        (0.3, *HEARD, SPOKEN, END),
        [(user("What time?"), 0.3)],
    ),
    "the end of an audio stream": (
        realtime({"audio": AUDIO, "audio_stream_end": True}),
        (0.3, SPOKEN, END),
        [(None, 0.3)],
    ),
    "speech, heard": (realtime(TALK), (0.2, *HEARD, 0.3, SPOKEN, END), [(user("What time?"), 0.3)]),
    "speech, heard late": (realtime(TALK), (0.2, SPOKEN, *HEARD, END), [(user("What time?"), 0.0)]),
    "speech that the service detects": (
        realtime(TALK),
        (0.2, ACTIVITY_END, 0.3, SPOKEN, END),
        [(None, 0.3)],
    ),
    "speech by the older method": (
        send_audio_by_the_older_method,
        (0.2, *HEARD, 0.3, SPOKEN, END),
        [(user("What time?"), 0.3)],
    ),
    "an interruption": (
        interrupt,
        (0.3, SPOKEN, 0.1, END, 0.4, SPOKEN, END),
        [(user("hello"), 0.3), (user("stop"), 0.5)],
    ),
}


@pytest.mark.parametrize("name", REALTIME)
def test_turn_of_realtime_input_has_its_words_and_waits_since_their_end(
    name: str, run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    use, messages, expected = REALTIME[name]
    baseline = run(use, *messages)
    instrument()
    assert run(use, *messages) == baseline
    spans = [attributes(span) for span in recorder.spans()]
    assert [span.get("gen_ai.input.messages") for span in spans] == [words for words, _ in expected]
    for span, (_, wait) in zip(spans, expected, strict=True):
        assert wait <= span["gen_ai.response.time_to_first_chunk"] < wait + 0.1
        assert span["gen_ai.usage.input_tokens"] == 7
        assert '"Noon"' in span["gen_ai.output.messages"]


def test_span_that_is_opened_late_starts_where_the_input_ended(
    run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    run(realtime(TALK), *HEARD, 30.0, SPOKEN, END)
    (span,) = recorder.spans()
    assert 30 <= ((span.end_time or 0) - (span.start_time or 0)) / 1e9 < 31


@pytest.mark.parametrize(
    ("use", "messages", "tokens"),
    [
        (ask_twice, (WORDS, SILENT_END, LATE_USAGE, WORDS, END), [7, 7]),
        (ask_and_reconsider, (WORDS, SILENT_END, 30.0, LATE_USAGE), [7]),
        (ask_twice, (WORDS, SILENT_END, WORDS, END), [None, 7]),
        (ask, (WORDS, SILENT_END), [None]),
    ],
    ids=["before the next turn", "much later", "never", "at the end of the session"],
)
def test_usage_after_the_end_of_a_turn_is_the_turns(
    use: Use,
    messages: tuple[Any, ...],
    tokens: list[int | None],
    run: Callable[..., Any],
    recorder: Recorder,
    instrument: Callable[..., None],
) -> None:
    instrument()
    run(use, *messages)
    spans = recorder.spans()
    assert [attributes(span).get("gen_ai.usage.input_tokens") for span in spans] == tokens
    for span in spans:
        assert attributes(span)["gen_ai.response.finish_reasons"] == ("stop",)
        assert attributes(span)["posthog.stream.duration"] < 1
        assert span.status.status_code is StatusCode.UNSET


def test_context_of_a_turn_is_that_of_the_sender_of_its_speech(
    run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    async def talk(session: Any) -> Any:
        with ai_context(feature="hotline"):
            await session.send_realtime_input(audio=AUDIO)
        return await listen(session)

    instrument()
    run(talk, *HEARD, SPOKEN, END)
    (span,) = recorder.spans()
    assert "hotline" in attributes(span).values()


def test_text_that_nobody_answers_is_one_span(
    run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    run(leave_after_a_text)
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.input.messages"] == user("hello")


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (ask_in_vain, "ConnectionResetError"),
        (add_in_vain, "ConnectionResetError"),
        (ask_wrongly, "ValueError"),
    ],
)
def test_turn_that_cannot_be_sent_is_an_error(
    use: Use, kind: str, run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    baseline = run(use)
    instrument()
    assert run(use) == baseline
    (span,) = recorder.spans()
    assert attributes(span)["error.type"] == kind
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("where", ["on_start", "on_end"])
def test_processor_that_raises_does_not_reach_the_user(
    where: str, run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    baseline = run(ask, WORDS, END)
    recorder.provider.add_span_processor(Raising(where))
    instrument()
    assert run(ask, WORDS, END) == baseline


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def test_parameters_of_the_session_are_on_every_turn(
    run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    modalities = [types.Modality.AUDIO]
    run(ask, WORDS, END, temperature=0.5, top_k=4, response_modalities=modalities)
    span_attributes = attributes(recorder.spans()[0])
    assert span_attributes["gen_ai.request.temperature"] == 0.5
    assert span_attributes["gen_ai.request.top_k"] == 4
    assert span_attributes["gen_ai.output.type"] == "speech"


def test_content_off_and_suppression_are_obeyed(
    run: Callable[..., Any], recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument(capture_content=False)
    run(ask, WORDS, MORE, END)
    (span,) = recorder.spans()
    assert "hello" not in everything(span)
    with suppress_instrumentation():
        run(ask, WORDS, END)
    GeminiInstrumentor().uninstrument()
    run(ask, WORDS, END)
    assert recorder.spans() == []
