"""Chat completions, and the legacy completions, whose answers look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instrumentors.common.call_span import Attributes, read
from instrumentors.common.message_parts import dumps
from instrumentors.openai.fields import get, head, listed, reason
from instrumentors.openai.messages import asked, joined, message

__all__ = ["ChatAccumulator", "chat_request", "chat_response"]


def chat_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """The messages of a chat."""
    return asked([message(one) for one in listed(body.get("messages"))], content)


def chat_response(response: Any, content: bool) -> Attributes:
    """The choices, one output message each."""
    choices = listed(get(response, "choices"))
    reasons, calls, cited = [], 0, False
    for choice in choices:
        if finished := get(choice, "finish_reason"):
            reasons.append(reason(finished))
        calls += len(listed(get(choice, "message", "tool_calls")))
        cited = cited or bool(listed(get(choice, "message", "annotations")))
    return {
        **head(response),
        "gen_ai.response.finish_reasons": reasons or None,
        "posthog.tool_calls.count": calls or None,
        "posthog.web_search.used": True if cited else None,
        **(read(_said, choices) if content and choices else {}),
    }


def _said(choices: Sequence[Any]) -> Attributes:
    messages = []
    for choice in choices:
        answer = get(choice, "message")
        made = message({"content": get(choice, "text")} if answer is None else answer)
        if finished := get(choice, "finish_reason"):
            made["finish_reason"] = reason(finished)
        messages.append(made)
    return {"gen_ai.output.messages": dumps(messages)}


class _Choice:
    """What the deltas of one choice add up to."""

    __slots__ = ("annotations", "audio", "calls", "finish_reason", "refused", "role", "thoughts", "words")

    def __init__(self) -> None:
        self.role = "assistant"
        self.words: list[Any] = []
        self.thoughts: list[str] = []
        self.refused: list[str] = []
        self.audio: list[str] = []
        self.annotations: list[Any] = []
        self.calls: dict[Any, dict[str, Any]] = {}
        self.finish_reason: str | None = None

    def add(self, delta: Any) -> None:
        """Take a delta that is more than a piece of text."""
        if (content := get(delta, "content")) is not None:
            self.words.append(content)
        if role := get(delta, "role"):
            self.role = role
        for kept, name in ((self.refused, "refusal"), (self.thoughts, "reasoning_content")):
            if piece := get(delta, name):
                kept.append(piece)
        if sound := get(delta, "audio", "data"):
            self.audio.append(sound)
        self.annotations += listed(get(delta, "annotations"))
        for call in listed(get(delta, "tool_calls")):
            self._call(call)

    def _call(self, call: Any) -> None:
        index, identifier, name = get(call, "index"), get(call, "id"), get(call, "function", "name")
        if index is None:  # some services do not number them: a name begins a call, or another id
            begun = next(reversed(self.calls), None)
            index = identifier or (f"{name} {len(self.calls)}" if name or begun is None else begun)
        kept = self.calls.setdefault(index, {"place": len(self.calls), "arguments": []})
        if isinstance(index, int):
            kept["place"] = index
        kept["id"] = identifier or kept.get("id")
        kept["name"] = name or kept.get("name")
        kept["arguments"].append(get(call, "function", "arguments") or "")

    def whole(self, *, complete: bool) -> dict[str, Any]:
        """The choice as a response that was not streamed would hold it."""
        calls = [
            {"id": call["id"], "function": {"name": call["name"], "arguments": "".join(call["arguments"])}}
            for call in sorted(self.calls.values(), key=lambda call: call["place"])
        ]
        said = {
            "role": self.role,
            "content": joined(self.words),
            "reasoning_content": "".join(self.thoughts) or None,
            "refusal": "".join(self.refused) or None,
            "audio": {"data": "".join(self.audio)} if self.audio else None,
            "annotations": self.annotations,
            "tool_calls": calls,
        }
        # What should have been said and was not is an error; of a stream that was left nothing is known.
        return {"message": said, "finish_reason": self.finish_reason or ("error" if complete else None)}


class ChatAccumulator:
    """Adds up the chunks of a chat or text completion.

    With `hide_usage` the user did not ask for usage: its chunk is kept from him.
    """

    def __init__(self, *, hide_usage: bool = False) -> None:
        self._hide = hide_usage
        self._first: Any = None
        self._usage: Any = None
        self._tier: Any = None
        self._choices: dict[int, _Choice] = {}

    def add(self, chunk: Any) -> bool:
        """Take a chunk; false for the chunk that is there for us only."""
        fields = chunk.__dict__
        choices, used = fields.get("choices") or (), fields.get("usage")
        if self._first is None:
            self._first = chunk
        if used is not None:
            self._usage = used
            self._tier = fields.get("service_tier")
            if self._hide and not choices:
                return False
        elif self._hide and "usage" in chunk.__pydantic_fields_set__:
            # Asked for usage, the service says "usage": null in every other chunk.
            chunk.__pydantic_fields_set__.discard("usage")
        for choice in choices:
            parts = choice.__dict__
            index = parts.get("index") or 0
            known = self._choices.get(index)
            if known is None:
                known = self._choices[index] = _Choice()
            if (finished := parts.get("finish_reason")) is not None:
                known.finish_reason = finished
            delta = parts.get("delta")
            if delta is None:
                known.words.append(parts.get("text") or "")
            elif len(delta.__pydantic_fields_set__) == 1 and (piece := delta.__dict__.get("content")):
                known.words.append(piece)  # nearly every chunk
            else:
                known.add(delta)
        return True

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        first = self._first
        names = ("id", "model", "system_fingerprint")
        response = {name: get(first, name) for name in names} if first is not None else {}
        response["service_tier"] = self._tier or get(first, "service_tier")
        response["usage"] = self._usage
        response["choices"] = [one.whole(complete=complete) for _, one in sorted(self._choices.items())]
        return chat_response(response, content)
