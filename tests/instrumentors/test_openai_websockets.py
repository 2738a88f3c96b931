"""Realtime and Responses over WebSockets: the SDK's clients against a scripted server on this machine."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from queue import Queue
from threading import Thread
from typing import Any

import openai
import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from instrumentors import OpenAIInstrumentor
from otel_posthog import ai_context
from tests.instrumentors.recording import Raising, Recorder, attributes, everything, outcome

pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as:DeprecationWarning")  # by the SDK

MODEL = "gpt-realtime"


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def create_item(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


def spoken(transcript: str | None) -> dict[str, Any]:
    part = {"type": "output_audio"} | ({"transcript": transcript} if transcript else {})
    return {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def created(identifier: str = "r", **fields: Any) -> dict[str, Any]:
    response = {"id": identifier, "object": "realtime.response", "status": "in_progress", "output": []}
    return {"type": "response.created", "event_id": "e", "response": response} | fields


def delta(words: str, identifier: str = "r") -> dict[str, Any]:
    fields = {"response_id": identifier, "item_id": "i", "output_index": 0, "content_index": 0}
    return {"type": "response.output_audio_transcript.delta", "event_id": "e", "delta": words} | fields


def done(identifier: str = "r", status: str = "completed", **fields: Any) -> dict[str, Any]:
    response = {
        "id": identifier,
        "object": "realtime.response",
        "status": status,
        "conversation_id": "conv_1",
        "output": [spoken("Good morning")],
        "usage": USAGE,
    }
    return {"type": "response.done", "event_id": "e", "response": response | fields}


USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
CREATE = {"type": "response.create"}
ASK = create_item(message("hi")), CREATE
SAID = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
RESPONSE = {
    "id": "r",
    "object": "response",
    "status": "completed",
    "model": "gpt-5.1-2026",
    "output": [SAID],
    "usage": {"input_tokens": 20, "output_tokens": 10, "total_tokens": 30},
}
ASK_RESPONSES = {"type": "response.create", "model": "gpt-5.1", "input": "hi", "instructions": "Be brief."}
TEXT_DELTA = {"type": "response.output_text.delta", "delta": "hel", "item_id": "m", "sequence_number": 1}


def of_responses(event: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{event}", "sequence_number": 2, "response": RESPONSE | fields}


class Clock:
    """A stopwatch that can be advanced."""

    def __init__(self) -> None:
        self.real, self.ahead = time.perf_counter, 0.0

    def __call__(self) -> float:
        return self.real() + self.ahead


Script = tuple[Any, ...]
"""For the server: a dict is sent, a type is waited for, a float is a pause, an int closes the connection.

For the client: a dict is sent, a type is waited for.
"""


class Service:
    """A server that plays its script on each connection."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.script: Script = ()
        self.played: Queue[list[Any]] = Queue()
        """What each connection received, once it was closed."""

    def play(self, socket: ServerConnection) -> None:
        received: list[Any] = []
        with suppress(ConnectionClosed):
            for step in self.script:
                if isinstance(step, dict):
                    socket.send(json.dumps(step))
                elif isinstance(step, float):
                    self.clock.ahead += step
                elif isinstance(step, int):
                    socket.close(step, "quota")
                else:
                    self._wait_for(socket, step, received)
            self._wait_for(socket, None, received)
        self.played.put(received)

    def _wait_for(self, socket: ServerConnection, kind: str | None, received: list[Any]) -> None:
        while True:
            received.append(json.loads(socket.recv()))
            if received[-1]["type"] == kind:
                return

    @contextmanager
    def address(self) -> Iterator[str]:
        with serve(self.play, "127.0.0.1", 0) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
            server.shutdown()
            thread.join()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return Service(clock)


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    with service.address() as address:
        yield address


@pytest.fixture
def instrument(recorder: Recorder) -> Iterator[Callable[..., None]]:
    instrumentor = OpenAIInstrumentor()
    yield lambda **kwargs: instrumentor.instrument(tracer_provider=recorder.provider, **kwargs)
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def resource(client: Any, path: str) -> Any:
    return reduce(getattr, path.split("."), client)


