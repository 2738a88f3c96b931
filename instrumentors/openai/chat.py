"""Chat completions, and the legacy completions, whose answers are similar."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, read_piece, read_pieces, read_safely
from instrumentors.common.message_parts import Message, dumps
from instrumentors.openai.failures import choices_attributes
from instrumentors.openai.fields import finish_reason, get, get_list, response_attributes
from instrumentors.openai.messages import (
    input_attributes,
    join_content,
    join_thoughts,
    plain_text,
    to_message,
)


def chat_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of a chat's messages."""
    return input_attributes([to_message(message) for message in get_list(body.get("messages"))], content)


def chat_response(response: Any, content: bool, audio_format: str | None = None) -> Attributes:
    """Return the attributes of a completion; each choice is one output message."""
    choices = get_list(get(response, "choices"))
    reasons, calls, cites_web = [], 0, False
    for choice in choices:
        if reason := get(choice, "finish_reason"):
            reasons.append(finish_reason(reason))
        calls += len(get_list(get(choice, "message", "tool_calls")))
        calls += get(choice, "message", "function_call") is not None
        cites_web = cites_web or bool(get_list(get(choice, "message", "annotations")))
    return {
        **response_attributes(response),
        "gen_ai.response.finish_reasons": reasons or None,
        names.TOOL_CALL_COUNT: calls or None,
        names.WEB_SEARCH_USED: True if cites_web else None,
        **(read_safely(_output_attributes, choices, audio_format) if content and choices else {}),
    }


def _output_attributes(choices: Sequence[Any], audio_format: str | None) -> Attributes:
    messages = [_output_message(choice, audio_format) for choice in choices]
    return {"gen_ai.output.messages": dumps(messages)}


def _output_message(choice: Any, audio_format: str | None) -> Message:
    answer = get(choice, "message")
    message = to_message({"content": get(choice, "text")} if answer is None else answer, audio_format)
    if reason := get(choice, "finish_reason"):
        message["finish_reason"] = finish_reason(reason)
    return message


_FIELDS = ("id", "model", "system_fingerprint", "service_tier")
"""The fields of a whole stream: each is taken from the first chunk that has it."""


class _ToolCall:
    """The pieces of one tool call, added up."""

    __slots__ = ("arguments", "identifier", "name", "position")

    def __init__(self, position: Any) -> None:
        self.position = position
        self.identifier: Any = None
        self.name: Any = None
        self.arguments: list[Any] = []

    def as_response(self) -> dict[str, Any]:
        """Return the call as a response that was not streamed would hold it."""
        function = {"name": self.name, "arguments": _join_arguments(self.arguments)}
        return {"id": self.identifier, "function": function}


def _join_arguments(pieces: Sequence[Any]) -> Any:
    """Return the arguments: pieces of JSON text, or objects that some services send instead."""
    objects = [piece for piece in pieces if isinstance(piece, Mapping)]
    if objects:
        return {name: value for piece in objects for name, value in piece.items()}
    return "".join(piece if isinstance(piece, str) else dumps(piece) for piece in pieces)


def _join_base64(pieces: Sequence[str]) -> str:
    """Return the base64 of all bytes: pieces that are padded do not decode if they are joined as text."""
    try:
        return b64encode(b"".join(map(b64decode, pieces))).decode()
    except ValueError:  # the pieces are cuts through one text
        return "".join(pieces)


