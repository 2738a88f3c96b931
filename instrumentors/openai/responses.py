"""The Responses API, and `/decisions`, whose requests are similar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, read_piece, read_pieces, read_safely
from instrumentors.common.message_parts import (
    Message,
    MessagePart,
    blob,
    dumps,
    reasoning,
    text,
    tool_call,
    tool_result,
)
from instrumentors.openai.fields import finish_reason, get, get_list, response_attributes
from instrumentors.openai.messages import (
    ROLES,
    input_attributes,
    join_thoughts,
    plain_text,
    prompt_request,
    to_parts,
)


def _message(item: Any) -> Message:
    role = str(get(item, "role") or "user")
    return {"role": ROLES.get(role, role), "parts": to_parts(get(item, "content"))}


def _identifier(item: Any) -> Any:
    return get(item, "call_id") or get(item, "id")


def _tool_call(item: Any) -> Message:
    arguments = get(item, "arguments")
    if arguments is None:
        arguments = get(item, "input")
    return {"role": "assistant", "parts": [tool_call(get(item, "name"), arguments, _identifier(item))]}


def _tool_result(item: Any) -> Message:
    return {"role": "tool", "parts": [tool_result(get(item, "output"), _identifier(item))]}


def _reasoning(item: Any) -> Message:
    thoughts = [*get_list(get(item, "summary")), *get_list(get(item, "content"))]
    joined = "\n".join(read_pieces(plain_text, thoughts)) or join_thoughts(item)
    return {"role": "assistant", "parts": [reasoning(joined)] if joined else []}


def _image(item: Any) -> Message:
    if image := get(item, "result"):
        mime_type = f"image/{get(item, 'output_format') or 'png'}"
        return {"role": "assistant", "parts": [blob(mime_type, image)]}
    return _server_tool(item)


def _server_tool(item: Any) -> Message:
    """Return the call of a tool that has a type of its own, and its answer if the item holds that, too.

    Searches, interpreters and MCP servers run at the service, shells and computers also at the application.
    """
    kind = str(get(item, "type"))
    fields = {name: value for name, value in _as_dict(item).items() if value is not None}
    answer = {name: fields.pop(name) for name in _ANSWERS if name in fields}
    detail = {name: value for name, value in fields.items() if name not in _BOOKKEEPING}
    action = _as_dict(detail.pop("action", None))
    identifier, name = _identifier(item), kind.removesuffix("_call")
    if isinstance(arguments := detail.get("arguments"), str):
        detail["arguments"] = tool_call(name, arguments)["arguments"]
    call = {
        "type": "server_tool_call",
        "id": identifier,
        "name": get(item, "name") or name,
        "server_tool_call": {"type": name, **detail, **action},
    }
    parts: list[MessagePart] = [call]
    if any(answer.values()):
        of_call = {"type": name, **answer}
        parts.append(
            {"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": of_call}
        )
    return {"role": "assistant", "parts": parts}


_BOOKKEEPING = frozenset({"id", "call_id", "type", "name", "created_by", "caller", "agent"})
_ANSWERS = ("output", "outputs", "result", "results", "error", "tools", "logs")


def _tool_answer(item: Any) -> Message:
    """Return the answer of the application to the call of a tool: an output, a screenshot, an approval."""
    answer = get(item, "output")
    if answer is None:
        fields = _as_dict(item)
        answer = {name: value for name, value in fields.items() if name not in _BOOKKEEPING | _REFERENCES}
    identifier = next((value for name in _ANSWERED if (value := get(item, name))), None)
    return {"role": "tool", "parts": [tool_result(_plain(answer), identifier)]}


_ANSWERED = ("call_id", "approval_request_id", "id")
_REFERENCES = frozenset(_ANSWERED)


def _as_dict(value: Any) -> dict[str, Any]:
    plain = _plain(value)
    return dict(plain) if isinstance(plain, Mapping) else {}


def _plain(value: Any) -> Any:
    """Return the JSON of an object of the SDK's, or of a list of them."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    # Without warnings: a service may send anything.
    return value.model_dump(exclude_none=True, warnings=False) if hasattr(value, "model_dump") else value


_ITEMS: dict[str, Callable[[Any], Message]] = {
    "message": _message,
    **dict.fromkeys(("function_call", "custom_tool_call"), _tool_call),
    **dict.fromkeys(("function_call_output", "custom_tool_call_output"), _tool_result),
    "reasoning": _reasoning,
    "image_generation_call": _image,
}


def _item_message(item: Any) -> Message:
    """Return an item of a request or an answer as a message."""
    kind = str(get(item, "type") or "message")
    answered = kind.endswith(("_output", "_approval_response"))
    return _ITEMS.get(kind, _tool_answer if answered else _server_tool)(item)


_WAITING = frozenset(
    {
        "function_call",
        "custom_tool_call",
        "shell_call",
        "local_shell_call",
        "apply_patch_call",
        "computer_call",
        "mcp_approval_request",
    }
)
"""The calls that the application answers, unless the same response holds the answer."""


def _count_tool_calls(output: Sequence[Any]) -> int:
    """Return the number of calls that wait for the application."""
    answered = {get(item, "call_id") for item in output if str(get(item, "type")).endswith("_output")}
    waiting = [item for item in output if str(get(item, "type")) in _WAITING]
    return sum(_identifier(item) not in answered for item in waiting)


