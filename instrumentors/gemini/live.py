"""Live sessions (`client.aio.live`): one span per turn of the model, with the turn's usage.

A turn begins with what the user sends to be answered, or with the model's first word where audio flows all
the time; it ends when the model says so, when it wants a tool, or with the session.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from wrapt import ObjectProxy, register_post_import_hook

from instrumentors.common.call_span import Attributes, Call, logger, read, suppressed
from instrumentors.common.message_parts import text
from instrumentors.gemini import generate_content
from instrumentors.gemini.call import GeminiCall
from instrumentors.gemini.messages import joined, message_of, written
from instrumentors.gemini.payload import get, items

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
_CLOSED = 1000  # the code of a connection that was closed in good order


def instrument(patches: Patches, tracer: Tracer, *, content: bool) -> None:
    """Wrap live sessions, once their module is imported."""
    live = _Live(tracer, content=content)

    def wrap(module: ModuleType) -> None:
        places = (
            ("AsyncLive", "connect", live.connect),
            ("AsyncSession", "_receive", live.receive),
            *(("AsyncSession", name, live.send) for name in _SENDING),
        )
        for owner_name, name, wrapper in places if patches.active else ():
            owner = getattr(module, owner_name, None)
            if hasattr(owner, name):
                patches.wrap(owner, name, wrapper)
            else:
                logger.debug("google-genai has no %s.%s", owner_name, name)

    register_post_import_hook(wrap, "google.genai.live")


class _Live:
    """Knows the open sessions."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.sessions: WeakKeyDictionary[Any, _Turns] = WeakKeyDictionary()

    def connect(self, wrapped: Callable[..., Any], live: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        connecting = wrapped(*args, **kwargs)
        if suppressed():
            return connecting
        facts = read(_session_facts, live._api_client, kwargs.get("model"), kwargs.get("config"))
        facts.setdefault("gen_ai.operation.name", OPERATION)
        return _Connecting(connecting, self, facts)

    async def send(
        self, wrapped: Callable[..., Any], session: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        turns = self.sessions.get(session)
        opened = turns is not None and turns.asked(args, kwargs)
        try:
            return await wrapped(*args, **kwargs)
        except Exception as error:
            # A turn that is open goes on where the SDK refuses what is added to it.
            if turns is not None and (opened or not isinstance(error, (TypeError, ValueError))):
                turns.failed(error)
            raise

    async def receive(
        self, wrapped: Callable[..., Any], session: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        turns = self.sessions.get(session)
        try:
            message = await wrapped(*args, **kwargs)
        except BaseException as error:
            # A reader that was called off may read on later.
            if turns is not None and isinstance(error, Exception):
                turns.failed(error)
            raise
        if turns is not None:
            turns.told(message)
        return message


class _Connecting(ObjectProxy[Any]):
    """The session's context manager: it names the session's model, and ends its last turn."""

    def __init__(self, wrapped: Any, live: _Live, facts: Attributes) -> None:
        super().__init__(wrapped)
        self._self_live, self._self_facts = live, facts
        self._self_turns: _Turns | None = None

    async def __aenter__(self) -> Any:
        session = await self.__wrapped__.__aenter__()
        live = self._self_live
        with contextlib.suppress(TypeError):
            self._self_turns = live.sessions[session] = _Turns(live, self._self_facts)
        return session

    async def __aexit__(self, *error: object) -> Any:
        if self._self_turns is not None:
            self._self_turns.left()
        return await self.__wrapped__.__aexit__(*error)


class _Turns:
    """The turns of one session, of which one at most is open."""

    def __init__(self, live: _Live, facts: Attributes) -> None:
        self._live, self._facts = live, facts
        self._call: GeminiCall | None = None
        self._messages: list[Any] = []

    def asked(self, args: Args, kwargs: dict[str, Any]) -> bool:
        """Open a turn with what the user sends, unless one is open; say whether it was opened."""
        if self._call is not None or suppressed():
            return False
        try:
            self._open({**self._facts, **read(_asked_facts, args, kwargs, self._live.content)})
        except Exception as error:  # noqa: BLE001 - a sampler's or a processor's; no span then
            logger.debug("otel-posthog could not follow a turn: %s", type(error).__name__)
        return self._call is not None

    def told(self, message: Any) -> None:
        """Take a message; end the turn if it says so."""
        try:
            said = getattr(message, "server_content", None)
            wanted = getattr(message, "tool_call", None)
            if self._call is None:
                if suppressed() or not (wanted or getattr(said, "model_turn", None)):
                    return
                self._open(self._facts)
            call = cast("GeminiCall", self._call)
            call.chunk()
            if call.recording:
                self._messages.append(message)
            if wanted or getattr(said, "turn_complete", None):
                self._end("tool_call" if wanted else "stop")
        except Exception as error:  # noqa: BLE001 - an unreadable message is still the user's
            logger.debug("otel-posthog could not read a message: %s", type(error).__name__)

    def failed(self, error: Exception) -> None:
        """End the turn with the connection's error."""
        if getattr(error, "code", None) == _CLOSED:
            self.left()
        elif self._call is not None:
            call, facts = self._take(None)
            call.fail(error, facts)

    def left(self) -> None:
        """End the turn: nobody listens any more."""
        if self._call is not None:
            self._end(None)

    def _open(self, facts: Attributes) -> None:
        call: Call = GeminiCall.open(self._live.tracer, facts, content=self._live.content)
        self._call = cast("GeminiCall", call)

    def _end(self, reason: str | None) -> None:
        call, facts = self._take(reason)
        call.finish(facts)

    def _take(self, reason: str | None) -> tuple[GeminiCall, Attributes]:
        call, self._call = cast("GeminiCall", self._call), None
        messages, self._messages = self._messages, []
        return call, read(_turn_facts, messages, reason, call.content)

    def __del__(self) -> None:
        # At interpreter exit anything may be gone already.
        with contextlib.suppress(Exception):
            self.left()


def _plain(value: Any) -> Any:
    """Give an object of the SDK's as JSON would have it."""
    return value.model_dump(exclude_none=True, mode="json") if hasattr(value, "model_dump") else value


def _session_facts(client: Any, model: Any, config: Any) -> Attributes:
    given = {
        name: _plain(config.get(name) if isinstance(config, dict) else getattr(config, name, None))
        for name in _CONFIG
    }
    name = str(model).rpartition("/")[2]
    found = generate_content.ENDPOINTS["generateContent"].request({"generationConfig": given}, name, False)
    address = urlsplit(str(client._http_options.base_url or ""))
    return {
        **{key: value for key, value in found.items() if not key.startswith("posthog.")},
        "posthog.thinking.level": found.get("posthog.thinking.level"),
        "posthog.thinking.budget": found.get("posthog.thinking.budget"),
        "gen_ai.operation.name": OPERATION,
        "gen_ai.request.model": name,
        "gen_ai.request.stream": True,
        "gen_ai.provider.name": "gcp.vertex_ai" if client.vertexai else "gcp.gemini",
        "server.address": address.hostname,
        "server.port": address.port or 443,
    }


def _asked_facts(args: Args, kwargs: dict[str, Any], content: bool) -> Attributes:
    """Read what was sent: text, contents, or results of tools."""
    given = next((kwargs[name] for name in ("turns", "input", "function_responses") if name in kwargs), None)
    given = args[0] if given is None and args else given
    contents = [_plain(one) for one in (given if isinstance(given, (list, tuple)) else [given])]
    request = {"contents": [_content(one) for one in contents if one is not None]}
    found = generate_content.ENDPOINTS["generateContent"].request(request, "", content)
    return {name: value for name, value in found.items() if value is not None}


def _content(given: Any) -> Any:
    if isinstance(given, str):
        return {"role": "user", "parts": [{"text": given}]}
    if get(given, "response") is not None:
        return {"role": "user", "parts": [{"functionResponse": given}]}
    return given


def _turn_facts(messages: list[Any], reason: str | None, content: bool) -> Attributes:
    usage: dict[str, Any] = {}
    spoken, parts = "", []
    calls = 0
    for message in messages:
        usage.update(_plain(message.usage_metadata) or {})
        calls += len(items(getattr(message.tool_call, "function_calls", None)))
        said = message.server_content
        if content and said is not None:
            spoken += getattr(getattr(said, "output_transcription", None), "text", None) or ""
            # Audio is no message to keep; its transcription is.
            given = getattr(said.model_turn, "parts", None) or []
            parts += [_plain(part) for part in given if part.inline_data is None]
        if content:
            wanted = items(getattr(message.tool_call, "function_calls", None))
            parts += [{"functionCall": _plain(call)} for call in wanted]
    facts = {
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "posthog.tool_calls.count": calls or None,
        **generate_content.usage_facts(usage),
    }
    if content:
        said = message_of({"parts": joined(parts)})["parts"] + ([text(spoken)] if spoken else [])
        finish = {"finish_reason": reason} if reason else {}
        if said:
            facts["gen_ai.output.messages"] = written([{"role": "assistant", "parts": said} | finish])
    return facts
