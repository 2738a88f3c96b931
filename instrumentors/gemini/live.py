"""Live sessions (`client.aio.live`): one span per turn of the model, with the turn's usage.

A turn begins when the application's input ends: with a message, a text, or the end of an activity that it
sends. If audio flows all the time, the last piece that the service heard marks that moment, and the span is
opened at the model's first word. It ends when the model completes it or calls a tool, or with the session.
"""

from __future__ import annotations

import contextlib
import time
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from wrapt import ObjectProxy, register_post_import_hook

from instrumentors.common import attributes as names
from instrumentors.common.call_span import (
    Attributes,
    CallSpan,
    is_suppressed,
    logger,
    read_pieces,
    read_safely,
)
from instrumentors.common.message_parts import text
from instrumentors.gemini import generate_content
from instrumentors.gemini.call import GeminiCallSpan
from instrumentors.gemini.messages import dump_messages, join_text, to_message
from instrumentors.gemini.payload import get, get_list, without_none

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

Args = tuple[Any, ...]

OPERATION = "realtime_inference"
_SENDING = ("send", "send_client_content", "send_tool_response")
_INPUT_ENDS = ("text", "activity_end")
"""The realtime input that is always followed by an answer; the end of an audio stream need not be."""
_ANSWERS = ("model_turn", "output_transcription")
_REALTIME = ("media_chunks", "mime_type", "text", "activity_end", "audio_stream_end")
_CONFIG = (
    "temperature",
    "top_p",
    "top_k",
    "max_output_tokens",
    "seed",
    "response_modalities",
    "thinking_config",
)
_NORMAL_CLOSURE = 1000  # of the WebSocket protocol


def instrument(patches: Patches, tracer: Tracer, *, content: bool) -> None:
    """Wrap live sessions, once their module is imported."""
    sessions = _Sessions(tracer, content=content)

    def wrap(module: ModuleType) -> None:
        wrappers = (
            ("AsyncLive", "connect", sessions.connect),
            ("AsyncSession", "_receive", sessions.receive),
            *(("AsyncSession", name, sessions.send) for name in _SENDING),
            ("AsyncSession", "send_realtime_input", sessions.send_realtime),
        )
        for owner_name, name, wrapper in wrappers if patches.active else ():
            owner = getattr(module, owner_name, None)
            if hasattr(owner, name):
                patches.wrap(owner, name, wrapper)
            else:
                logger.debug("google-genai has no %s.%s", owner_name, name)

    register_post_import_hook(wrap, "google.genai.live")


class _Sessions:
    """The open sessions, and the wrappers around their methods."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.turns: WeakKeyDictionary[Any, _Turns] = WeakKeyDictionary()

    def connect(self, wrapped: Callable[..., Any], live: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        connecting = wrapped(*args, **kwargs)
        if is_suppressed():
            return connecting
        model, config = kwargs.get("model"), kwargs.get("config")
        attributes = read_safely(_session_attributes, live._api_client, model, config)
        attributes.setdefault("gen_ai.operation.name", OPERATION)
        return _Connecting(connecting, self, attributes)

    async def send(
        self, wrapped: Callable[..., Any], session: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        turns, contents = self.turns.get(session), _sent_contents(args, kwargs)
        realtime = _realtime_fields(contents)
        opened = turns is not None and (turns.note_realtime(realtime) if realtime else turns.begin(contents))
        return await _send(wrapped, turns, opened, args, kwargs)

    async def send_realtime(
        self, wrapped: Callable[..., Any], session: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        turns = self.turns.get(session)
        opened = turns is not None and turns.note_realtime(kwargs)
        return await _send(wrapped, turns, opened, args, kwargs)

    async def receive(
        self, wrapped: Callable[..., Any], session: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        turns = self.turns.get(session)
        try:
            message = await wrapped(*args, **kwargs)
        except BaseException as error:
            # A reader that was cancelled may read on later.
            if turns is not None and isinstance(error, Exception):
                turns.fail(error)
            raise
        if turns is not None:
            turns.receive(message)
        return message


async def _send(
    wrapped: Callable[..., Any], turns: _Turns | None, opened: bool, args: Args, kwargs: dict[str, Any]
) -> Any:
    try:
        return await wrapped(*args, **kwargs)
    except Exception as error:
        # If the SDK rejects an addition to an open turn, the turn goes on.
        if turns is not None and (opened or not isinstance(error, (TypeError, ValueError))):
            turns.fail(error)
        raise


class _Connecting(ObjectProxy[Any]):
    """A session's context manager: it registers the session, and ends its last turn."""

    def __init__(self, wrapped: Any, sessions: _Sessions, attributes: Attributes) -> None:
        super().__init__(wrapped)
        self._self_sessions, self._self_attributes = sessions, attributes
        self._self_turns: _Turns | None = None

    async def __aenter__(self) -> Any:
        session = await self.__wrapped__.__aenter__()
        sessions = self._self_sessions
        with contextlib.suppress(TypeError):
            self._self_turns = sessions.turns[session] = _Turns(sessions, self._self_attributes)
        return session

    async def __aexit__(self, *error: object) -> Any:
        if self._self_turns is not None:
            self._self_turns.abandon()
        return await self.__wrapped__.__aexit__(*error)