def connect_options(path: str) -> dict[str, Any]:
    return {"model": MODEL} if path.endswith("realtime") else {}


def use(address: str, path: str, steps: Script) -> list[Any]:
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    events = []
    with resource(client, path).connect(**connect_options(path)) as connection:
        for step in steps:
            if isinstance(step, dict):
                connection.send(step)
                continue
            while True:
                events.append(connection.recv())
                if events[-1].type == step:
                    break
    return [event.to_json() for event in events]


async def use_async(address: str, path: str, steps: Script) -> list[Any]:
    client = openai.AsyncOpenAI(api_key="k", websocket_base_url=address)
    events = []
    async with resource(client, path).connect(**connect_options(path)) as connection:
        for step in steps:
            if isinstance(step, dict):
                await connection.send(step)
                continue
            while True:
                events.append(await connection.recv())
                if events[-1].type == step:
                    break
    return [event.to_json() for event in events]


Use = Callable[[str, str, Script], list[Any]]
USES: dict[str, Use] = {
    "sync": use,
    "async": lambda address, path, steps: asyncio.run(use_async(address, path, steps)),
}


@pytest.fixture(params=USES)
def use_either(request: pytest.FixtureRequest) -> Use:
    return USES[request.param]


def user(*contents: str) -> str:
    messages = [{"role": "user", "parts": [{"type": "text", "content": content}]} for content in contents]
    return json.dumps(messages, separators=(",", ":"))


def assistant(words: str, finish_reason: str | None = None) -> str:
    answer: dict[str, Any] = {"role": "assistant", "parts": [{"type": "text", "content": words}]}
    if finish_reason:
        answer["finish_reason"] = finish_reason
    return json.dumps([answer], separators=(",", ":"))


