"""Imagen's ``:predict``: images generated, edited, upscaled, recontextualized and segmented.

All five have one wire format; the instance, the parameters and the model of a request show its operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import MessagePart, text
from instrumentors.gemini.messages import dump_messages, inline_media, input_attributes
from instrumentors.gemini.payload import add_counts, get, get_list

# The fields of an instance that hold the images it starts from.
_REFERENCES = ("referenceImages", "productImages", "personImage", "image", "scribble")


def find_operation(request: Mapping[str, Any], model: str) -> str | None:
    """Return the operation of a ``:predict``; None if it has to do with no image."""
    instance = (get_list(get(request, "instances")) or [{}])[0]
    if str(get(request, "parameters", "mode")) == "upscale":
        return "image_upscale"
    if "segmentation" in model:
        return "image_segmentation"
    if get(instance, "personImage") or get(instance, "productImages"):
        return "image_recontext"
    if get(instance, "referenceImages"):
        return "image_edit"
    return "image_generation" if "imagen" in model or "image" in model else None


def _reference_images(instance: Any) -> list[MessagePart]:
    """Return the images that an instance starts from; each is given as bytes or as an address."""
    parts = []
    for name in _REFERENCES:
        value = get(instance, name)
        for one in get_list(value) or ([value] if value else []):
            # An image with a companion, such as its kind, is one level deeper.
            image = next((inner for field in ("referenceImage", "image") if (inner := get(one, field))), one)
            if part := _to_part(image):
                parts.append(part)
    return parts


def _to_part(image: Any) -> MessagePart | None:
    mime_type = str(get(image, "mimeType") or "image/png")
    if data := get(image, "bytesBase64Encoded"):
        return inline_media(mime_type, data)
    if address := get(image, "gcsUri"):
        return {"type": "uri", "uri": address, "modality": "image", "mime_type": mime_type}
    return None


def request_attributes(request: Mapping[str, Any], _: str, content: bool) -> Attributes:
    """Return the attributes of a request; each instance is one message."""
    parameters = get(request, "parameters")
    messages, references = [], 0
    for instance in get_list(get(request, "instances")):
        images = _reference_images(instance)
        references += len(images)
        prompt = get(instance, "prompt")
        parts = ([text(prompt)] if prompt else []) + images
        messages.append({"role": "user", "parts": parts})
    count = get(parameters, "sampleCount")
    return {
        "gen_ai.output.type": "image",
        "gen_ai.request.choice.count": count if count != 1 else None,
        "gen_ai.request.seed": get(parameters, "seed"),
        names.IMAGE_ASPECT_RATIO: get(parameters, "aspectRatio"),
        names.IMAGE_SIZE: get(parameters, "sampleImageSize"),
        names.IMAGE_REFERENCE_COUNT: references or None,
        **input_attributes(messages, content),
    }


def response_attributes(response: Any, content: bool) -> Attributes:
    """Return the attributes of a response: per prediction an image, or the reason why there is none."""
    images: list[MessagePart] = []
    filtered = 0
    for prediction in get_list(get(response, "predictions")):
        if part := _to_part(prediction):
            images.append(part)
        elif get(prediction, "raiFilteredReason"):
            filtered += 1
    usage = get(response, "usageMetadata")
    attributes: Attributes = {
        "gen_ai.response.finish_reasons": ["stop"] * len(images) + ["content_filter"] * filtered or None,
        "gen_ai.usage.input_tokens": add_counts(get(usage, "promptTokenCount")),
        "gen_ai.usage.output_tokens": add_counts(get(usage, "candidatesTokenCount")),
        names.IMAGE_COUNT: len(images) or None,
    }
    if content and images:
        # One message per image, as there is one finish reason per image.
        attributes["gen_ai.output.messages"] = dump_messages(
            [{"role": "assistant", "parts": [part], "finish_reason": "stop"} for part in images]
        )
    return attributes