class _Turns:
    """The turns of one session; at most one of them is open, and one waits for its usage."""

    def __init__(self, sessions: _Sessions, attributes: Attributes) -> None:
        self._tracer, self._content = sessions.tracer, sessions.content
        self._attributes = attributes
        self._turn: _Turn | None = None
        self._complete: _Turn | None = None
        """A turn that the model completed without its usage, which the service may send afterwards."""
        self._sent: list[Any] = []
        """The contents of the next turn."""
        self._messages: list[Any] = []
        """The messages of the next turn that came before its first word."""
        self._input_ended: float | None = None
        self._sender: Context | None = None
        """The context in which the application sent its realtime input last."""

    def begin(self, contents: list[Any]) -> bool:
        """Open a turn for what the application sends, unless one is open; return whether it was opened."""
        if self._turn is not None or is_suppressed():
            return False
        try:
            self._open(contents)
        except Exception as error:  # noqa: BLE001 - a sampler's or a processor's; no span then
            logger.debug("otel-posthog could not follow a turn: %s", type(error).__name__)
        return self._turn is not None

    def note_realtime(self, given: dict[str, Any]) -> bool:
        """Note realtime input; return whether it opened a turn, as a text and the end of an activity do."""
        if is_suppressed():
            return False
        self._sender = copy_context()
        written = given.get("text")
        contents = [_to_content(written)] if isinstance(written, str) else []
        ends = any(given.get(name) is not None for name in _INPUT_ENDS)
        if ends and self._turn is None:
            return self.begin(contents)
        if self._turn is not None and not self._turn.answered:
            self._turn.added += contents
            return False
        # What is sent during an answer interrupts it, and begins the next turn.
        self._sent += contents
        if ends or given.get("audio_stream_end"):
            self._input_ended = time.perf_counter()
        return False

    def receive(self, message: Any) -> None:
        """Add a message of the model's; the last one of a turn ends it."""
        try:
            self._add(message)
        except Exception as error:  # noqa: BLE001 - an unreadable message is still the user's
            logger.debug("otel-posthog could not read a message: %s", type(error).__name__)

    def _add(self, message: Any) -> None:
        content, tool_call = message.server_content, message.tool_call
        if self._complete is not None:
            if content is None and tool_call is None and message.usage_metadata is not None:
                self._complete.messages.append(message)
                self._end_complete()
                return
            self._end_complete()
        answers = any(
            (tool_call, _get_field(content, "model_turn"), _get_field(content, "output_transcription"))
        )
        if self._turn is None and not (answers and not is_suppressed()):
            self._note_before_turn(message)
            return
        if self._turn is None:
            (self._sender or copy_context()).run(self._open, [], self._input_ended)
        turn = cast("_Turn", self._turn)
        if answers:
            turn.answered = True
            turn.call.note_chunk()
        if turn.call.recording:
            turn.messages.append(message)
        if tool_call:
            self._end("tool_call")
        elif _get_field(content, "turn_complete"):
            if turn.call.recording and message.usage_metadata is None:
                turn.call.note_last_chunk()
                self._turn, self._complete = None, turn
            else:
                self._end("stop")

    def _note_before_turn(self, message: Any) -> None:
        """Keep the words that the service heard before the model's first one, and note when it heard them."""
        heard = _get_field(message.server_content, "input_transcription")
        if heard:
            self._messages.append(message)
        if heard or _get_field(message, "voice_activity", "voice_activity_type") == "ACTIVITY_END":
            self._input_ended = time.perf_counter()

    def fail(self, error: Exception) -> None:
        """End the turn with the connection's error."""
        if getattr(error, "code", None) == _NORMAL_CLOSURE:
            self.abandon()
            return
        self._end_complete()
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.call.fail(error, turn.attributes(None))

    def abandon(self) -> None:
        """End the turn: the application left the session."""
        self._end_complete()
        self._end(None)

    def _open(self, contents: list[Any], started: float | None = None) -> None:
        contents = [*self._sent, *contents]
        messages, self._messages, self._sent, self._input_ended = self._messages, [], [], None
        attributes = self._attributes
        if contents:
            attributes = {**attributes, **read_safely(_input_attributes, contents, self._content)}
        call: CallSpan = GeminiCallSpan.open(self._tracer, attributes, content=self._content, started=started)
        self._turn = _Turn(cast("GeminiCallSpan", call), contents, messages)

    def _end(self, reason: str | None) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.call.end(turn.attributes(reason))

    def _end_complete(self) -> None:
        turn, self._complete = self._complete, None
        if turn is not None:
            turn.call.end(turn.attributes("stop"))

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.abandon()


