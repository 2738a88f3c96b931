"""What the Interactions API says: its requests, its responses and the events of its streams.

An interaction is a list of steps (`steps`, formerly `outputs`): thoughts, calls of tools and their results,
and contents of the model. Streams tell of each step by a start, deltas and a stop (formerly `content.*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common.call_span import Attributes, logger
from instrumentors.common.message_parts import Part, dumps, text, tool_call, tool_result, uri
from instrumentors.gemini.messages import asked, media, pictures, written
from instrumentors.gemini.payload import by_modality, items, known, loads, number, total

OPERATION = "generate_content"
_AGENT = "invoke_agent"

_FINISH = {
    "completed": "stop",
    "requires_action": "tool_call",
    "incomplete": "length",
    "budget_exceeded": "length",
    "requires_continuation": "length",
    "failed": "error",
    "cancelled": "error",
}
_PARAMETERS = (
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("max_output_tokens", "gen_ai.request.max_tokens"),
    ("seed", "gen_ai.request.seed"),
    ("stop_sequences", "gen_ai.request.stop_sequences"),
    ("thinking_level", "gen_ai.request.reasoning.level"),
    ("thinking_level", "posthog.thinking.level"),
)
_DETAILS = (
    ("input_tokens_by_modality", "input_tokens"),
    ("tool_use_tokens_by_modality", "input_tokens"),
    ("output_tokens_by_modality", "output_tokens"),
    ("cached_tokens_by_modality", "cache_read.input_tokens"),
)
_MEDIA = frozenset({"image", "audio", "video", "document"})
_ROLES = {
    "model": "assistant",
    "model_output": "assistant",
    "thought": "assistant",
    "function_result": "tool",
}
_OUTPUT_TYPES = {"audio": "speech"}


def is_vertex(host: str, path: str) -> bool:
    """Say whether an address is Vertex AI's."""
    return "aiplatform" in host or "/projects/" in path


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _list(value: Any) -> list[Any]:
    return items(value) or ([value] if isinstance(value, Mapping) else [])


# --- contents and steps -------------------------------------------------------------------------------------


def _parts(step: Any) -> list[Part]:
    """Read a step, or a content within one."""
    kind = str(_at(step, "type"))
    if kind == "text":
        return [text(_at(step, "text"))]
    if kind in _MEDIA:
        return [_medium(step, kind)]
    if kind in {"user_input", "model_output"}:
        return _contents(_at(step, "content"))
    if kind == "thought":
        words = "".join(str(_at(one, "text") or "") for one in _list(_at(step, "summary")))
        return [{"type": "reasoning", "content": words}] if words else []
    if kind == "function_call":
        return [tool_call(_at(step, "name"), _at(step, "arguments"), _at(step, "id"))]
    if kind == "function_result":
        return [tool_result(_at(step, "result"), _at(step, "call_id"), _at(step, "name"))]
    name, _, end = kind.rpartition("_")
    if end == "call":
        detail = {"type": name, "arguments": _at(step, "arguments")}
        called = _at(step, "name") or name
        return [
            {"type": "server_tool_call", "id": _at(step, "id"), "name": called, "server_tool_call": detail}
        ]
    if end == "result":
        detail = {"type": name, "result": _at(step, "result")}
        identifier = _at(step, "call_id")
        return [{"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": detail}]
    return [{"type": kind}]


def _medium(content: Any, kind: str) -> Part:
    mime_type = str(_at(content, "mime_type") or f"{kind}/*")
    if data := _at(content, "data"):
        return media(mime_type, data)
    return uri(_at(content, "uri"), kind, mime_type)


def _contents(value: Any) -> list[Part]:
    if isinstance(value, str):
        return [text(value)]
    return [part for content in _list(value) for part in _parts(content)]


def _messages(value: Any) -> list[Part]:
    """Read an input: a text, contents, steps or turns; what stands together under one role is one message."""
    messages: list[Part] = []
    for one in [value] if isinstance(value, str) else _list(value):
        kind = str(_at(one, "type"))
        if isinstance(one, str):
            role, parts = "user", [text(one)]
        elif turn := _at(one, "role"):
            role, parts = _ROLES.get(turn, str(turn)), _contents(_at(one, "content"))
        else:
            tool_made = kind != "function_result" and kind.endswith(("_call", "_result"))
            role, parts = _ROLES.get(kind, "assistant" if tool_made else "user"), _parts(one)
        if messages and messages[-1]["role"] == role and not _at(one, "role"):
            messages[-1]["parts"] += parts
        else:
            messages.append({"role": role, "parts": parts})
    return messages


# --- requests -----------------------------------------------------------------------------------------------