def responses_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of the input, the instructions, and the image tool."""
    given, instructions = body.get("input"), body.get("instructions")
    messages = (
        [{"role": "user", "parts": [text(given)]}]
        if isinstance(given, str)
        else read_pieces(_item_message, get_list(given))
    )
    prompt = body.get("prompt")
    variables = read_piece(_variables, get(prompt, "variables"))
    if variables:
        messages.insert(0, {"role": "user", "parts": variables})
    image_tool = next(
        (tool for tool in get_list(body.get("tools")) if get(tool, "type") == "image_generation"), None
    )
    conversation = body.get("conversation")
    system = [text(instructions)] if isinstance(instructions, str) else None
    attributes = input_attributes(messages, content, system=system)
    if prompt is not None:  # its text is with the service, so neither its length nor its messages are known
        attributes |= {names.PROMPT_LENGTH: None, names.MESSAGE_COUNT: None}
    return {
        **attributes,
        "gen_ai.prompt.name": get(prompt, "id") or get(prompt, "name"),
        "gen_ai.prompt.version": _version(get(prompt, "version")),
        "gen_ai.conversation.id": conversation if isinstance(conversation, str) else get(conversation, "id"),
        names.IMAGE_SIZE: get(image_tool, "size"),
        names.IMAGE_QUALITY: get(image_tool, "quality"),
    }


def _version(version: Any) -> str | None:
    return None if version is None else str(version)


def _variables(variables: Any) -> list[MessagePart]:
    """Return the variables of a stored prompt: the texts as one part, media as parts of their own."""
    if not isinstance(variables, Mapping):
        return []
    texts = {
        name: words
        for name, value in variables.items()
        if isinstance(words := value if isinstance(value, str) else get(value, "text"), str)
    }
    media = to_parts([value for name, value in variables.items() if name not in texts])
    return [*([text(dumps(texts))] if texts else []), *media]


def decisions_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of a text, or of a request like that of a response."""
    if isinstance(body.get("input"), str):
        return prompt_request(body, content)
    return responses_request(body, content)


def _finish_reason(response: Any, tool_calls: int) -> str | None:
    status = get(response, "status")
    if status == "completed":
        return "tool_call" if tool_calls else "stop"
    if status == "incomplete":
        return finish_reason(get(response, "incomplete_details", "reason"))
    return "error" if status in {"failed", "cancelled"} else None  # otherwise it goes on in the background


def responses_response(response: Any, content: bool) -> Attributes:
    """Return the attributes of a response; its items are one message."""
    output = get_list(get(response, "output"))
    kinds = [str(get(item, "type")) for item in output]
    tool_calls = _count_tool_calls(output)
    searches = kinds.count("web_search_call")
    reason = _finish_reason(response, tool_calls)
    attributes = {
        **response_attributes(response),
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        names.TOOL_CALL_COUNT: tool_calls or None,
        names.WEB_SEARCH_USED: True if searches else None,
        names.WEB_SEARCH_COUNT: searches or None,
        names.IMAGE_COUNT: kinds.count("image_generation_call") or None,
    }
    if get(response, "status") == "failed":
        attributes["error.type"] = get(response, "error", "code") or "server_error"
        attributes["error.message"] = get(response, "error", "message") if content else None
    if content and output:
        attributes.update(read_safely(_output_attributes, output, reason))
    return attributes


def _output_attributes(output: Sequence[Any], reason: str | None) -> Attributes:
    parts = [part for message in read_pieces(_item_message, output) for part in message["parts"]]
    message: Message = {"role": "assistant", "parts": parts}
    if reason:
        message["finish_reason"] = reason
    return {"gen_ai.output.messages": dumps([message])}


_FIELDS = ("id", "model", "service_tier", "usage")
_LAST = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})


class ResponsesAccumulator:
    """The events of a responses stream; the last one holds the whole response."""

    def __init__(self) -> None:
        self.finished = False
        self._response: Any = None
        self._fields: dict[str, Any] = {}
        self._error: Any = None
        self._pieces: list[str] = []

    def add(self, event: Any) -> bool:
        """Add an event."""
        fields = event.__dict__
        kind = fields.get("type")
        if kind == "response.output_text.delta":
            self._pieces.append(plain_text(fields.get("delta")))
        elif kind == "error":
            self._error = event
        elif (response := fields.get("response")) is not None:
            self._response = response
            self.finished = kind in _LAST
            self._fields |= {name: value for name in _FIELDS if (value := get(response, name))}
        return True

    def attributes(self, content: bool, _: bool, /) -> Attributes:
        """Return the response's attributes; if the stream broke off, those of the text until then."""
        # The last response may lack what an earlier one had.
        attributes = {
            **read_safely(response_attributes, self._fields),
            **read_safely(responses_response, self._response, content),
        }
        if content and self._pieces and attributes.get("gen_ai.output.messages") is None:
            message = {"role": "assistant", "parts": [text("".join(self._pieces))]}
            attributes["gen_ai.output.messages"] = dumps([message])
        if self._error is not None:
            attributes["error.type"] = get(self._error, "code") or "error"
            attributes["error.message"] = get(self._error, "message") if content else None
        return attributes
