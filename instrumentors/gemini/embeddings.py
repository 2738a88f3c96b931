"""Embeddings, by the Developer API's methods and by Vertex AI's ``predict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import text
from instrumentors.gemini.generate_content import usage_attributes
from instrumentors.gemini.messages import input_attributes, to_message
from instrumentors.gemini.payload import add_counts, get, get_list, without_none


def request_attributes(request: Mapping[str, Any], _: str, content: bool) -> Attributes:
    """Return the attributes of a request; each text is one message."""
    requests = get_list(get(request, "requests")) or [request]
    texts = [to_message(get(one, "content")) for one in requests if get(one, "content")]
    # Vertex AI's predict: {"instances": [{"content": "..."}]}.
    texts += [
        {"role": "user", "parts": [text(get(one, "content"))]} for one in get_list(get(request, "instances"))
    ]
    size = get(requests[0], "outputDimensionality") or get(request, "parameters", "outputDimensionality")
    return {"gen_ai.embeddings.dimension.count": size, **input_attributes(texts, content)}


def response_attributes(response: Any, _: bool) -> Attributes:
    """Return token counts: Vertex AI counts per text, the Developer API per request, if it counts at all."""
    counts = [get(one, "statistics", "tokenCount") for one in get_list(get(response, "embeddings"))]
    counts += [
        get(one, "embeddings", "statistics", "token_count") for one in get_list(get(response, "predictions"))
    ]
    return {
        "gen_ai.usage.input_tokens": add_counts(*counts),
        **without_none(usage_attributes(get(response, "usageMetadata"))),
    }