def request_facts(body: Mapping[str, Any], content: bool) -> Attributes:
    """Read a request."""
    config = _at(body, "generation_config")
    agent = _at(body, "agent")
    messages = _messages(_at(body, "input"))
    system = _at(body, "system_instruction")
    facts: Attributes = {
        "gen_ai.operation.name": _AGENT if agent else OPERATION,
        "gen_ai.request.model": str(_at(body, "model") or "").rpartition("/")[2] or None,
        "gen_ai.agent.name": agent,
        "gen_ai.request.stream": True if _at(body, "stream") else None,
        "gen_ai.request.previous_response.id": _at(body, "previous_interaction_id"),
        "posthog.request.service_tier": _at(body, "service_tier"),
        "posthog.cached_content": True if _at(body, "cached_content") else None,
        **{attribute: _at(config, name) for name, attribute in _PARAMETERS},
        **_wanted(body, config),
        **_tools(_list(_at(body, "tools")), content),
        **asked(messages, content, _contents(system) if system else None),
    }
    if facts["gen_ai.output.type"] == "image":
        facts["posthog.image.reference_count"] = pictures(messages)
    return facts


def _wanted(body: Any, config: Any) -> Attributes:
    """Say what form the output is to have."""
    formats = _list(_at(body, "response_format"))
    image = next((one for one in formats if _at(one, "type") == "image"), _at(config, "image_config"))
    mime_types = [_at(body, "response_mime_type"), *(_at(one, "mime_type") for one in formats)]
    kinds = [str(one).lower() for one in items(_at(body, "response_modalities"))]
    kinds += [str(_at(one, "type")) for one in formats]
    kind: str | None = next((one for one in ("image", "audio", "video") if one in kinds), None)
    if kind is None and any(str(mime_type).endswith("json") for mime_type in mime_types):
        kind = "json"
    if kind is None and not kinds and "-image" in str(_at(body, "model")):
        kind = "image"
    if kind is None and "text" in kinds:
        kind = "text"
    return {
        "gen_ai.output.type": _OUTPUT_TYPES.get(str(kind), kind),
        "posthog.image.aspect_ratio": _at(image, "aspect_ratio"),
        "posthog.image.size": _at(image, "image_size"),
    }


