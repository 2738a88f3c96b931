"""What OpenAI's requests, responses and stream events say, one table entry per endpoint.

Requests are read as the JSON that the SDK is about to send, responses as the SDK's objects or plain JSON:
`_get` does for both. Readers return span attributes; a value of None means that it was not given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from instrumentors.messages import Part, blob, dumps, text, text_length, tool_call, tool_result, uri
from instrumentors.spans import Attributes
from instrumentors.streams import Gather

_FINISH = {"tool_calls": "tool_call", "function_call": "tool_call", "max_output_tokens": "length"}
_ROLES = {"developer": "system", "function": "tool"}

# One table for all endpoints: a name means the same wherever it occurs.
_PARAMETERS = (
    ("model", "gen_ai.request.model"),
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("frequency_penalty", "gen_ai.request.frequency_penalty"),
    ("presence_penalty", "gen_ai.request.presence_penalty"),
    ("seed", "gen_ai.request.seed"),
    ("max_tokens", "gen_ai.request.max_tokens"),
    ("max_completion_tokens", "gen_ai.request.max_tokens"),
    ("max_output_tokens", "gen_ai.request.max_tokens"),
    ("previous_response_id", "gen_ai.request.previous_response.id"),
    ("dimensions", "gen_ai.embeddings.dimension.count"),
    ("service_tier", "openai.request.service_tier"),
)


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        if value is None:
            return None
    return value


def _list(value: Any) -> list[Any]:
    # Never an iterator: the user's generators are for the SDK to read.
    return list(value) if isinstance(value, (list, tuple)) else []


# --- requests -----------------------------------------------------------------------------------------------


def _parameters(body: Mapping[str, Any]) -> Attributes:
    found: Attributes = {
        attribute: body[name]
        for name, attribute in _PARAMETERS
        if isinstance(body.get(name), (str, int, float)) and not isinstance(body[name], bool)
    }
    stop, count = body.get("stop"), body.get("n")
    if isinstance(stop, str):
        found["gen_ai.request.stop_sequences"] = [stop]
    elif _list(stop):
        found["gen_ai.request.stop_sequences"] = _list(stop)
    if isinstance(count, int) and count != 1:
        found["gen_ai.request.choice.count"] = count
    if body.get("stream") is True:
        found["gen_ai.request.stream"] = True
    if isinstance(encoding := body.get("encoding_format"), str):
        found["gen_ai.request.encoding_formats"] = [encoding]
    level = body.get("reasoning_effort") or _get(body, "reasoning", "effort")
    if isinstance(level, str):
        found["gen_ai.request.reasoning.level"] = found["posthog.thinking.level"] = level
    shape = _get(body, "response_format", "type") or _get(body, "text", "format", "type")
    if isinstance(shape, str):
        found["gen_ai.output.type"] = "text" if shape == "text" else "json"
    if "audio" in _list(body.get("modalities")):
        found["gen_ai.output.type"] = "speech"
    return found


def _tools(body: Mapping[str, Any], content: bool) -> Attributes:
    definitions = []
    tools = _list(body.get("tools")) + [{"type": "function", **f} for f in _list(body.get("functions"))]
    for tool in tools:
        function = _get(tool, "function")
        definitions.append({"type": _get(tool, "type"), **function} if function else tool)
    kinds = [str(_get(tool, "type")) for tool in tools]
    search = (
        any(kind.startswith("web_search") for kind in kinds) or body.get("web_search_options") is not None
    )
    return {
        "posthog.tools.count": len(tools) or None,
        "posthog.web_search.enabled": True if search else None,
        "gen_ai.tool.definitions": dumps(definitions) if definitions and content else None,
    }


def _asked(messages: list[Part], content: bool, *, system: list[Part] | None = None) -> Attributes:
    files = sum(
        part.get("type") in {"blob", "uri", "file"} for message in messages for part in message["parts"]
    )
    facts: Attributes = {
        "posthog.prompt.length": text_length(messages) + text_length(system or []),
        "posthog.messages.count": len(messages),
        "posthog.files.count": files or None,
    }
    if content:
        facts["gen_ai.input.messages"] = dumps(messages)
        if system:
            facts["gen_ai.system_instructions"] = dumps(system)
    return facts


def _content_part(item: Any) -> Part:
    """Read one part of a message's content, of chat or responses, asked or answered."""
    kind = str(_get(item, "type"))
    if kind in {"text", "input_text", "output_text", "summary_text", "reasoning_text"}:
        return text(_get(item, "text"))
    if kind in {"image_url", "input_image"}:
        address = _get(item, "image_url", "url") if kind == "image_url" else _get(item, "image_url")
        if address:
            return uri(address, "image")
        return {"type": "file", "file_id": _get(item, "file_id"), "modality": "image"}
    if kind == "input_audio":
        audio = _get(item, "input_audio")
        return blob(f"audio/{_get(audio, 'format')}", _get(audio, "data"))
    if kind in {"file", "input_file"}:
        file = _get(item, "file") or item
        if data := _get(file, "file_data") or _get(file, "file_url"):
            return uri(data, "document")
        return {"type": "file", "file_id": _get(file, "file_id"), "modality": "document"}
    if kind == "refusal":
        return {"type": "refusal", "content": _get(item, "refusal")}
    return {"type": kind}