class _Choice:
    """The deltas of one choice, added up."""

    __slots__ = (
        "_open_calls",
        "annotations",
        "audio",
        "content",
        "error",
        "finish_reason",
        "reasoning",
        "refusal",
        "role",
        "tool_calls",
        "transcript",
    )

    def __init__(self) -> None:
        self.role = "assistant"
        self.content: list[Any] = []
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.audio: list[str] = []
        self.transcript: list[str] = []
        self.annotations: list[Any] = []
        self.tool_calls: list[_ToolCall] = []
        self._open_calls: dict[Any, _ToolCall] = {}
        self.finish_reason: str | None = None
        self.error: Any = None
        """The error that ended the choice; an empty one if the service names none."""

    def add(self, delta: Any) -> None:
        """Add a delta that is more than a piece of text."""
        if (content := get(delta, "content")) is not None:
            self.content.append(content)
        if role := get(delta, "role"):
            self.role = role
        if thoughts := read_piece(join_thoughts, delta):
            self.reasoning.append(thoughts)
        if refusal := get(delta, "refusal"):
            self.refusal.append(plain_text(refusal))
        if data := get(delta, "audio", "data"):
            self.audio.append(data)
        if words := get(delta, "audio", "transcript"):
            self.transcript.append(words)
        self.annotations += get_list(get(delta, "annotations"))
        read_pieces(self._add_tool_call, get_list(get(delta, "tool_calls")))
        if (call := get(delta, "function_call")) is not None:
            self._add_tool_call({"index": 0, "function": call})

    def _add_tool_call(self, call: Any) -> None:
        function = get(call, "function") or get(call, "custom")
        identifier, name = get(call, "id"), get(function, "name")
        if function is None and identifier is None:
            return
        whole = self._find_call(get(call, "index"), identifier, name)
        whole.identifier = identifier or whole.identifier
        whole.name = name or whole.name
        arguments = get(function, "arguments") or get(function, "input")
        if arguments:
            whole.arguments.append(arguments)

    def _find_call(self, index: Any, identifier: Any, name: Any) -> _ToolCall:
        """Return the call that a piece belongs to; services number calls, name them, or do neither."""
        if not isinstance(index, int):  # a name or a new id begins the next call
            last = next(reversed(self._open_calls), None)
            index = identifier or (f"{name} {len(self.tool_calls)}" if name or last is None else last)
        whole = self._open_calls.get(index)
        # Some services give every call the same number.
        if whole is None or (name and identifier and whole.identifier not in {None, identifier}):
            position = index if isinstance(index, int) and whole is None else len(self.tool_calls)
            whole = self._open_calls[index] = _ToolCall(position)
            self.tool_calls.append(whole)
        return whole

    def as_response(self, *, complete: bool) -> dict[str, Any]:
        """Return the choice as a response that was not streamed would hold it."""
        calls = sorted(self.tool_calls, key=lambda call: call.position)
        message = {
            "role": self.role,
            "content": join_content(self.content),
            "reasoning_content": "".join(self.reasoning) or None,
            "refusal": "".join(self.refusal) or None,
            "audio": {"data": _join_base64(self.audio), "transcript": "".join(self.transcript)},
            "annotations": self.annotations,
            "tool_calls": [call.as_response() for call in calls],
        }
        # A complete stream without a finish reason is an error; the reason of an abandoned one is unknown.
        return {"message": message, "finish_reason": self.finish_reason or ("error" if complete else None)}


class ChatAccumulator:
    """The chunks of a chat or text completion, added up.

    With `hide_usage` the application did not ask for usage: the chunk that brings it is hidden.
    """

    def __init__(
        self, *, hide_usage: bool = False, choices: int = 1, audio_format: str | None = None
    ) -> None:
        self._hide, self._audio_format = hide_usage, audio_format
        self._expected = choices
        self._fields: dict[str, Any] = {}
        self._missing = list(_FIELDS)
        self._usage: Any = None
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Any) -> bool:
        """Add a chunk; return False for the chunk that brings only the usage we asked for."""
        fields = chunk.__dict__
        choices, usage = fields.get("choices") or (), fields.get("usage")
        if self._missing:
            self._add_fields(fields)
        if usage is not None:
            self._usage = usage
            if tier := fields.get("service_tier"):
                self._fields["service_tier"] = tier  # the one that was billed
            if self._hide and not choices:
                return False
        elif self._usage is None and (usage := get(chunk, "x_groq", "usage")) is not None:
            self._usage = usage  # Groq, whose older service knows no option for it
        elif self._hide and "usage" in chunk.__pydantic_fields_set__:
            # If usage is asked for, the service writes "usage": null into every other chunk.
            chunk.__pydantic_fields_set__.discard("usage")
        for choice in choices:
            read_piece(self._add_choice, choice)
        return True

    @property
    def finished(self) -> bool:
        """Whether every choice has its finish reason, and the usage has come."""
        return (
            self._usage is not None
            and len(self._choices) >= self._expected
            and all(choice.finish_reason is not None for choice in self._choices.values())
        )

    def _add_choice(self, choice: Any) -> None:
        parts = choice.__dict__
        index = parts.get("index") or 0
        whole = self._choices.get(index)
        if whole is None:
            whole = self._choices[index] = _Choice()
        if (reason := parts.get("finish_reason")) is not None:
            whole.finish_reason = reason
            whole.error = get(choice, "error") or ({} if reason == "error" else None)
            if self._usage is None:
                self._usage = get(choice, "usage")  # Kimi
        delta = parts.get("delta")
        if delta is None:
            whole.content.append(parts.get("text") or "")
        elif len(delta.__pydantic_fields_set__) == 1 and (piece := delta.__dict__.get("content")):
            whole.content.append(piece)  # nearly every chunk
        else:
            whole.add(delta)

    def _add_fields(self, fields: Mapping[str, Any]) -> None:
        for name in self._missing:
            if value := fields.get(name):
                self._fields[name] = value
        self._missing = [name for name in self._missing if name not in self._fields]

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the attributes of the response that the chunks add up to."""
        response = {**self._fields, "usage": self._usage}
        response["choices"] = read_pieces(
            partial(_Choice.as_response, complete=complete),
            (choice for _, choice in sorted(self._choices.items())),
        )
        errors = [choice.error for choice in self._choices.values()]
        return chat_response(response, content, self._audio_format) | choices_attributes(errors, content)
