"""The Interactions API's JSON: attributes of its requests, its responses and the events of its streams.

An interaction is a list of steps (`steps`, formerly `outputs`): thoughts, calls of tools and their results,
and contents of the model. A stream brings each step by a start, deltas and a stop (formerly `content.*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, logger, read_piece, read_pieces
from instrumentors.common.message_parts import (
    Message,
    MessagePart,
    dumps,
    reasoning,
    text,
    tool_call,
    tool_result,
    uri,
)
from instrumentors.common.sse import event_data
from instrumentors.gemini.messages import count_images, dump_messages, inline_media, input_attributes
from instrumentors.gemini.payload import add_counts, get_list, loads, to_int, tokens_by_modality, without_none

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
    ("thinking_level", names.THINKING_LEVEL),
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
    """Whether an address is Vertex AI's."""
    return "aiplatform" in host or "/projects/" in path


def _get(value: Any, *path: str) -> Any:
    """Return the value at the end of a path; None if the path ends early."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _get_objects(value: Any) -> list[Any]:
    """Return a list of objects, which may be given as one object alone."""
    return get_list(value) or ([value] if isinstance(value, Mapping) else [])


# --- contents and steps -------------------------------------------------------------------------------------


def _to_parts(step: Any) -> list[MessagePart]:
    """Return the parts of a step, or of a content within one."""
    kind = str(_get(step, "type"))
    if kind == "text":
        return [text(_get(step, "text"))]
    if kind in _MEDIA:
        return [_media_part(step, kind)]
    if kind in {"user_input", "model_output"}:
        return _content_parts(_get(step, "content"))
    if kind == "thought":
        thoughts = "".join(str(_get(one, "text") or "") for one in _get_objects(_get(step, "summary")))
        return [reasoning(thoughts)] if thoughts else []
    if kind == "function_call":
        return [tool_call(_get(step, "name"), _get(step, "arguments"), _get(step, "id"))]
    if kind == "function_result":
        return [tool_result(_get(step, "result"), _get(step, "call_id"), _get(step, "name"))]
    name, _, end = kind.rpartition("_")
    if end == "call":
        detail = {"type": name, "arguments": _get(step, "arguments")}
        tool = _get(step, "name") or name
        return [
            {"type": "server_tool_call", "id": _get(step, "id"), "name": tool, "server_tool_call": detail}
        ]
    if end == "result":
        detail = {"type": name, "result": _get(step, "result")}
        identifier = _get(step, "call_id")
        return [{"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": detail}]
    return [{"type": kind}]


def _media_part(content: Any, kind: str) -> MessagePart:
    mime_type = str(_get(content, "mime_type") or f"{kind}/*")
    if data := _get(content, "data"):
        return inline_media(mime_type, data)
    return uri(_get(content, "uri"), kind, mime_type)


def _content_parts(value: Any) -> list[MessagePart]:
    if isinstance(value, str):
        return [text(value)]
    return [part for of_content in read_pieces(_to_parts, _get_objects(value)) for part in of_content]


def _to_messages(value: Any) -> list[Message]:
    """Return an input (a text, contents, steps or turns) as messages, joining neighbours of one role."""
    messages: list[Message] = []
    for one in [value] if isinstance(value, str) else _get_objects(value):
        kind = str(_get(one, "type"))
        if isinstance(one, str):
            role, parts = "user", [text(one)]
        elif turn := _get(one, "role"):
            role, parts = _ROLES.get(turn, str(turn)), _content_parts(_get(one, "content"))
        else:
            server_tool = kind != "function_result" and kind.endswith(("_call", "_result"))
            role, parts = (
                _ROLES.get(kind, "assistant" if server_tool else "user"),
                read_piece(_to_parts, one) or [],
            )
        if messages and messages[-1]["role"] == role and not _get(one, "role"):
            messages[-1]["parts"] += parts
        else:
            messages.append({"role": role, "parts": parts})
    return messages


# --- requests -----------------------------------------------------------------------------------------------


def request_attributes(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of a request."""
    config = _get(body, "generation_config")
    agent = _get(body, "agent")
    messages = _to_messages(_get(body, "input"))
    system = _get(body, "system_instruction")
    attributes: Attributes = {
        "gen_ai.operation.name": _AGENT if agent else OPERATION,
        "gen_ai.request.model": str(_get(body, "model") or "").rpartition("/")[2] or None,
        "gen_ai.agent.name": agent,
        "gen_ai.request.stream": True if _get(body, "stream") else None,
        "gen_ai.request.previous_response.id": _get(body, "previous_interaction_id"),
        names.REQUEST_SERVICE_TIER: _get(body, "service_tier"),
        names.CACHED_CONTENT: True if _get(body, "cached_content") else None,
        **{attribute: _get(config, name) for name, attribute in _PARAMETERS},
        **_output_attributes(body, config),
        **_tool_attributes(_get_objects(_get(body, "tools")), content),
        **input_attributes(messages, content, _content_parts(system) if system else None),
    }
    if attributes["gen_ai.output.type"] == "image":
        attributes[names.IMAGE_REFERENCE_COUNT] = count_images(messages)
    return attributes


