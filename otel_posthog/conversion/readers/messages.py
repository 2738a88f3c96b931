"""Readers of messages: from any attribute value to the neutral form of `model_call.Message`.

The GenAI conventions' own JSON passes through untouched. The shapes of providers and frameworks (chat
completions, Responses items, Anthropic's blocks, Gemini's contents, the Vercel AI SDK's and LangChain's
messages) are brought to the same form; a part of unknown shape stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from otel_posthog.conversion.model_call import Message
from otel_posthog.conversion.readers.attribute_values import parse_json, text
from otel_posthog.conversion.readers.message_parts import is_neutral, part_of, text_part, tool_call

__all__ = ["messages", "system_messages", "tools"]

MAX_MESSAGES = 20_000
"""Items of a conversation; a longer list is data, such as the ids of tokens, and becomes one text."""
_SPEAKERS = frozenset({"system", "user", "assistant", "tool"})
_ENUM = "MessageRole."
"""The text of a Python enum begins so, in smolagents and LlamaIndex: `MessageRole.USER`."""
_ROLES = {"model": "assistant", "ai": "assistant", "human": "user", "function": "tool"}
"""Gemini's and LangChain's names of the speakers, in the words of PostHog's pages."""


def messages(value: Any, role: str) -> list[Message] | None:
    """Return the messages in `value`, with `role` for those that have none; None if there are none."""
    parsed = parse_json(value)
    if not parsed and (parsed is None or parsed in ("", [], {})):
        return None
    if type(parsed) is not list:
        return [_message(parsed, role)]
    if len(parsed) > MAX_MESSAGES:
        return [{"role": role, "parts": [text_part(value if type(value) is str else str(value))]}]
    if _is_bare(parsed[0]) and all(map(_is_bare, parsed)):
        # Parts outside of a message are one message.
        return [{"role": role, "parts": [part_of(item) for item in parsed]}]
    return [_message(item, role) for item in parsed]


def system_messages(value: Any) -> list[Message] | None:
    """Return the messages of `gen_ai.system_instructions`: a text, or a list of parts."""
    return messages(value, "system")


def tools(value: Any) -> list[Any] | None:
    """Return tool definitions as they are, in a list."""
    parsed = parse_json(value)
    if isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        return [parsed] if text(parsed) else None
    return [parse_json(item) for item in parsed] or None


def _is_bare(item: Any) -> bool:
    if type(item) is not dict or "role" in item or "type" not in item:
        return False
    kind = item["type"]
    return type(kind) is not str or kind not in _MESSAGES


def _message(item: Any, role: str) -> Message:
    if type(item) is str and item.startswith('{"'):
        item = parse_json(item)  # a list of JSON texts
    if type(item) is not dict:
        return {"role": role, "parts": [text_part(item)]}
    own_role = item.get("role")
    parts = item.get("parts")
    if type(parts) is list:
        if type(own_role) is str and own_role in _SPEAKERS and len(parts) == 1 and is_neutral(parts[0]):
            return item  # nearly always
        if (
            type(own_role) is str
            and own_role not in _ROLES
            and not own_role.startswith(_ENUM)
            and all(map(is_neutral, parts))
        ):
            return item
        neutral = [part if is_neutral(part) else part_of(part) for part in parts]
        return {**item, "role": _role(own_role, role), "parts": neutral}
    converter = _MESSAGES.get(item["type"]) if type(item.get("type")) is str else None
    if converter is not None and own_role is None:
        item = converter(item)
        own_role = item.get("role")
    elif "role" not in item and "content" not in item and "tool_calls" not in item:
        return {"role": role, "parts": [part_of(item)]}
    message: Message = {"role": _role(own_role, role), "parts": list(_parts_of_chat(item))}
    for key in ("name", "finish_reason"):
        if item.get(key):
            message[key] = item[key]
    return message


def _role(own_role: Any, default: str) -> str:
    role = text(own_role)
    if role is not None and role.startswith(_ENUM):
        role = role.removeprefix(_ENUM).lower()
    return default if role is None else _ROLES.get(role, role)


def _parts_of_chat(item: dict[str, Any]) -> Iterable[Any]:
    """Yield the parts of a message with `content`: reasoning, content, tool calls, a tool's response."""
    content = item.get("content")
    reasoning = item.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        yield {"type": "reasoning", "content": reasoning}
    if item.get("role") in ("tool", "function") and item.get("tool_call_id"):
        yield {"type": "tool_call_response", "id": item["tool_call_id"], "response": content}
        content = None
    if isinstance(content, list):
        for part in content:
            yield part_of(part)
    elif content is not None and content != "":
        yield part_of(content) if isinstance(content, dict) else text_part(content)
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield tool_call(call) if isinstance(call, dict) else text_part(call)
    refusal = item.get("refusal")
    if isinstance(refusal, str) and refusal:
        yield {"type": "text", "content": refusal}


# --- items that are messages of their own by `type` ---


def _langchain(role: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def convert(item: dict[str, Any]) -> dict[str, Any]:
        inner = item.get("data")
        return {**(inner if isinstance(inner, dict) else item), "role": role}

    return convert


def _item(item: dict[str, Any]) -> dict[str, Any]:
    """Return a message around an item of OpenAI's Responses that is none."""
    role = "tool" if item.get("type") == "function_call_output" else "assistant"
    return {"role": role, "content": [item]}


_MESSAGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "human": _langchain("user"),
    "ai": _langchain("assistant"),
    "system": _langchain("system"),
    "tool": _langchain("tool"),
    "function_call_output": _item,
}
"""Messages whose `type` names the speaker: LangChain's, and items of OpenAI's Responses."""
