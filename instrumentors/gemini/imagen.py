"""What Imagen's ``:predict`` says: images made, edited, enlarged, recomposed and segmented.

They share one wire format; which of them a request is shows in its instance, its parameters and its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import Part, text
from instrumentors.gemini.messages import asked, media, written
from instrumentors.gemini.payload import get, items, total

# Where an instance holds the images it starts from.
_REFERENCES = ("referenceImages", "productImages", "personImage", "image", "scribble")
_MODES = {"upscale": "image_upscale"}


def operation(request: Mapping[str, Any], model: str) -> str | None:
    """Name what a ``:predict`` does with images; None when it is about something else."""
    instance = (items(get(request, "instances")) or [{}])[0]
    if mode := _MODES.get(str(get(request, "parameters", "mode"))):
        return mode
    if "segmentation" in model:
        return "image_segmentation"
    if get(instance, "personImage") or get(instance, "productImages"):
        return "image_recontext"
    if get(instance, "referenceImages"):
        return "image_edit"
    return "image_generation" if "imagen" in model or "image" in model else None


def _images(instance: Any) -> list[Part]:
    """Read the images an instance starts from; each is there as bytes or as an address."""
    found = []
    for name in _REFERENCES:
        value = get(instance, name)
        for one in items(value) or ([value] if value else []):
            # One step down where the image has a companion, such as its kind.
            image = next((inner for step in ("referenceImage", "image") if (inner := get(one, step))), one)
            if part := _image(image):
                found.append(part)
    return found


def _image(image: Any) -> Part | None:
    kind = str(get(image, "mimeType") or "image/png")
    if data := get(image, "bytesBase64Encoded"):
        return media(kind, data)
    if address := get(image, "gcsUri"):
        return {"type": "uri", "uri": address, "modality": "image", "mime_type": kind}
    return None


def request_facts(request: Mapping[str, Any], _: str, content: bool) -> Attributes:
    """Read a request."""
    parameters = get(request, "parameters")
    messages, references = [], 0
    for instance in items(get(request, "instances")):
        images = _images(instance)
        references += len(images)
        prompt = get(instance, "prompt")
        parts = ([text(prompt)] if prompt else []) + images
        messages.append({"role": "user", "parts": parts})
    count = get(parameters, "sampleCount")
    return {
        "gen_ai.output.type": "image",
        "gen_ai.request.choice.count": count if count != 1 else None,
        "gen_ai.request.seed": get(parameters, "seed"),
        "posthog.image.aspect_ratio": get(parameters, "aspectRatio"),
        "posthog.image.size": get(parameters, "sampleImageSize"),
        "posthog.image.reference_count": references or None,
        **asked(messages, content),
    }


def response_facts(response: Any, content: bool) -> Attributes:
    """Read a response: an image or the reason for its absence per prediction."""
    made: list[Part] = []
    withheld = []
    for prediction in items(get(response, "predictions")):
        if part := _image(prediction):
            made.append(part)
        elif reason := get(prediction, "raiFilteredReason"):
            withheld.append(reason)
    facts: Attributes = {
        "gen_ai.response.finish_reasons": ["stop"] * len(made) + ["content_filter"] * len(withheld) or None,
        "posthog.image.count": len(made) or None,
    }
    usage = get(response, "usageMetadata")
    facts["gen_ai.usage.input_tokens"] = total(get(usage, "promptTokenCount"))
    facts["gen_ai.usage.output_tokens"] = total(get(usage, "candidatesTokenCount"))
    if content and made:
        # One message per image, as there is one finish reason per image.
        facts["gen_ai.output.messages"] = written(
            [{"role": "assistant", "parts": [part], "finish_reason": "stop"} for part in made]
        )
    return facts