@dataclass
class _Turn:
    """One turn: its span, the contents that it answers, and the service's messages."""

    call: GeminiCallSpan
    sent: list[Any]
    messages: list[Any]
    added: list[Any] = field(default_factory=list)
    """Contents that were sent after the span was opened, and before the first word."""
    answered: bool = False

    def attributes(self, reason: str | None) -> Attributes:
        """Return the attributes of the turn's messages; `reason` is why it ended."""
        content = self.call.content
        heard = "".join(read_pieces(_heard_words, self.messages))
        later = [*self.added, heard] if heard else self.added
        return {
            **(read_safely(_input_attributes, [*self.sent, *later], content) if later else {}),
            **read_safely(_turn_attributes, self.messages, reason, content),
        }


def _get_field(value: Any, *path: str) -> Any:
    """Return a field of the SDK's objects; None if it, or one before it, is missing."""
    for name in path:
        value = getattr(value, name, None)
    return value


def _to_json(value: Any) -> Any:
    """Return an object of the SDK's as JSON."""
    return value.model_dump(exclude_none=True, mode="json") if hasattr(value, "model_dump") else value


def _session_attributes(client: Any, model: Any, config: Any) -> Attributes:
    """Return the attributes of every turn: the session's model and parameters, and the service."""
    settings = {
        name: _to_json(config.get(name) if isinstance(config, dict) else getattr(config, name, None))
        for name in _CONFIG
    }
    name = str(model).rpartition("/")[2]
    attributes = generate_content.request_attributes({"generationConfig": settings}, name, False)
    address = urlsplit(str(client._http_options.base_url or ""))
    return {
        **{key: value for key, value in attributes.items() if not key.startswith("posthog.")},
        names.THINKING_LEVEL: attributes.get(names.THINKING_LEVEL),
        names.THINKING_BUDGET: attributes.get(names.THINKING_BUDGET),
        "gen_ai.operation.name": OPERATION,
        "gen_ai.request.model": name,
        "gen_ai.request.stream": True,
        "gen_ai.provider.name": "gcp.vertex_ai" if client.vertexai else "gcp.gemini",
        "server.address": address.hostname,
        "server.port": address.port or 443,
    }


def _sent_contents(args: Args, kwargs: dict[str, Any]) -> list[Any]:
    """Return what was sent: text, contents, or results of tools."""
    sent = next((kwargs[name] for name in ("turns", "input", "function_responses") if name in kwargs), None)
    sent = args[0] if sent is None and args else sent
    return list(sent) if isinstance(sent, (list, tuple)) else [sent]


def _realtime_fields(contents: list[Any]) -> dict[str, Any]:
    """Return the fields of realtime input, which the SDK's older method `send` takes as well."""
    piece = contents[0] if len(contents) == 1 else None
    fields = piece if isinstance(piece, dict) else getattr(piece, "__dict__", {})
    given = {name: value for name in _REALTIME if (value := fields.get(name)) is not None}
    return given if "media_chunks" in fields or "mime_type" in fields else {}


def _input_attributes(contents: list[Any], content: bool) -> Attributes:
    """Return the attributes of contents as the turn's input."""
    sent = [_to_json(one) for one in contents if one is not None]
    request = {"contents": [_to_content(one) for one in sent]}
    return without_none(generate_content.request_attributes(request, "", content))


def _heard_words(message: Any) -> str | None:
    return _get_field(message.server_content, "input_transcription", "text") or None


def _to_content(sent: Any) -> Any:
    if isinstance(sent, str):
        return {"role": "user", "parts": [{"text": sent}]}
    if get(sent, "response") is not None:
        return {"role": "user", "parts": [{"functionResponse": sent}]}
    return sent


def _turn_attributes(messages: list[Any], reason: str | None, content: bool) -> Attributes:
    """Return the attributes of a turn's messages, added up."""
    usage: dict[str, Any] = {}
    transcript, parts = "", []
    call_count = 0
    for message in messages:
        usage.update(_to_json(message.usage_metadata) or {})
        tool_calls = get_list(getattr(message.tool_call, "function_calls", None))
        call_count += len(tool_calls)
        if not content:
            continue
        if (answer := message.server_content) is not None:
            transcript += _get_field(answer, "output_transcription", "text") or ""
            # Audio is not kept; its transcript is.
            answer_parts = getattr(answer.model_turn, "parts", None) or []
            parts += [_to_json(part) for part in answer_parts if part.inline_data is None]
        parts += [{"functionCall": _to_json(call)} for call in tool_calls]
    attributes = {
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        names.TOOL_CALL_COUNT: call_count or None,
        **generate_content.usage_attributes(usage),
    }
    if content:
        output = to_message({"parts": join_text(parts)})["parts"] + ([text(transcript)] if transcript else [])
        finish = {"finish_reason": reason} if reason else {}
        if output:
            attributes["gen_ai.output.messages"] = dump_messages(
                [{"role": "assistant", "parts": output} | finish]
            )
    return attributes