def _content(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [text(content)] if content else []
    return [_content_part(item) for item in _list(content)]


def _message(message: Any) -> Part:
    """Read a chat message, asked or answered."""
    role = str(_get(message, "role") or "assistant")
    parts = _content(_get(message, "content"))
    if role in {"tool", "function"}:
        answer = _get(message, "content")
        result = answer if isinstance(answer, str) else parts
        parts = [tool_result(result, _get(message, "tool_call_id"), _get(message, "name"))]
    if thought := _get(message, "reasoning_content"):
        parts.insert(0, {"type": "reasoning", "content": thought})
    if refusal := _get(message, "refusal"):
        parts.append({"type": "refusal", "content": refusal})
    for call in _list(_get(message, "tool_calls")):
        function = _get(call, "function") or _get(call, "custom")
        arguments = _get(function, "arguments") or _get(function, "input")
        parts.append(tool_call(_get(function, "name"), arguments, _get(call, "id")))
    if call := _get(message, "function_call"):
        parts.append(tool_call(_get(call, "name"), _get(call, "arguments")))
    if audio := _get(message, "audio", "data"):
        parts.append(blob("audio/wav", audio))
    return {"role": _ROLES.get(role, role), "parts": parts}


def _chat_request(body: Mapping[str, Any], content: bool) -> Attributes:
    return _asked([_message(message) for message in _list(body.get("messages"))], content)


def _prompt_request(body: Mapping[str, Any], content: bool) -> Attributes:
    given = body.get("prompt") if "prompt" in body else body.get("input")
    texts = [given] if isinstance(given, str) else [one for one in _list(given) if isinstance(one, str)]
    return _asked([{"role": "user", "parts": [text(one)]} for one in texts], content)


def _image_request(body: Mapping[str, Any], content: bool) -> Attributes:
    return {
        **_prompt_request(body, content),
        "gen_ai.request.model": body.get("model") or "dall-e-2",  # the service's own default
        "gen_ai.output.type": "image",
        "posthog.image.count": body.get("n") or 1,
        "posthog.image.size": body.get("size"),
        "posthog.image.quality": body.get("quality"),
    }


def _item(item: Any) -> Part:
    """Read one item of a responses call, asked or answered, as a message."""
    kind = str(_get(item, "type") or "message")
    identifier = _get(item, "call_id") or _get(item, "id")
    if kind == "message":
        role = str(_get(item, "role") or "user")
        return {"role": _ROLES.get(role, role), "parts": _content(_get(item, "content"))}
    if kind in {"function_call", "custom_tool_call"}:
        arguments = _get(item, "arguments") or _get(item, "input")
        return {"role": "assistant", "parts": [tool_call(_get(item, "name"), arguments, identifier)]}
    if kind in {"function_call_output", "custom_tool_call_output"}:
        return {"role": "tool", "parts": [tool_result(_get(item, "output"), identifier)]}
    if kind == "reasoning":
        thoughts = _content(_get(item, "summary")) + _content(_get(item, "content"))
        words = "\n".join(str(thought.get("content")) for thought in thoughts)
        return {"role": "assistant", "parts": [{"type": "reasoning", "content": words}] if words else []}
    if kind == "image_generation_call" and (picture := _get(item, "result")):
        return {
            "role": "assistant",
            "parts": [blob(f"image/{_get(item, 'output_format') or 'png'}", picture)],
        }
    name = kind.removesuffix("_call")
    detail = {"type": name, "status": _get(item, "status"), **_plain(_get(item, "action"))}
    part = {"type": "server_tool_call", "id": identifier, "name": name, "server_tool_call": detail}
    return {"role": "assistant", "parts": [part]}


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    return dict(value.model_dump(exclude_none=True)) if hasattr(value, "model_dump") else {}


def _responses_request(body: Mapping[str, Any], content: bool) -> Attributes:
    given, instructions = body.get("input"), body.get("instructions")
    messages = (
        [{"role": "user", "parts": [text(given)]}]
        if isinstance(given, str)
        else list(map(_item, _list(given)))
    )
    system = [text(instructions)] if isinstance(instructions, str) else None
    drawing = next(
        (tool for tool in _list(body.get("tools")) if _get(tool, "type") == "image_generation"), None
    )
    conversation = body.get("conversation")
    return {
        **_asked(messages, content, system=system),
        "gen_ai.conversation.id": conversation if isinstance(conversation, str) else _get(conversation, "id"),
        "posthog.image.size": _get(drawing, "size"),
        "posthog.image.quality": _get(drawing, "quality"),
    }


# --- responses ----------------------------------------------------------------------------------------------


def _usage(usage: Any) -> Attributes:
    """Read token counts under the names of chat or of responses and images."""
    if usage is None:
        return {}
    asked = _get(usage, "prompt_tokens_details") or _get(usage, "input_tokens_details")
    told = _get(usage, "completion_tokens_details") or _get(usage, "output_tokens_details")
    inputs, outputs = _get(usage, "prompt_tokens"), _get(usage, "completion_tokens")
    facts = {
        "gen_ai.usage.input_tokens": _get(usage, "input_tokens") if inputs is None else inputs,
        "gen_ai.usage.output_tokens": _get(usage, "output_tokens") if outputs is None else outputs,
        "gen_ai.usage.cache_read.input_tokens": _get(asked, "cached_tokens"),
        "gen_ai.usage.cache_write.input_tokens": _get(asked, "cache_write_tokens"),
        "gen_ai.usage.reasoning.output_tokens": _get(told, "reasoning_tokens"),
    }
    for kind in ("text", "image", "audio"):
        # The services fill in zeros for the kinds that a call had nothing to do with.
        facts[f"gen_ai.usage.{kind}.input_tokens"] = _get(asked, f"{kind}_tokens") or None
        facts[f"gen_ai.usage.{kind}.output_tokens"] = _get(told, f"{kind}_tokens") or None
    return facts


def _head(response: Any) -> Attributes:
    return {
        "gen_ai.response.id": _get(response, "id"),
        "gen_ai.response.model": _get(response, "model"),
        "openai.response.service_tier": _get(response, "service_tier"),
        "openai.response.system_fingerprint": _get(response, "system_fingerprint"),
        **_usage(_get(response, "usage")),
    }


def _reason(reason: Any) -> str:
    return _FINISH.get(str(reason), str(reason))


def _chat_response(response: Any, content: bool) -> Attributes:
    choices = _list(_get(response, "choices"))
    reasons = [_reason(_get(choice, "finish_reason")) for choice in choices if _get(choice, "finish_reason")]
    calls = sum(len(_list(_get(choice, "message", "tool_calls"))) for choice in choices)
    cited = any(_list(_get(choice, "message", "annotations")) for choice in choices)
    facts = {
        **_head(response),
        "gen_ai.response.finish_reasons": reasons or None,
        "posthog.tool_calls.count": calls or None,
        "posthog.web_search.used": True if cited else None,
    }
    if content and choices:
        messages = []
        for choice in choices:
            message = _get(choice, "message") or {"role": "assistant", "content": _get(choice, "text")}
            reason = _get(choice, "finish_reason")
            messages.append(_message(message) | ({"finish_reason": _reason(reason)} if reason else {}))
        facts["gen_ai.output.messages"] = dumps(messages)
    return facts


def _responses_response(response: Any, content: bool) -> Attributes:
    items = _list(_get(response, "output"))
    kinds = [str(_get(item, "type")) for item in items]
    status = _get(response, "status")
    calls = sum(kind in {"function_call", "custom_tool_call"} for kind in kinds)
    searches = kinds.count("web_search_call")
    reason = None
    if status == "completed":
        reason = "tool_call" if calls else "stop"
    elif status == "incomplete":
        reason = _reason(_get(response, "incomplete_details", "reason"))
    elif status in {"failed", "cancelled"}:
        reason = "error"
    facts = {
        **_head(response),
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "posthog.tool_calls.count": calls or None,
        "posthog.web_search.used": True if searches else None,
        "posthog.web_search.count": searches or None,
        "posthog.image.count": kinds.count("image_generation_call") or None,
    }
    if status == "failed":
        facts["error.type"] = _get(response, "error", "code") or "server_error"
        facts["error.message"] = _get(response, "error", "message") if content else None
    if content and items:
        parts = [part for item in items for part in _item(item)["parts"]]
        facts["gen_ai.output.messages"] = dumps(
            [{"role": "assistant", "parts": parts, "finish_reason": reason or "error"}]
        )
    return facts


def _image_response(response: Any, content: bool) -> Attributes:
    pictures = _list(_get(response, "data"))
    facts = {
        **_usage(_get(response, "usage")),
        "posthog.image.count": len(pictures) or None,
        "posthog.image.size": _get(response, "size"),
        "posthog.image.quality": _get(response, "quality"),
        "gen_ai.response.finish_reasons": ["stop"] if pictures else None,
    }
    if content and pictures:
        kind = f"image/{_get(response, 'output_format') or 'png'}"
        parts = [
            blob(kind, data) if (data := _get(picture, "b64_json")) else uri(_get(picture, "url"), "image")
            for picture in pictures
        ]
        facts["gen_ai.output.messages"] = dumps(
            [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]
        )
    return facts


def _embeddings_response(response: Any, _: bool) -> Attributes:
    return _head(response)


# --- streams ------------------------------------------------------------------------------------------------


class ChatGather:
    """Adds up the chunks of a chat or text completion.

    With `hide_usage` the user did not ask for usage: its chunk is kept from him.
    """

    def __init__(self, *, hide_usage: bool = False) -> None:
        self._hide, self._head = hide_usage, {}
        self._choices: dict[int, dict[str, Any]] = {}

    _head: dict[str, Any]

    def add(self, chunk: Any) -> bool:
        """Take a chunk; false for the chunk that is there for us only."""
        choices, usage = getattr(chunk, "choices", None) or (), getattr(chunk, "usage", None)
        if not self._head:
            for name in ("id", "model", "system_fingerprint", "service_tier"):
                self._head[name] = _get(chunk, name)
        if usage is not None:
            self._head["usage"] = usage
            if self._hide and not choices:
                return False
        elif self._hide:
            # Asked for usage, the service says "usage": null in every other chunk.
            getattr(chunk, "model_fields_set", set()).discard("usage")
        for choice in choices:
            self._add_choice(choice)
        return True

    def _add_choice(self, choice: Any) -> None:
        known = self._choices.get(choice.index)
        if known is None:
            known = self._choices[choice.index] = {
                "role": "assistant",
                "words": [],
                "refused": [],
                "calls": {},
            }
        if choice.finish_reason:
            known["finish_reason"] = choice.finish_reason
        delta = getattr(choice, "delta", None)
        if delta is None:
            known["words"].append(_get(choice, "text") or "")
            return
        if delta.content:
            known["words"].append(delta.content)
        if delta.role:
            known["role"] = delta.role
        if delta.refusal:
            known["refused"].append(delta.refusal)
        for call in delta.tool_calls or ():
            kept = known["calls"].setdefault(call.index, {"id": None, "name": None, "arguments": []})
            kept["id"] = call.id or kept["id"]
            if call.function:
                kept["name"] = call.function.name or kept["name"]
                kept["arguments"].append(call.function.arguments or "")

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        choices = []
        for _, known in sorted(self._choices.items()):
            calls = [
                {
                    "id": call["id"],
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for _, call in sorted(known["calls"].items())
            ]
            message = {"role": known["role"], "content": "".join(known["words"]), "tool_calls": calls}
            message["refusal"] = "".join(known["refused"]) or None
            reason = known.get("finish_reason") or ("error" if complete else None)
            choices.append({"message": message, "finish_reason": reason})
        return _chat_response({**self._head, "choices": choices}, content)


class ResponsesGather:
    """Follows the events of a responses stream, whose last one holds the whole response."""

    def __init__(self) -> None:
        self._response: Any = None
        self._error: Any = None
        self._words: list[str] = []

    def add(self, event: Any) -> bool:
        """Take an event."""
        kind = _get(event, "type")
        if kind == "response.output_text.delta":
            self._words.append(event.delta)
        elif kind == "error":
            self._error = event
        elif (response := _get(event, "response")) is not None:
            self._response = response
        return True

    def facts(self, content: bool, _: bool, /) -> Attributes:
        """Give the response's attributes, or of a stream that broke off what came so far."""
        facts = _responses_response(self._response, content)
        if content and self._words and "gen_ai.output.messages" not in facts:
            message = {"role": "assistant", "parts": [text("".join(self._words))]}
            facts["gen_ai.output.messages"] = dumps([message])
        if self._error is not None:
            facts["error.type"] = _get(self._error, "code") or "error"
            facts["error.message"] = _get(self._error, "message") if content else None
        return facts


class ImageGather:
    """Keeps the finished pictures of an image stream; partial ones are the user's alone."""

    def __init__(self) -> None:
        self._done: list[Any] = []

    def add(self, event: Any) -> bool:
        """Take an event."""
        if str(_get(event, "type")).endswith(".completed"):
            self._done.append(event)
        return True

    def facts(self, content: bool, _: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        last = self._done[-1] if self._done else None
        names = ("usage", "size", "quality", "output_format")
        return _image_response({"data": self._done, **{name: _get(last, name) for name in names}}, content)


# --- the table ----------------------------------------------------------------------------------------------


class Endpoint(NamedTuple):
    """How to read one endpoint."""

    operation: str
    request: Callable[[Mapping[str, Any], bool], Attributes]
    response: Callable[[Any, bool], Attributes]
    gather: Callable[[], Gather] | None = None


_IMAGES = Endpoint("image_generation", _image_request, _image_response, ImageGather)

ENDPOINTS: dict[str, Endpoint] = {
    "/chat/completions": Endpoint("chat", _chat_request, _chat_response, ChatGather),
    "/completions": Endpoint("text_completion", _prompt_request, _chat_response, ChatGather),
    "/responses": Endpoint("chat", _responses_request, _responses_response, ResponsesGather),
    "/embeddings": Endpoint("embeddings", _prompt_request, _embeddings_response),
    "/images/generations": _IMAGES,
    "/images/edits": _IMAGES,
    "/images/variations": _IMAGES,
}


def request_facts(endpoint: Endpoint, body: Mapping[str, Any], files: Any, content: bool) -> Attributes:
    """Read a request: its parameters, tools, messages and attached files."""
    facts = {
        "gen_ai.operation.name": endpoint.operation,
        **_parameters(body),
        **_tools(body, content),
        **endpoint.request(body, content),
    }
    if references := _references(files):
        facts["posthog.image.reference_count"] = facts["posthog.files.count"] = references
    return facts


def _references(files: Any) -> int:
    pairs: Iterable[Any] = files.items() if isinstance(files, Mapping) else _list(files)
    names = [pair[0] for pair in pairs if isinstance(pair, tuple)]
    return sum(str(name).startswith("image") for name in names)
