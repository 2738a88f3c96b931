"""The Responses API."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instrumentors.common.call_span import Attributes, read
from instrumentors.common.message_parts import Part, blob, dumps, text, tool_call, tool_result
from instrumentors.openai.fields import get, head, listed, reason
from instrumentors.openai.messages import ROLES, asked, content_parts

__all__ = ["ResponsesAccumulator", "responses_request", "responses_response"]


def _message(item: Any) -> Part:
    role = str(get(item, "role") or "user")
    return {"role": ROLES.get(role, role), "parts": content_parts(get(item, "content"))}


def _identifier(item: Any) -> Any:
    return get(item, "call_id") or get(item, "id")


def _call(item: Any) -> Part:
    arguments = get(item, "arguments") or get(item, "input")
    return {"role": "assistant", "parts": [tool_call(get(item, "name"), arguments, _identifier(item))]}


def _output(item: Any) -> Part:
    return {"role": "tool", "parts": [tool_result(get(item, "output"), _identifier(item))]}


def _reasoning(item: Any) -> Part:
    thoughts = content_parts(get(item, "summary")) + content_parts(get(item, "content"))
    words = "\n".join(str(thought.get("content")) for thought in thoughts)
    return {"role": "assistant", "parts": [{"type": "reasoning", "content": words}] if words else []}


def _picture(item: Any) -> Part:
    if picture := get(item, "result"):
        kind = f"image/{get(item, 'output_format') or 'png'}"
        return {"role": "assistant", "parts": [blob(kind, picture)]}
    return _server_tool(item)


def _server_tool(item: Any) -> Part:
    """A tool that the service runs itself: a search, an interpreter, an MCP server."""
    name = str(get(item, "type")).removesuffix("_call")
    detail = {"type": name, "status": get(item, "status"), **_plain(get(item, "action"))}
    part = {"type": "server_tool_call", "id": _identifier(item), "name": name, "server_tool_call": detail}
    return {"role": "assistant", "parts": [part]}


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return dict(value.model_dump(exclude_none=True)) if hasattr(value, "model_dump") else {}


_ITEMS: dict[str, Callable[[Any], Part]] = {
    "message": _message,
    **dict.fromkeys(("function_call", "custom_tool_call"), _call),
    **dict.fromkeys(("function_call_output", "custom_tool_call_output"), _output),
    "reasoning": _reasoning,
    "image_generation_call": _picture,
}


def _item(item: Any) -> Part:
    """One item, asked or answered, as a message."""
    return _ITEMS.get(str(get(item, "type") or "message"), _server_tool)(item)


def responses_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """The input, the instructions, and what the image tool is to draw."""
    given, instructions = body.get("input"), body.get("instructions")
    messages = (
        [{"role": "user", "parts": [text(given)]}] if isinstance(given, str) else [*map(_item, listed(given))]
    )
    drawing = next(
        (tool for tool in listed(body.get("tools")) if get(tool, "type") == "image_generation"), None
    )
    conversation = body.get("conversation")
    return {
        **asked(messages, content, system=[text(instructions)] if isinstance(instructions, str) else None),
        "gen_ai.conversation.id": conversation if isinstance(conversation, str) else get(conversation, "id"),
        "posthog.image.size": get(drawing, "size"),
        "posthog.image.quality": get(drawing, "quality"),
    }


def _finish(response: Any, calls: int) -> str | None:
    status = get(response, "status")
    if status == "completed":
        return "tool_call" if calls else "stop"
    if status == "incomplete":
        return reason(get(response, "incomplete_details", "reason"))
    return "error" if status in {"failed", "cancelled"} else None  # else it goes on in the background


def responses_response(response: Any, content: bool) -> Attributes:
    """The items of the answer, as one message."""
    output = listed(get(response, "output"))
    kinds = [str(get(item, "type")) for item in output]
    calls = kinds.count("function_call") + kinds.count("custom_tool_call")
    searches = kinds.count("web_search_call")
    finished = _finish(response, calls)
    facts = {
        **head(response),
        "gen_ai.response.finish_reasons": [finished] if finished else None,
        "posthog.tool_calls.count": calls or None,
        "posthog.web_search.used": True if searches else None,
        "posthog.web_search.count": searches or None,
        "posthog.image.count": kinds.count("image_generation_call") or None,
    }
    if get(response, "status") == "failed":
        facts["error.type"] = get(response, "error", "code") or "server_error"
        facts["error.message"] = get(response, "error", "message") if content else None
    if content and output:
        facts.update(read(_said, output, finished))
    return facts


def _said(output: Sequence[Any], finished: str | None) -> Attributes:
    said: Part = {"role": "assistant", "parts": [part for item in output for part in _item(item)["parts"]]}
    if finished:
        said["finish_reason"] = finished
    return {"gen_ai.output.messages": dumps([said])}


class ResponsesAccumulator:
    """Follows the events of a responses stream, whose last one holds the whole response."""

    def __init__(self) -> None:
        self._response: Any = None
        self._error: Any = None
        self._words: list[str] = []

    def add(self, event: Any) -> bool:
        """Take an event."""
        fields = event.__dict__
        kind = fields.get("type")
        if kind == "response.output_text.delta":
            self._words.append(fields["delta"])
        elif kind == "error":
            self._error = event
        elif (response := fields.get("response")) is not None:
            self._response = response
        return True

    def facts(self, content: bool, _: bool, /) -> Attributes:
        """Give the response's attributes, or of a stream that broke off what came so far."""
        facts = responses_response(self._response, content)
        if content and self._words and facts.get("gen_ai.output.messages") is None:
            said = {"role": "assistant", "parts": [text("".join(self._words))]}
            facts["gen_ai.output.messages"] = dumps([said])
        if self._error is not None:
            facts["error.type"] = get(self._error, "code") or "error"
            facts["error.message"] = get(self._error, "message") if content else None
        return facts