def _output_attributes(body: Any, config: Any) -> Attributes:
    """Return the attributes of the form that the output is to have."""
    formats = _get_objects(_get(body, "response_format"))
    image = next((one for one in formats if _get(one, "type") == "image"), _get(config, "image_config"))
    mime_types = [_get(body, "response_mime_type"), *(_get(one, "mime_type") for one in formats)]
    kinds = [str(one).lower() for one in get_list(_get(body, "response_modalities"))]
    kinds += [str(_get(one, "type")) for one in formats]
    kind: str | None = next((one for one in ("image", "audio", "video") if one in kinds), None)
    if kind is None and any(str(mime_type).endswith("json") for mime_type in mime_types):
        kind = "json"
    if kind is None and not kinds and "-image" in str(_get(body, "model")):
        kind = "image"
    if kind is None and "text" in kinds:
        kind = "text"
    return {
        "gen_ai.output.type": _OUTPUT_TYPES.get(str(kind), kind),
        names.IMAGE_ASPECT_RATIO: _get(image, "aspect_ratio"),
        names.IMAGE_SIZE: _get(image, "image_size"),
    }


def _tool_attributes(tools: list[Any], content: bool) -> Attributes:
    kinds = [str(_get(tool, "type")) for tool in tools]
    definitions = [
        {name: value for name, value in tool.items() if name in {"type", "name", "description", "parameters"}}
        | ({} if kind == "function" else {"name": _get(tool, "name") or kind})
        for tool, kind in zip(tools, kinds, strict=True)
    ]
    return {
        names.TOOL_COUNT: len(tools) or None,
        names.WEB_SEARCH_ENABLED: True if "google_search" in kinds else None,
        names.URL_CONTEXT_ENABLED: True if "url_context" in kinds else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


# --- responses ----------------------------------------------------------------------------------------------


def error_attributes(body: Any, status: int) -> Attributes:
    """Return the attributes of an answer that is an HTTP error."""
    error = _get(_get_objects(body)[0] if _get_objects(body) else None, "error")
    return {
        "error.type": str(status),
        names.HTTP_STATUS: status,
        "error.message": str(_get(error, "message") or "") or None,
    }


def _failure_attributes(error: Any, default_code: str) -> Attributes:
    """Return the attributes of an error within an answer."""
    code = str(_get(error, "code") or default_code)
    return {
        "error.type": code,
        names.HTTP_STATUS: to_int(code),
        "error.message": str(_get(error, "message") or code),
    }


def _usage_attributes(usage: Any) -> Attributes:
    """Return token counts: thoughts are output, and a prompt's part that tools added is input."""
    searches = [
        _get(one, "count")
        for one in get_list(_get(usage, "grounding_tool_count"))
        if _get(one, "type") == "google_search"
    ]
    return {
        "gen_ai.usage.input_tokens": add_counts(
            _get(usage, "total_input_tokens"), _get(usage, "total_tool_use_tokens")
        ),
        "gen_ai.usage.output_tokens": add_counts(
            _get(usage, "total_output_tokens"), _get(usage, "total_thought_tokens")
        ),
        "gen_ai.usage.cache_read.input_tokens": to_int(_get(usage, "total_cached_tokens")),
        "gen_ai.usage.reasoning.output_tokens": to_int(_get(usage, "total_thought_tokens")),
        names.WEB_SEARCH_COUNT: add_counts(*searches),
        **tokens_by_modality(usage, _DETAILS, "tokens"),
    }


def response_attributes(interaction: Any, content: bool) -> Attributes:
    """Return the attributes of an interaction; its steps are one message."""
    steps = get_list(_get(interaction, "steps")) or get_list(_get(interaction, "outputs"))
    # The user's steps repeat the request.
    steps = [step for step in steps if _get(step, "type") not in {"user_input", "function_result"}]
    kinds = [str(_get(step, "type")) for step in steps]
    parts = [part for of_step in read_pieces(_to_parts, steps) for part in of_step]
    reason = _FINISH.get(str(_get(interaction, "status")))
    queries = [
        query
        for step in steps
        if _get(step, "type") == "google_search_call"
        for query in get_list(_get(step, "arguments", "queries"))
    ]
    usage = _usage_attributes(_get(interaction, "usage"))
    attributes: Attributes = {
        "gen_ai.response.model": _get(interaction, "model"),
        "gen_ai.response.id": _get(interaction, "id") or None,
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "posthog.response.service_tier": _get(interaction, "service_tier"),
        names.TOOL_CALL_COUNT: kinds.count("function_call") or None,
        names.IMAGE_COUNT: sum(part.get("modality") == "image" for part in parts) or None,
        names.WEB_SEARCH_USED: True if any(kind.startswith("google_search") for kind in kinds) else None,
        names.URL_CONTEXT_USED: True if any(kind.startswith("url_context") for kind in kinds) else None,
        **usage,
    }
    if attributes[names.WEB_SEARCH_COUNT] is None:
        attributes[names.WEB_SEARCH_COUNT] = len(queries) or None
    if _get(interaction, "status") == "failed":
        errors = get_list(_get(interaction, "errors")) or [_get(step, "error") for step in steps]
        attributes.update(_failure_attributes(next(filter(None, errors), None), "failed"))
    if content and parts:
        message = {"role": "assistant", "parts": parts} | ({"finish_reason": reason} if reason else {})
        attributes["gen_ai.output.messages"] = dump_messages([message])
    return attributes


# --- streams ------------------------------------------------------------------------------------------------


def stream_attributes(body: bytes, content: bool, *, complete: bool) -> Attributes:
    """Return the attributes of a stream of events, or of one response, in bytes."""
    if body[:1] == b"{":
        return response_attributes(loads(body), content) if complete else {}
    merged = _MergedEvents()
    for data in event_data(body):
        if not data.lstrip().startswith(b"{"):
            continue
        try:
            event = loads(data)
        except ValueError:  # the last event of a stream that broke off
            break
        try:
            merged.add(event)
        except (ValueError, TypeError, AttributeError) as error:
            # The other events can still be read.
            logger.debug("otel-posthog could not read an event: %s", type(error).__name__)
    return merged.attributes(content)


class _MergedEvents:
    """The events of a stream, added up to an interaction."""

    def __init__(self) -> None:
        self._interaction: dict[str, Any] = {}
        self._steps: dict[int, dict[str, Any]] = {}
        self._error: Any = None

    def add(self, event: Any) -> None:
        kind, _, phase = str(_get(event, "event_type")).partition(".")
        if kind == "error":
            self._error = _get(event, "error") or {}
        elif kind in {"step", "content"}:
            self._add_to_step(to_int(_get(event, "index")) or 0, event, phase)
        else:
            # Later events leave out fields of earlier ones.
            fields = _get(event, "interaction") or {name: _get(event, name) for name in ("status", "usage")}
            if usage := fields.get("usage"):
                fields = {**fields, "usage": {**self._interaction.get("usage", {}), **without_none(usage)}}
            self._interaction.update({name: value for name, value in fields.items() if value})

    def _add_to_step(self, index: int, event: Any, phase: str) -> None:
        if phase == "start":
            self._steps[index] = dict(_get(event, "step") or _get(event, "content") or {})
        elif phase == "delta":
            _extend(self._steps.setdefault(index, {}), _get(event, "delta") or {})

    def attributes(self, content: bool) -> Attributes:
        interaction = dict(self._interaction)
        if self._steps:
            interaction["steps"] = [step for _, step in sorted(self._steps.items())]
        attributes = response_attributes(interaction, content)
        if self._error is not None:
            attributes["gen_ai.response.finish_reasons"] = None
            attributes.update(_failure_attributes(self._error, "error"))
        return without_none(attributes)


def _extend(step: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Add a delta to the step it belongs to."""
    kind = str(delta.get("type"))
    if kind == "text" and step.get("type") in {"text", None}:  # the older form: a content is a step
        step.update(type="text", text=str(step.get("text") or "") + str(delta.get("text") or ""))
    elif kind == "text" or kind in _MEDIA:
        if step.get("type") in {kind, None}:
            step.update({name: value for name, value in delta.items() if value})
            return
        contents = step["content"] = get_list(step.get("content"))
        if kind == "text" and contents and _get(contents[-1], "type") == "text":
            contents[-1] = {
                **contents[-1],
                "text": str(contents[-1].get("text") or "") + str(delta.get("text")),
            }
        else:
            contents.append(dict(delta))
    elif kind == "thought_summary":
        step.setdefault("type", "thought")
        step["summary"] = [*get_list(step.get("summary")), delta.get("content")]
    elif kind == "arguments_delta":
        # Pieces of JSON follow an empty object, which they replace.
        before = step.get("arguments")
        step["arguments"] = (before if isinstance(before, str) else "") + str(delta.get("arguments") or "")
    elif kind.endswith(("_call", "_result")):
        step.update({name: value for name, value in delta.items() if value})