def _tools(tools: list[Any], content: bool) -> Attributes:
    kinds = [str(_at(tool, "type")) for tool in tools]
    definitions = [
        {name: value for name, value in tool.items() if name in {"type", "name", "description", "parameters"}}
        | ({} if kind == "function" else {"name": _at(tool, "name") or kind})
        for tool, kind in zip(tools, kinds, strict=True)
    ]
    return {
        "posthog.tools.count": len(tools) or None,
        "posthog.web_search.enabled": True if "google_search" in kinds else None,
        "posthog.url_context.enabled": True if "url_context" in kinds else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


# --- responses ----------------------------------------------------------------------------------------------


def error_facts(body: Any, status: int) -> Attributes:
    """Read an answer that is an HTTP error."""
    error = _at(_list(body)[0] if _list(body) else None, "error")
    return {
        "error.type": str(status),
        "posthog.http.status": status,
        "error.message": str(_at(error, "message") or "") or None,
    }


def _failure(error: Any, otherwise: str) -> Attributes:
    """Read an error that the service tells of within an answer."""
    code = str(_at(error, "code") or otherwise)
    return {
        "error.type": code,
        "posthog.http.status": number(code),
        "error.message": str(_at(error, "message") or code),
    }


def _usage(usage: Any) -> Attributes:
    """Read token counts: thoughts are output, and what tools put into the prompt is input."""
    searches = [
        _at(one, "count")
        for one in items(_at(usage, "grounding_tool_count"))
        if _at(one, "type") == "google_search"
    ]
    return {
        "gen_ai.usage.input_tokens": total(
            _at(usage, "total_input_tokens"), _at(usage, "total_tool_use_tokens")
        ),
        "gen_ai.usage.output_tokens": total(
            _at(usage, "total_output_tokens"), _at(usage, "total_thought_tokens")
        ),
        "gen_ai.usage.cache_read.input_tokens": number(_at(usage, "total_cached_tokens")),
        "gen_ai.usage.reasoning.output_tokens": number(_at(usage, "total_thought_tokens")),
        "posthog.web_search.count": total(*searches),
        **by_modality(usage, _DETAILS, "tokens"),
    }


def response_facts(interaction: Any, content: bool) -> Attributes:
    """Read an interaction."""
    steps = items(_at(interaction, "steps")) or items(_at(interaction, "outputs"))
    # Steps of the user's are an echo of the request.
    steps = [step for step in steps if _at(step, "type") not in {"user_input", "function_result"}]
    kinds = [str(_at(step, "type")) for step in steps]
    parts = [part for step in steps for part in _parts(step)]
    reason = _FINISH.get(str(_at(interaction, "status")))
    queries = [
        query
        for step in steps
        if _at(step, "type") == "google_search_call"
        for query in items(_at(step, "arguments", "queries"))
    ]
    usage = _usage(_at(interaction, "usage"))
    facts: Attributes = {
        "gen_ai.response.model": _at(interaction, "model"),
        "gen_ai.response.id": _at(interaction, "id") or None,
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "posthog.response.service_tier": _at(interaction, "service_tier"),
        "posthog.tool_calls.count": kinds.count("function_call") or None,
        "posthog.image.count": sum(part.get("modality") == "image" for part in parts) or None,
        "posthog.web_search.used": True if any(kind.startswith("google_search") for kind in kinds) else None,
        "posthog.url_context.used": True if any(kind.startswith("url_context") for kind in kinds) else None,
        **usage,
    }
    if facts["posthog.web_search.count"] is None:
        facts["posthog.web_search.count"] = len(queries) or None
    if _at(interaction, "status") == "failed":
        errors = items(_at(interaction, "errors")) or [_at(step, "error") for step in steps]
        facts.update(_failure(next(filter(None, errors), None), "failed"))
    if content and parts:
        message = {"role": "assistant", "parts": parts} | ({"finish_reason": reason} if reason else {})
        facts["gen_ai.output.messages"] = written([message])
    return facts


# --- streams ------------------------------------------------------------------------------------------------


def stream_facts(body: bytes, content: bool, *, complete: bool) -> Attributes:
    """Read the bytes of a stream of events, or of one response."""
    if body[:1] == b"{":
        return response_facts(loads(body), content) if complete else {}
    told = _Told()
    for event in events(body):
        told.take(event)
    return told.facts(content)


def events(body: bytes) -> list[Any]:
    """Give the data of server-sent events; the last one may be broken off."""
    found = []
    for block in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = [line[5:].lstrip(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if not data.startswith(b"{"):
            continue
        try:
            found.append(loads(data))
        except ValueError:
            break
    return found


class _Told:
    """Adds up the events of a stream."""

    def __init__(self) -> None:
        self._interaction: dict[str, Any] = {}
        self._steps: dict[int, dict[str, Any]] = {}
        self._error: Any = None

    def take(self, event: Any) -> None:
        try:
            self.add(event)
        except (ValueError, TypeError, AttributeError) as error:
            # The other events can still be read.
            logger.debug("otel-posthog could not read an event: %s", type(error).__name__)

    def add(self, event: Any) -> None:
        kind, _, happened = str(_at(event, "event_type")).partition(".")
        if kind == "error":
            self._error = _at(event, "error") or {}
        elif kind in {"step", "content"}:
            self._tell(number(_at(event, "index")) or 0, event, happened)
        else:
            # Later events leave out what earlier ones said.
            said = _at(event, "interaction") or {name: _at(event, name) for name in ("status", "usage")}
            if usage := said.get("usage"):
                said = {**said, "usage": {**self._interaction.get("usage", {}), **known(usage)}}
            self._interaction.update({name: value for name, value in said.items() if value})

    def _tell(self, index: int, event: Any, happened: str) -> None:
        if happened == "start":
            self._steps[index] = dict(_at(event, "step") or _at(event, "content") or {})
        elif happened == "delta":
            _extend(self._steps.setdefault(index, {}), _at(event, "delta") or {})

    def facts(self, content: bool) -> Attributes:
        whole = dict(self._interaction)
        if self._steps:
            whole["steps"] = [step for _, step in sorted(self._steps.items())]
        facts = response_facts(whole, content)
        if self._error is not None:
            facts["gen_ai.response.finish_reasons"] = None
            facts.update(_failure(self._error, "error"))
        return known(facts)


def _extend(step: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to the step it belongs to."""
    kind = str(delta.get("type"))
    if kind == "text" and step.get("type") in {"text", None}:  # the older form, in which a content is a step
        step.update(type="text", text=str(step.get("text") or "") + str(delta.get("text") or ""))
    elif kind == "text" or kind in _MEDIA:
        if step.get("type") in {kind, None}:
            step.update({name: value for name, value in delta.items() if value})
            return
        contents = step["content"] = items(step.get("content"))
        if kind == "text" and contents and _at(contents[-1], "type") == "text":
            contents[-1] = {
                **contents[-1],
                "text": str(contents[-1].get("text") or "") + str(delta.get("text")),
            }
        else:
            contents.append(dict(delta))
    elif kind == "thought_summary":
        step.setdefault("type", "thought")
        step["summary"] = [*items(step.get("summary")), delta.get("content")]
    elif kind == "arguments_delta":
        # Pieces of JSON follow an empty object.
        before = step.get("arguments")
        step["arguments"] = (before if isinstance(before, str) else "") + str(delta.get("arguments") or "")
    elif kind.endswith(("_call", "_result")):
        step.update({name: value for name, value in delta.items() if value})
