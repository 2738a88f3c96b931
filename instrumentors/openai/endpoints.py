"""The endpoints that are calls to a model. ADD AN ENDPOINT HERE: one row of `ENDPOINTS`.

A new operation also needs a row in ``otel_posthog/conversion/operations.py``. Otherwise its span is read as
no model call. A request or response unlike the others' needs a reader of its own, in `chat`, `responses` or
`media`; a parameter of any endpoint is a row of `fields.PARAMETERS`. Show it by a case in
`tests/instrumentors/cases/openai.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from instrumentors.common.call_span import Attributes
from instrumentors.common.streams import StreamAccumulator
from instrumentors.openai.chat import ChatAccumulator, chat_request, chat_response
from instrumentors.openai.fields import response_attributes
from instrumentors.openai.media import (
    ImageAccumulator,
    TranscriptAccumulator,
    image_request,
    image_response,
    moderation_response,
    speech_request,
    speech_response,
    transcript_request,
    transcript_response,
)
from instrumentors.openai.messages import prompt_request
from instrumentors.openai.responses import (
    ResponsesAccumulator,
    decisions_request,
    responses_request,
    responses_response,
)


class Endpoint(NamedTuple):
    """One endpoint: its operation, and the functions that read attributes from its JSON.

    `request` and `response` take the body and whether content is wanted. `accumulator` adds up the chunks of
    a streamed response.
    """

    operation: str
    request: Callable[[Mapping[str, Any], bool], Attributes]
    response: Callable[[Any, bool], Attributes]
    accumulator: Callable[[], StreamAccumulator] | None = None


_IMAGES = (image_request, image_response, ImageAccumulator)
_TRANSCRIPTS = (transcript_request, transcript_response, TranscriptAccumulator)

ENDPOINTS: dict[str, Endpoint] = {
    "/chat/completions": Endpoint("chat", chat_request, chat_response, ChatAccumulator),
    "/completions": Endpoint("text_completion", prompt_request, chat_response, ChatAccumulator),
    "/responses": Endpoint("chat", responses_request, responses_response, ResponsesAccumulator),
    "/responses/compact": Endpoint("chat", responses_request, response_attributes),
    "/decisions": Endpoint("chat", decisions_request, response_attributes),
    "/embeddings": Endpoint("embeddings", prompt_request, response_attributes),
    "/moderations": Endpoint("moderation", prompt_request, moderation_response),
    "/images/generations": Endpoint("image_generation", *_IMAGES),
    "/images/edits": Endpoint("image_edit", *_IMAGES),
    "/images/variations": Endpoint("image_variation", *_IMAGES),
    "/audio/transcriptions": Endpoint("transcription", *_TRANSCRIPTS),
    "/audio/translations": Endpoint("translation", *_TRANSCRIPTS),
    "/audio/speech": Endpoint("speech", speech_request, speech_response),
}
"""By path. Every other path (files, batches, assistants, fine-tuning) is no call to a model."""

_AFTER_VERSION = re.compile(r"(?:^|/)(?:v\d\w*|openai|deployments/[^/]+)/(.+)")
"""The path behind the version of a whole URL, or behind a deployment of Azure's."""


@lru_cache(maxsize=512)
def normalize_path(url: str) -> str:
    """Return a path of `ENDPOINTS` as the application may spell it: a whole URL, a query, no first slash."""
    path = "/".join(filter(None, urlsplit(url).path.split("/")))
    while f"/{path}" not in ENDPOINTS and (behind := _AFTER_VERSION.search(path)) is not None:
        path = behind[1]
    return f"/{path}"


def find_endpoint(url: str) -> Endpoint | None:
    """Return the endpoint of a request's path; None if it is no call to a model."""
    return ENDPOINTS.get(normalize_path(url))
