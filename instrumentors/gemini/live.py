"""Live sessions (`client.aio.live`): one span per turn of the model, with the turn's usage.

A turn begins when the application sends something, or with the model's first word if audio flows all the
time. It ends when the model completes it or calls a tool, or with the session.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from wrapt import ObjectProxy, register_post_import_hook

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, CallSpan, is_suppressed, logger, read_safely
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
        turns = self.turns.get(session)
        opened = turns is not None and turns.begin(args, kwargs)
        try:
            return await wrapped(*args, **kwargs)
        except Exception as error:
            # If the SDK rejects an addition to an open turn, the turn goes on.
            if turns is not None and (opened or not isinstance(error, (TypeError, ValueError))):
                turns.fail(error)
            raise

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
    """The turns of one session; at most one of them is open."""

    def __init__(self, sessions: _Sessions, attributes: Attributes) -> None:
        self._tracer, self._content = sessions.tracer, sessions.content
        self._attributes = attributes
        self._call: GeminiCallSpan | None = None
        self._messages: list[Any] = []

    def begin(self, args: Args, kwargs: dict[str, Any]) -> bool:
        """Open a turn for what the application sends, unless one is open; return whether it was opened."""
        if self._call is not None or is_suppressed():
            return False
        try:
            self._open({**self._attributes, **read_safely(_input_attributes, args, kwargs, self._content)})
        except Exception as error:  # noqa: BLE001 - a sampler's or a processor's; no span then
            logger.debug("otel-posthog could not follow a turn: %s", type(error).__name__)
        return self._call is not None

    def receive(self, message: Any) -> None:
        """Add a message of the model's; the last one of a turn ends it."""
        try:
            content = getattr(message, "server_content", None)
            tool_call = getattr(message, "tool_call", None)
            if self._call is None:
                if is_suppressed() or not (tool_call or getattr(content, "model_turn", None)):
                    return
                self._open(self._attributes)
            call = cast("GeminiCallSpan", self._call)
            call.note_chunk()
            if call.recording:
                self._messages.append(message)
            if tool_call or getattr(content, "turn_complete", None):
                self._end("tool_call" if tool_call else "stop")
        except Exception as error:  # noqa: BLE001 - an unreadable message is still the user's
            logger.debug("otel-posthog could not read a message: %s", type(error).__name__)

    def fail(self, error: Exception) -> None:
        """End the turn with the connection's error."""
        if getattr(error, "code", None) == _NORMAL_CLOSURE:
            self.abandon()
        elif self._call is not None:
            call, attributes = self._release_call(None)
            call.fail(error, attributes)

    def abandon(self) -> None:
        """End the turn: the application left the session."""
        if self._call is not None:
            self._end(None)

    def _open(self, attributes: Attributes) -> None:
        call: CallSpan = GeminiCallSpan.open(self._tracer, attributes, content=self._content)
        self._call = cast("GeminiCallSpan", call)

    def _end(self, reason: str | None) -> None:
        call, attributes = self._release_call(reason)
        call.end(attributes)

    def _release_call(self, reason: str | None) -> tuple[GeminiCallSpan, Attributes]:
        call, self._call = cast("GeminiCallSpan", self._call), None
        messages, self._messages = self._messages, []
        return call, read_safely(_turn_attributes, messages, reason, call.content)

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.abandon()


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


def _input_attributes(args: Args, kwargs: dict[str, Any], content: bool) -> Attributes:
    """Return the attributes of what was sent: text, contents, or results of tools."""
    sent = next((kwargs[name] for name in ("turns", "input", "function_responses") if name in kwargs), None)
    sent = args[0] if sent is None and args else sent
    contents = [_to_json(one) for one in (sent if isinstance(sent, (list, tuple)) else [sent])]
    request = {"contents": [_to_content(one) for one in contents if one is not None]}
    return without_none(generate_content.request_attributes(request, "", content))


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
            transcript += getattr(getattr(answer, "output_transcription", None), "text", None) or ""
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
