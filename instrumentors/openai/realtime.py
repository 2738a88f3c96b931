"""Realtime's JSON in the shape of the Responses API, and the conversation that its events add up to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.openai.fields import get, get_list
from instrumentors.openai.responses import responses_response

OPERATION = "realtime_inference"

_AUDIO = frozenset({"input_audio", "output_audio", "audio"})


def as_dict(value: Any) -> dict[str, Any]:
    """Return a copy of JSON that the application gave as a dict, or as the SDK's object."""
    if isinstance(value, Mapping):
        return dict(value)
    return dict(value.model_dump(exclude_none=True, warnings=False)) if hasattr(value, "model_dump") else {}


def _to_content(part: Any) -> Any:
    """Return a part of a message: of audio its transcript, else its data, else its type alone."""
    if get(part, "type") not in _AUDIO:
        return part
    if isinstance(transcript := get(part, "transcript"), str):
        return {"type": "text", "text": transcript}
    if data := get(part, "audio"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": "pcm"}}
    return {"type": "audio"}


def to_item(item: Any) -> Any:
    """Return an item of a conversation as the Responses API has it."""
    content = get(item, "content")
    return (
        {**as_dict(item), "content": [_to_content(part) for part in get_list(content)]} if content else item
    )


def realtime_response(response: Any, content: bool) -> Attributes:
    """Return the attributes of a response of a Realtime session."""
    usage, details = as_dict(get(response, "usage")), get(response, "status_details")
    usage.setdefault("output_tokens_details", usage.pop("output_token_details", None))
    audio_cached = get(usage, "input_token_details", "cached_tokens_details", "audio_tokens")
    as_response = {
        **as_dict(response),
        "usage": usage,
        "output": [to_item(item) for item in get_list(get(response, "output"))],
        "incomplete_details": details,
        "error": get(details, "error"),
    }
    return {
        **responses_response(as_response, content),
        "gen_ai.conversation.id": get(response, "conversation_id"),
        "gen_ai.usage.audio.cache_read.input_tokens": audio_cached or None,
    }


class Conversation:
    """The default conversation of a Realtime session: its settings, and the items since the last response."""

    def __init__(self) -> None:
        self.session: dict[str, Any] = {}
        self.items: list[dict[str, Any]] = []
        self.input_ended: float | None = None
        """The time at which the service heard the end of speech."""
        self._unconfirmed: list[dict[str, Any]] = []
        """Items of the application that the service has not repeated yet."""

    def add_sent(self, kind: str, event: Any) -> None:
        """Add an event of the application's."""
        if kind == "session.update":
            self.session |= as_dict(get(event, "session"))
        elif kind == "conversation.item.create" and (item := as_dict(get(event, "item"))):
            self.items.append(item)
            self._unconfirmed.append(item)

    def add_received(self, kind: str, event: dict[str, Any]) -> None:
        """Add an event of the service's."""
        if kind in _SPEECH_ENDS:
            self.input_ended = time.perf_counter()
        elif kind in {"session.created", "session.updated"}:
            self.session |= as_dict(event.get("session"))
        elif kind in {"conversation.item.added", "conversation.item.created"}:
            self._add_item(as_dict(event.get("item")))
        elif kind == "conversation.item.deleted":
            self.items = [item for item in self.items if item.get("id") != event.get("item_id")]

    def _add_item(self, item: dict[str, Any]) -> None:
        for sent in self._unconfirmed:
            if sent.get("id", item.get("id")) == item.get("id") and _shape(sent) == _shape(item):
                sent["id"] = item.get("id")
                self._unconfirmed.remove(sent)
                return
        by_model = item.get("role") == "assistant" or item.get("type") in {"function_call", "mcp_call"}
        if item.get("id") and not by_model:
            self.items.append(item)

    def take_items(self) -> list[dict[str, Any]]:
        """Return the items since the last response, which are the input of the next one."""
        items, self.items = self.items, []
        return items

    def request_body(self, response: Mapping[str, Any], items: list[Any]) -> dict[str, Any]:
        """Return the request of a response, as the Responses API has it."""
        body = {name: value for name, value in {**self.session, **response}.items() if value is not None}
        limit = body.pop("max_response_output_tokens", body.pop("max_output_tokens", None))
        if isinstance(limit, int):
            body["max_output_tokens"] = limit
        body["modalities"] = body.get("output_modalities") or body.get("modalities")
        return {**body, "input": [to_item(item) for item in items], "conversation": None, "text": None}


_SPEECH_ENDS = frozenset({"input_audio_buffer.speech_stopped", "input_audio_buffer.timeout_triggered"})


def _shape(item: Mapping[str, Any]) -> Any:
    """Return the outside of an item, by which the service's copy of it is known."""
    kinds = [get(part, "type") for part in get_list(item.get("content"))]
    return item.get("type") or "message", item.get("role"), kinds, item.get("call_id")


def add_transcript(item: dict[str, Any], transcript: Any) -> None:
    """Write down what was spoken in an item; its audio is no longer needed."""
    item["content"] = [
        {"type": "input_audio", "transcript": transcript} if get(part, "type") in _AUDIO else part
        for part in get_list(item.get("content"))
    ] or [{"type": "input_audio", "transcript": transcript}]
