"""Images, audio and moderation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import MessagePart, blob, dumps, text, uri
from instrumentors.openai.fields import get, get_list, usage_attributes
from instrumentors.openai.messages import plain_text, prompt_request


def image_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of a request to draw or change an image."""
    return {
        **prompt_request(body, content),
        "gen_ai.request.model": body.get("model") or "dall-e-2",  # the service's own default
        "gen_ai.output.type": "image",
        names.IMAGE_COUNT: body.get("n") or 1,
        names.IMAGE_SIZE: body.get("size"),
        names.IMAGE_QUALITY: body.get("quality"),
    }


def image_response(response: Any, content: bool) -> Attributes:
    """Return the attributes of the images; all of them are one message."""
    images = get_list(get(response, "data"))
    attributes = {
        **usage_attributes(get(response, "usage")),
        names.IMAGE_COUNT: len(images) or None,
        names.IMAGE_SIZE: get(response, "size"),
        names.IMAGE_QUALITY: get(response, "quality"),
        "gen_ai.response.finish_reasons": ["stop"] if images else None,
    }
    if content and images:
        mime_type = f"image/{get(response, 'output_format') or 'png'}"
        parts = [
            blob(mime_type, data) if (data := get(image, "b64_json")) else uri(get(image, "url"), "image")
            for image in images
        ]
        attributes["gen_ai.output.messages"] = _output_message(parts)
    return attributes


def _output_message(parts: list[MessagePart]) -> str:
    return dumps([{"role": "assistant", "parts": parts, "finish_reason": "stop"}])


class ImageAccumulator:
    """The finished images of a stream; partial ones are left out."""

    def __init__(self) -> None:
        self._images: list[Any] = []

    def add(self, event: Any) -> bool:
        """Add an event."""
        if str(get(event, "type")).endswith(".completed"):
            self._images.append(event)
        return True

    def attributes(self, content: bool, _: bool, /) -> Attributes:
        """Return the attributes of the response that the events add up to."""
        response: dict[str, Any] = {"data": self._images}
        for image in self._images:
            fields = ("usage", "size", "quality", "output_format")
            response |= {field: value for field in fields if (value := get(image, field))}
        return image_response(response, content)


def transcript_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of the prompt; the audio is a file of the request."""
    return {**prompt_request(body, content), "gen_ai.output.type": "text"}


def transcript_response(response: Any, content: bool) -> Attributes:
    """Return the attributes of a transcript; the response is plain text if the application asked for that."""
    transcript = response if isinstance(response, str) else get(response, "text")
    shown = content and isinstance(transcript, str)
    return {
        **usage_attributes(get(response, "usage")),
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.output.messages": _output_message([text(transcript)]) if shown else None,
    }


class TranscriptAccumulator:
    """The events of a transcription; the last one holds the whole text."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._transcript: Any = None

    def add(self, event: Any) -> bool:
        """Add an event."""
        kind = get(event, "type")
        if kind == "transcript.text.delta":
            self._pieces.append(plain_text(get(event, "delta")))
        elif kind == "transcript.text.done":
            self._transcript = event
        return True

    def attributes(self, content: bool, _: bool, /) -> Attributes:
        """Return the attributes of the response that the events add up to."""
        if self._transcript is not None:
            return transcript_response(self._transcript, content)
        if not (content and self._pieces):
            return {}
        message = {"role": "assistant", "parts": [text("".join(self._pieces))]}
        return {"gen_ai.output.messages": dumps([message])}


def speech_request(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the attributes of the text that is to be spoken."""
    return {**prompt_request(body, content), "gen_ai.output.type": "speech"}


def speech_response(_: Any, __: bool) -> Attributes:
    """Return the finish reason alone: the answer is audio that only the application reads."""
    return {"gen_ai.response.finish_reasons": ["stop"]}


def moderation_response(response: Any, _: bool) -> Attributes:
    """Return id and model, and no tokens: a moderation is no generation, and free."""
    return {"gen_ai.response.id": get(response, "id"), "gen_ai.response.model": get(response, "model")}
