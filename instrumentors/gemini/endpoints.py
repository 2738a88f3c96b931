"""The methods of Gemini's and Vertex AI's REST API that are calls to a model. ADD A METHOD HERE: one row.

A new operation also needs a row in ``otel_posthog/conversion/operations.py``. Otherwise its span is read as
no model call. A request or response unlike the others' needs a reader of its own, in `generate_content`,
`embeddings` or `imagen`. Show it by a case in `tests/instrumentors/cases/gemini.py`. Interactions and live
sessions have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from instrumentors.common.call_span import Attributes
from instrumentors.gemini import embeddings, generate_content, imagen


class Endpoint(NamedTuple):
    """One method: its operation, and the functions that read attributes from its JSON.

    `request` takes the body, the model's name and whether to read content; `response` lacks the name.
    """

    operation: str
    request: Callable[[Mapping[str, Any], str, bool], Attributes]
    response: Callable[[Any, bool], Attributes]


_GENERATE = (generate_content.request_attributes, generate_content.response_attributes)
_EMBED = Endpoint("embeddings", embeddings.request_attributes, embeddings.response_attributes)

ENDPOINTS: dict[str, Endpoint] = {
    "generateContent": Endpoint("generate_content", *_GENERATE),
    "streamGenerateContent": Endpoint("generate_content", *_GENERATE),
    "embedContent": _EMBED,
    "batchEmbedContents": _EMBED,
}
"""By the method's name in the path. ``predict`` serves several operations: see `_predict`."""


def find_endpoint(path: str, request: Mapping[str, Any]) -> tuple[Endpoint, str] | None:
    """Return the endpoint and the model of a path such as ``models/gemini-2.5-flash:generateContent``."""
    resource, _, method = path.partition("?")[0].rpartition(":")
    model = resource.rpartition("/")[2]
    endpoint = _predict(request, model) if method == "predict" else ENDPOINTS.get(method)
    return (endpoint, model) if endpoint and model else None


def _predict(request: Mapping[str, Any], model: str) -> Endpoint | None:
    """Return the endpoint of a ``predict``, which shows in the model's name and in the request."""
    if "embedding" in model:
        return _EMBED
    operation = imagen.find_operation(request, model)
    if operation is None:
        return None
    return Endpoint(operation, imagen.request_attributes, imagen.response_attributes)