ONE = {
    "gen_ai.operation.name": "realtime_inference",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
    "gen_ai.request.stream": True,
    "server.address": "127.0.0.1",
    "gen_ai.response.id": "r",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.conversation.id": "conv_1",
    "gen_ai.usage.input_tokens": 132,
    "gen_ai.usage.output_tokens": 121,
    "gen_ai.usage.cache_read.input_tokens": 64,
    "gen_ai.usage.audio.cache_read.input_tokens": 4,
    "gen_ai.usage.audio.input_tokens": 13,
    "gen_ai.usage.audio.output_tokens": 91,
    "gen_ai.usage.text.input_tokens": 119,
    "gen_ai.input.messages": user("hi"),
    "gen_ai.output.messages": assistant("Good morning", "stop"),
}
COMMITTED = {"type": "input_audio_buffer.committed", "event_id": "e", "item_id": "a"}
STOPPED = {"type": "input_audio_buffer.speech_stopped", "event_id": "e", "item_id": "a", "audio_end_ms": 9}
HEARD_ITEM = {
    "id": "a",
    "type": "message",
    "role": "user",
    "content": [{"type": "input_audio", "transcript": None}],
}
ADDED = {"type": "conversation.item.added", "event_id": "e", "item": HEARD_ITEM}
TRANSCRIPT = {
    "type": "conversation.item.input_audio_transcription.completed",
    "event_id": "e",
    "item_id": "a",
    "content_index": 0,
    "transcript": "What time?",
    "usage": {"type": "duration", "seconds": 1},
}
BUSY = {"type": "server_error", "code": "busy", "message": "no"}
ERROR = {"type": "error", "event_id": "e", "error": BUSY}
CALL = {"id": "f", "type": "function_call", "call_id": "c", "name": "w", "arguments": '{"city":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "sun"}
SETTINGS = {
    "type": "session.update",
    "session": {"type": "realtime", "instructions": "Be kind.", "output_modalities": ["audio"]},
}
SESSION = {"type": "session.created", "event_id": "e", "session": {"type": "realtime", "model": MODEL + "-9"}}
AUDIO = {"type": "input_audio_buffer.append", "audio": "AAAA"}
ECHO = {"type": "conversation.item.added", "event_id": "e", "item": {"id": "x", **message("hi")}}

CASES: dict[str, tuple[str, Script, Script, list[dict[str, Any]]]] = {
    "a response": (
        "realtime",
        (*ASK, "response.done"),
        ("response.create", created(), delta("Good "), done()),
        [ONE],
    ),
    "a response of the beta": (
        "beta.realtime",
        (*ASK, "response.done"),
        ("response.create", created(), done()),
        [ONE],
    ),
    "an item that the service repeats": (
        "realtime",
        (*ASK, "response.done"),
        ("conversation.item.create", ECHO, "response.create", created(), done()),
        [ONE],
    ),
    "two responses, one after the other": (
        "realtime",
        (*ASK, "response.done", create_item(message("and?")), CREATE, "response.done"),
        ("response.create", created(), done(), "response.create", created("s"), done("s")),
        [ONE, {**ONE, "gen_ai.response.id": "s", "gen_ai.input.messages": user("and?")}],
    ),
    "two responses at once": (
        "realtime",
        (
            *ASK,
            {"type": "response.create", "response": {"conversation": "none", "input": [message("sort it")]}},
            "response.done",
            "response.done",
        ),
        (
            *("response.create", "response.create", created(), created("s")),
            *(done("s", output=[spoken("odd")]), done()),
        ),
        [
            {
                "gen_ai.response.id": "s",
                "gen_ai.input.messages": user("sort it"),
                "gen_ai.output.messages": assistant("odd", "stop"),
            },
            ONE,
        ],
    ),
    "settings of the session": (
        "realtime",
        (SETTINGS, *ASK, "response.done"),
        ("response.create", created(), done()),
        [
            {
                "gen_ai.system_instructions": '[{"type":"text","content":"Be kind."}]',
                "gen_ai.output.type": "speech",
            }
        ],
    ),
    "a tool": (
        "realtime",
        (*ASK, "response.done", create_item(RESULT), CREATE, "response.done"),
        ("response.create", created(), done(output=[CALL]), "response.create", created("s"), done("s")),
        [
            {
                "gen_ai.response.finish_reasons": ("tool_call",),
                "posthog.tool_calls.count": 1,
                "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"tool_call","name":"w",'
                '"arguments":{"city":"Oslo"},"id":"c"}],"finish_reason":"tool_call"}]',
            },
            {
                "gen_ai.input.messages": '[{"role":"tool","parts":[{"type":"tool_call_response",'
                '"response":"sun","id":"c"}]}]'
            },
        ],
    ),
    "speech that the service detects": (
        "realtime",
        (AUDIO, "response.done"),
        (SESSION, "input_audio_buffer.append", STOPPED, COMMITTED, ADDED, created(), TRANSCRIPT, done()),
        [{**ONE, "gen_ai.request.model": MODEL + "-9", "gen_ai.input.messages": user("What time?")}],
    ),
    "speech without a transcript": (
        "realtime",
        (AUDIO, "response.done"),
        ("input_audio_buffer.append", STOPPED, COMMITTED, ADDED, created(), done(output=[spoken(None)])),
        [
            {
                "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"audio"}]}]',
                "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"audio"}],'
                '"finish_reason":"stop"}]',
            }
        ],
    ),
    "a response that was cut off": (
        "realtime",
        (*ASK, "response.done"),
        (
            "response.create",
            created(),
            done(status="incomplete", status_details={"type": "incomplete", "reason": "max_output_tokens"}),
        ),
        [{"gen_ai.response.finish_reasons": ("length",)}],
    ),
    "an interrupted response": (
        "realtime",
        (*ASK, "response.done"),
        (
            *("response.create", created()),
            done(status="cancelled", status_details={"type": "cancelled", "reason": "turn_detected"}),
        ),
        [{"gen_ai.usage.input_tokens": 132, "error.type": None}],
    ),
    "an error about another message": (
        "realtime",
        (*ASK, "response.done"),
        (
            "response.create",
            {**ERROR, "error": {**BUSY, "param": "session.voice"}},
            created(),
            done(),
        ),
        [ONE],
    ),
    "left": (
        "realtime",
        (*ASK, "response.output_audio_transcript.delta"),
        ("response.create", created(), delta("Good")),
        [{"gen_ai.response.finish_reasons": None, "gen_ai.output.messages": assistant("Good")}],
    ),
    "left before an answer": ("realtime", ASK, ("response.create",), [{"gen_ai.input.messages": user("hi")}]),
    "closed": (
        "realtime",
        (*ASK, "response.done"),
        ("response.create", created(), 1000),
        [{"gen_ai.response.id": "r", "error.type": None}],
    ),
    "a response of Responses": (
        "responses",
        (ASK_RESPONSES, "response.completed"),
        (
            "response.create",
            of_responses("created", status="in_progress"),
            TEXT_DELTA,
            of_responses("completed"),
        ),
        [
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.response.model": "gpt-5.1-2026",
                "gen_ai.response.id": "r",
                "gen_ai.usage.input_tokens": 20,
                "gen_ai.usage.output_tokens": 10,
                "gen_ai.input.messages": user("hi"),
                "gen_ai.output.messages": assistant("hello", "stop"),
                "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
            }
        ],
    ),
    "a response of the beta of Responses": (
        "beta.responses",
        (ASK_RESPONSES, "response.completed"),
        ("response.create", of_responses("completed")),
        [{"gen_ai.response.id": "r", "gen_ai.output.messages": assistant("hello", "stop")}],
    ),
    "streams of Responses": (
        "responses",
        (
            *({**ASK_RESPONSES, "input": words, "stream_id": words} for words in ("a", "b")),
            *("response.completed", "response.completed"),
        ),
        (
            *("response.create", "response.create"),
            of_responses("completed", id="rb") | {"stream_id": "b"},
            of_responses("completed", id="ra") | {"stream_id": "a"},
        ),
        [
            {"gen_ai.input.messages": user("b"), "gen_ai.response.id": "rb"},
            {"gen_ai.input.messages": user("a"), "gen_ai.response.id": "ra"},
        ],
    ),
    "Responses, cut off": (
        "responses",
        (ASK_RESPONSES, "response.incomplete"),
        (
            "response.create",
            of_responses(
                "incomplete", status="incomplete", incomplete_details={"reason": "max_output_tokens"}
            ),
        ),
        [{"gen_ai.response.finish_reasons": ("length",)}],
    ),
    "Responses, left": (
        "responses",
        (ASK_RESPONSES, "response.output_text.delta"),
        ("response.create", of_responses("created", status="in_progress", output=[]), TEXT_DELTA),
        [{"gen_ai.response.model": "gpt-5.1-2026", "gen_ai.output.messages": assistant("hel")}],
    ),
}
FAILURES: dict[str, tuple[str, Script, Script, str]] = {
    "a failed response": (
        "realtime",
        (*ASK, "response.done"),
        (
            *("response.create", created()),
            done(status="failed", status_details={"type": "failed", "error": {"code": "quota"}}),
        ),
        "quota",
    ),
    "an error in place of a response": ("realtime", (*ASK, "error"), ("response.create", ERROR), "busy"),
    "an error that names the message": (
        "realtime",
        (ASK[0], {**CREATE, "event_id": "mine"}, "error"),
        ("response.create", {**ERROR, "error": {**BUSY, "event_id": "mine", "param": "item"}}),
        "busy",
    ),
    "a closure": ("realtime", (*ASK, "response.done"), ("response.create", created(), 1011), "1011"),
    "a failed response of Responses": (
        "responses",
        (ASK_RESPONSES, "response.failed"),
        (
            "response.create",
            of_responses("failed", status="failed", error={"code": "server_error", "message": "no"}),
        ),
        "server_error",
    ),
    "an error of Responses": (
        "responses",
        (ASK_RESPONSES, "error"),
        ("response.create", {"type": "error", "status": 400, "error": {"code": "missing", "message": "no"}}),
        "missing",
    ),
    "a flat error of Responses, within": (
        "responses",
        (ASK_RESPONSES, "error"),
        (
            *("response.create", of_responses("created", status="in_progress")),
            {"type": "error", "code": "overload", "message": "no", "sequence_number": 2},
        ),
        "overload",
    ),
}


