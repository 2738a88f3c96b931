"""Readers of messages: from whatever an attribute holds to the neutral form of `calls.Message`.

The GenAI conventions' own JSON passes through untouched. Chat-completions messages, plain texts and
broken JSON are given the same form; a part of unknown shape stays as it is rather than being lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otel_posthog.calls import Message
from otel_posthog.spans.values import parse_json, text

__all__ = ["messages", "system_messages", "tools"]


def messages(value: Any, role: str) -> list[Message] | None:
    """The messages in `value`; what has no role of its own gets `role`."""
    parsed = parse_json(value)
    if not parsed and (parsed is None or parsed in ("", [], {})):
        return None
    if type(parsed) is not list:
        return [_message(parsed, role)]
    if _is_bare(parsed[0]) and all(map(_is_bare, parsed)):
        # Parts without a message around them are one message.
        return [{"role": role, "parts": parsed}]
    return [_message(item, role) for item in parsed]


def system_messages(value: Any) -> list[Message] | None:
    """`gen_ai.system_instructions`: a text, or a list of parts."""
    return messages(value, "system")


def tools(value: Any) -> list[Any] | None:
    """Tool definitions as they were given, as a list."""
    parsed = parse_json(value)
    if isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        return [parsed] if text(parsed) else None
    return [parse_json(item) for item in parsed] or None


def _is_bare(item: Any) -> bool:
    return type(item) is dict and "role" not in item and "type" in item


def _message(item: Any, role: str) -> Message:
    if type(item) is not dict:
        return {"role": role, "parts": [_text_part(item)]}
    if type(item.get("parts")) is list:
        return item if type(item.get("role")) is str else {**item, "role": role}
    if "role" not in item and "content" not in item:
        return {"role": role, "parts": [item]}
    made: Message = {"role": text(item.get("role")) or role, "parts": list(_parts_of_chat(item))}
    for key in ("name", "finish_reason"):
        if item.get(key):
            made[key] = item[key]
    return made


def _parts_of_chat(item: dict[str, Any]) -> Iterable[Any]:
    """The parts of a chat-completions message: content, tool calls, the answer to a tool call."""
    content = item.get("content")
    if item.get("role") == "tool" and item.get("tool_call_id"):
        yield {"type": "tool_call_response", "id": item["tool_call_id"], "response": content}
        content = None
    if isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") in {"text", "input_text", "output_text"}:
                yield _text_part(part.get("text", part.get("content")))
            else:
                yield part if isinstance(part, dict) else _text_part(part)
    elif content is not None and content != "":
        yield content if isinstance(content, dict) else _text_part(content)
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": parse_json(function.get("arguments")),
            }
        else:
            yield call if isinstance(call, dict) else _text_part(call)


def _text_part(value: Any) -> dict[str, Any]:
    return {"type": "text", "content": value if isinstance(value, str) else text(value) or str(value)}
