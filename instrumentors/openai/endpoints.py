"""What OpenAI's requests, responses and stream events say, one table entry per endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from instrumentors.common.call_span import Attributes, read
from instrumentors.common.streams import StreamAccumulator
from instrumentors.openai.chat import ChatAccumulator, chat_request, chat_response
from instrumentors.openai.fields import get, head, listed, parameters, tools
from instrumentors.openai.media import (
    ImageAccumulator,
    TranscriptAccumulator,
    image_request,
    image_response,
    speech_request,
    speech_response,
    transcript_request,
    transcript_response,
)
from instrumentors.openai.messages import prompt_request
from instrumentors.openai.raw_stream import events_facts
from instrumentors.openai.responses import ResponsesAccumulator, responses_request, responses_response

__all__ = ["ENDPOINTS", "ChatAccumulator", "Endpoint", "Nothing", "events_facts", "request_facts"]


class Endpoint(NamedTuple):
    """How to read one endpoint."""

    operation: str
    request: Callable[[Mapping[str, Any], bool], Attributes]
    response: Callable[[Any, bool], Attributes]
    gather: Callable[[], StreamAccumulator] | None = None


def _head_response(response: Any, _: bool) -> Attributes:
    return head(response)


def _decisions_request(body: Mapping[str, Any], content: bool) -> Attributes:
    if isinstance(body.get("input"), str):
        return prompt_request(body, content)
    return responses_request(body, content)


def _moderation_response(response: Any, _: bool) -> Attributes:
    """No tokens: a moderation is no generation, and free."""
    return {"gen_ai.response.id": get(response, "id"), "gen_ai.response.model": get(response, "model")}


_TRANSCRIPT = (transcript_request, transcript_response, TranscriptAccumulator)
_IMAGES = (image_request, image_response, ImageAccumulator)

ENDPOINTS: dict[str, Endpoint] = {
    "/chat/completions": Endpoint("chat", chat_request, chat_response, ChatAccumulator),
    "/completions": Endpoint("text_completion", prompt_request, chat_response, ChatAccumulator),
    "/responses": Endpoint("chat", responses_request, responses_response, ResponsesAccumulator),
    "/responses/compact": Endpoint("chat", responses_request, _head_response),
    "/decisions": Endpoint("chat", _decisions_request, _head_response),
    "/embeddings": Endpoint("embeddings", prompt_request, _head_response),
    "/moderations": Endpoint("moderation", prompt_request, _moderation_response),
    "/images/generations": Endpoint("image_generation", *_IMAGES),
    "/images/edits": Endpoint("image_edit", *_IMAGES),
    "/images/variations": Endpoint("image_variation", *_IMAGES),
    "/audio/transcriptions": Endpoint("transcription", *_TRANSCRIPT),
    "/audio/translations": Endpoint("translation", *_TRANSCRIPT),
    "/audio/speech": Endpoint("speech", speech_request, speech_response),
}
"""By path; whatever else is posted (files, batches, assistants, fine-tuning) is no call to a model."""


def request_facts(endpoint: Endpoint, body: Mapping[str, Any], files: Any, content: bool) -> Attributes:
    """Read a request: its parameters, tools, messages and attached files."""
    facts = {
        "gen_ai.operation.name": endpoint.operation,
        **parameters(body),
        **read(tools, body, content),
        **read(endpoint.request, body, content),
    }
    if files:
        names = [str(name) for name in _names(files)]
        facts["posthog.files.count"] = len(names) or None
        facts["posthog.image.reference_count"] = sum(name.startswith("image") for name in names) or None
    return facts


def _names(files: Any) -> Iterable[Any]:
    pairs = files.items() if isinstance(files, Mapping) else listed(files)
    return [pair[0] for pair in pairs if isinstance(pair, tuple)]


class Nothing:
    """Follows a stream of which nothing is known but that it came."""

    def add(self, _: Any) -> bool:
        """Take a chunk."""
        return True

    def facts(self, _: bool, __: bool, /) -> Attributes:
        """Give nothing."""
        return {}
