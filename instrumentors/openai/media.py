"""Images and audio, made and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import Part, blob, dumps, text, uri
from instrumentors.openai.fields import get, listed, usage
from instrumentors.openai.messages import prompt_request

__all__ = [
    "ImageAccumulator",
    "TranscriptAccumulator",
    "image_request",
    "image_response",
    "speech_request",
    "speech_response",
    "transcript_request",
    "transcript_response",
]


def image_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """What is to be drawn, or to be changed."""
    return {
        **prompt_request(body, content),
        "gen_ai.request.model": body.get("model") or "dall-e-2",  # the service's own default
        "gen_ai.output.type": "image",
        "posthog.image.count": body.get("n") or 1,
        "posthog.image.size": body.get("size"),
        "posthog.image.quality": body.get("quality"),
    }


def image_response(response: Any, content: bool) -> Attributes:
    """The pictures."""
    pictures = listed(get(response, "data"))
    facts = {
        **usage(get(response, "usage")),
        "posthog.image.count": len(pictures) or None,
        "posthog.image.size": get(response, "size"),
        "posthog.image.quality": get(response, "quality"),
        "gen_ai.response.finish_reasons": ["stop"] if pictures else None,
    }
    if content and pictures:
        kind = f"image/{get(response, 'output_format') or 'png'}"
        parts = [
            blob(kind, data) if (data := get(picture, "b64_json")) else uri(get(picture, "url"), "image")
            for picture in pictures
        ]
        facts["gen_ai.output.messages"] = _said(parts)
    return facts


def _said(parts: list[Part]) -> str:
    return dumps([{"role": "assistant", "parts": parts, "finish_reason": "stop"}])


class ImageAccumulator:
    """Keeps the finished pictures of an image stream; partial ones are the user's alone."""

    def __init__(self) -> None:
        self._done: list[Any] = []

    def add(self, event: Any) -> bool:
        """Take an event."""
        if str(get(event, "type")).endswith(".completed"):
            self._done.append(event)
        return True

    def facts(self, content: bool, _: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        last = self._done[-1] if self._done else None
        names = ("usage", "size", "quality", "output_format")
        return image_response({"data": self._done, **{name: get(last, name) for name in names}}, content)


def transcript_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """What helps to understand the audio; the audio itself is a file of the request."""
    return {**prompt_request(body, content), "gen_ai.output.type": "text"}


def transcript_response(response: Any, content: bool) -> Attributes:
    """What was heard; the answer is plain text where the caller asked for that."""
    words = response if isinstance(response, str) else get(response, "text")
    return {
        **usage(get(response, "usage")),
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.output.messages": _said([text(words)]) if content and isinstance(words, str) else None,
    }


class TranscriptAccumulator:
    """Follows the events of a transcription, whose last one holds all of the text."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._done: Any = None

    def add(self, event: Any) -> bool:
        """Take an event."""
        kind = get(event, "type")
        if kind == "transcript.text.delta":
            self._words.append(get(event, "delta") or "")
        elif kind == "transcript.text.done":
            self._done = event
        return True

    def facts(self, content: bool, _: bool, /) -> Attributes:
        """Give what a response of its own would have given."""
        if self._done is not None:
            return transcript_response(self._done, content)
        if not (content and self._words):
            return {}
        return {
            "gen_ai.output.messages": dumps([{"role": "assistant", "parts": [text("".join(self._words))]}])
        }


def speech_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """The text that is to be spoken."""
    return {**prompt_request(body, content), "gen_ai.output.type": "speech"}


def speech_response(_: Any, __: bool) -> Attributes:
    """Nothing: the answer is audio that the user reads, or saves, when he likes."""
    return {"gen_ai.response.finish_reasons": ["stop"]}