def exists(path: str) -> bool:
    client = openai.OpenAI(api_key="k")
    with suppress(AttributeError):
        return hasattr(resource(client, path), "connect")
    return False


def names(cases: dict[str, Any]) -> list[Any]:
    """Return the cases that the installed SDK can run."""
    return [
        pytest.param(
            name, marks=pytest.mark.skipif(not exists(path), reason=f"the SDK has no {path}.connect")
        )
        for name, (path, *_) in cases.items()
    ]


@pytest.mark.parametrize("name", names(CASES))
def test_response_is_one_right_span_and_changes_nothing(
    name: str,
    service: Service,
    address: str,
    use_either: Use,
    recorder: Recorder,
    instrument: Callable[..., None],
) -> None:
    path, steps, service.script, expected = CASES[name]
    baseline = outcome(lambda: use_either(address, path, steps))
    instrument()
    with recorder.tracer.start_as_current_span("caller") as caller:
        assert outcome(lambda: use_either(address, path, steps)) == baseline
    *spans, _ = recorder.spans()
    assert service.played.get(timeout=10) == service.played.get(timeout=10)
    assert len(spans) == len(expected)
    for span, expected_attributes in zip(spans, expected, strict=True):
        span_attributes = attributes(span)
        assert {key: span_attributes.get(key) for key in expected_attributes} == expected_attributes
        assert span.kind is SpanKind.CLIENT
        assert span.status.status_code is StatusCode.UNSET
        assert span.parent is not None
        assert span.parent.span_id == caller.get_span_context().span_id


@pytest.mark.parametrize("name", names(FAILURES))
def test_failure_is_one_failed_span(
    name: str,
    service: Service,
    address: str,
    use_either: Use,
    recorder: Recorder,
    instrument: Callable[..., None],
) -> None:
    path, steps, service.script, kind = FAILURES[name]
    baseline = outcome(lambda: use_either(address, path, steps))
    instrument()
    assert outcome(lambda: use_either(address, path, steps)) == baseline
    (span,) = recorder.spans()
    assert attributes(span)["error.type"] == kind
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["gen_ai.input.messages"] == user("hi")


def seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def test_time_to_first_token_counts_from_the_request(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = ("response.create", 20.0, created(), 30.0, delta("Good "), delta("morning"), done())
    use(address, "realtime", (*ASK, "response.done"))
    (span,) = recorder.spans()
    assert 50 <= attributes(span)["gen_ai.response.time_to_first_chunk"] < 51
    assert attributes(span)["posthog.stream.duration"] < 1


def test_response_to_speech_starts_at_the_end_of_the_speech(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    heard = ("input_audio_buffer.append", STOPPED, SESSION, "input_audio_buffer.append")
    service.script = (*heard, 30.0, created(), delta("Good "), done())
    use(address, "realtime", (AUDIO, "session.created", AUDIO, "response.done"))
    (span,) = recorder.spans()
    assert 30 <= seconds(span) < 31
    assert 30 <= attributes(span)["gen_ai.response.time_to_first_chunk"] < 31


def test_every_way_to_send_and_receive_is_followed(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = ("response.create", done(), "response.create", done("s"), "response.create", done("t"))
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    connection = client.realtime.connect(model=MODEL).enter()
    connection.conversation.item.create(item=message("hi"))  # type: ignore[arg-type]
    connection.response.create()
    assert connection.parse_event(connection.recv_bytes()).type == "response.done"
    if hasattr(connection, "send_raw"):
        connection.send_raw(json.dumps(ASK[0]))
        connection.send_raw(json.dumps(CREATE))
    else:
        connection.send(ASK[0])  # type: ignore[arg-type]
        connection.send(CREATE)  # type: ignore[arg-type]
    assert next(iter(connection)).type == "response.done"
    connection.response.create(response={"input": [message("hi")]})  # type: ignore[arg-type]
    assert connection.recv().type == "response.done"
    connection.close()
    spans = [attributes(span) for span in recorder.spans()]
    assert [span["gen_ai.response.id"] for span in spans] == ["r", "s", "t"]
    assert {span["gen_ai.input.messages"] for span in spans} == {user("hi")}


@pytest.mark.skipif(
    not hasattr(openai.resources.realtime.realtime.RealtimeConnectionManager, "send"),
    reason="the SDK has no queue for messages",
)
def test_message_that_was_queued_before_the_connection_is_followed(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = ("response.create", created(), done())
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    manager = client.realtime.connect(model=MODEL)
    for event in ASK:
        manager.send(event)  # type: ignore[arg-type]
    with manager as connection:
        assert [connection.recv().type, connection.recv().type] == ["response.created", "response.done"]
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.input.messages"] == user("hi")


def test_connection_that_is_let_go_ends_its_call(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = ("response.create", created())
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    connection = client.realtime.connect(model=MODEL).enter()
    connection.send(CREATE)  # type: ignore[arg-type]
    connection.recv()
    socket = connection._connection
    del connection
    gc.collect()
    socket.close()
    (span,) = recorder.spans()
    assert attributes(span)["gen_ai.response.id"] == "r"


def test_message_that_cannot_be_sent_is_an_error(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    service.script = (1011,)

    def use_closed() -> None:
        client = openai.OpenAI(api_key="k", websocket_base_url=address)
        with client.realtime.connect(model=MODEL) as connection:
            with pytest.raises(ConnectionClosed):
                connection.recv()
            connection.send(CREATE)  # type: ignore[arg-type]

    baseline = outcome(use_closed)
    instrument()
    assert outcome(use_closed) == baseline
    (span,) = recorder.spans()
    assert attributes(span)["error.type"].startswith("ConnectionClosed")


@pytest.mark.parametrize("where", ["on_start", "on_end"])
def test_processor_that_raises_does_not_reach_the_user(
    where: str,
    service: Service,
    address: str,
    use_either: Use,
    recorder: Recorder,
    instrument: Callable[..., None],
) -> None:
    path, steps, service.script, _ = CASES["speech that the service detects"]
    baseline = use_either(address, path, steps)
    recorder.provider.add_span_processor(Raising(where))
    instrument()
    assert use_either(address, path, steps) == baseline


@pytest.mark.parametrize("garbage", [[], "text", {"type": 5}, {"type": "response.done", "response": []}])
def test_unreadable_message_is_still_the_users(
    garbage: Any, service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = ("response.create", {"type": "first"}, {"type": "response.done", "response": garbage})
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    with client.realtime.connect(model=MODEL) as connection:
        connection.send(CREATE)  # type: ignore[arg-type]
        raw = [json.loads(connection.recv_bytes()) for _ in range(2)]
    assert raw == list(service.script[1:])
    assert len(recorder.spans()) == 1


def test_context_is_that_of_the_sender(
    service: Service, address: str, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument()
    service.script = (
        "response.create",
        created(),
        done(),
        "input_audio_buffer.append",
        created("s"),
        done("s"),
    )
    client = openai.OpenAI(api_key="k", websocket_base_url=address)
    with client.realtime.connect(model=MODEL) as connection:
        for message_type in (CREATE, AUDIO):
            with ai_context(feature="hotline"):
                connection.send(message_type)  # type: ignore[arg-type]
            connection.recv(), connection.recv()
    spans = recorder.spans()
    assert ["hotline" in attributes(span).values() for span in spans] == [True, True]


def test_content_off_and_suppression_are_obeyed(
    service: Service, address: str, use_either: Use, recorder: Recorder, instrument: Callable[..., None]
) -> None:
    instrument(capture_content=False)
    path, steps, service.script, _ = CASES["a response"]
    use_either(address, path, steps)
    (span,) = recorder.spans()
    assert "Good morning" not in everything(span)
    assert '"hi"' not in everything(span)
    with suppress_instrumentation():
        use_either(address, path, steps)
    OpenAIInstrumentor().uninstrument()
    use_either(address, path, steps)
    assert recorder.spans() == []
