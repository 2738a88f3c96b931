"""What all endpoints share: how a field is read, which parameters and token counts are which attributes.

Requests are read as the JSON that the SDK is about to send, responses as the SDK's objects or plain JSON:
`get` does for both. Readers return span attributes; a value of None means that it was not given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.message_parts import dumps

__all__ = ["get", "head", "listed", "parameters", "reason", "tools", "usage"]

_FINISH = {"tool_calls": "tool_call", "function_call": "tool_call", "max_output_tokens": "length"}
"""Finish reasons whose word in the GenAI conventions is another."""


def get(value: Any, *names: str) -> Any:
    """The field at the end of the path; None where it ends early."""
    for name in names:
        if type(value) is dict:
            value = value.get(name)
        else:
            # Not by attribute: asking a pydantic object for one that it lacks takes microseconds.
            fields = getattr(value, "__dict__", None)
            if fields is None:
                return None
            found = fields.get(name)
            if found is None and (extra := getattr(value, "__pydantic_extra__", None)):
                found = extra.get(name)
            value = found
        if value is None:
            return None
    return value


def listed(value: Any) -> list[Any] | tuple[Any, ...]:
    """The list that `value` is. Never of an iterator: the user's generators are for the SDK to read."""
    return value if isinstance(value, (list, tuple)) else ()


def reason(given: Any) -> str:
    """A finish reason in the conventions' words."""
    return _FINISH.get(given) or str(given)


def _scalar(attribute: str) -> Callable[[Any], Attributes]:
    def read(value: Any) -> Attributes:
        # The SDK's markers for "not given" are neither, and a boolean is no number.
        return {attribute: value} if isinstance(value, (str, int, float)) and value is not True else {}

    return read


def _stop(value: Any) -> Attributes:
    stop = [value] if isinstance(value, str) else [one for one in listed(value) if isinstance(one, str)]
    return {"gen_ai.request.stop_sequences": stop} if stop else {}


def _count(value: Any) -> Attributes:
    return {"gen_ai.request.choice.count": value} if isinstance(value, int) and value != 1 else {}


def _stream(value: Any) -> Attributes:
    return {"gen_ai.request.stream": True} if value else {}  # the markers for "not given" are false


def _level(value: Any) -> Attributes:
    if not isinstance(value, str):
        return {}
    return {"gen_ai.request.reasoning.level": value, "posthog.thinking.level": value}


def _format(value: Any) -> Attributes:
    kind = get(value, "type")
    return {"gen_ai.output.type": "text" if kind == "text" else "json"} if isinstance(kind, str) else {}


_PARAMETERS: dict[str, Callable[[Any], Attributes]] = {
    "model": _scalar("gen_ai.request.model"),
    "temperature": _scalar("gen_ai.request.temperature"),
    "top_p": _scalar("gen_ai.request.top_p"),
    "frequency_penalty": _scalar("gen_ai.request.frequency_penalty"),
    "presence_penalty": _scalar("gen_ai.request.presence_penalty"),
    "seed": _scalar("gen_ai.request.seed"),
    "max_tokens": _scalar("gen_ai.request.max_tokens"),
    "max_completion_tokens": _scalar("gen_ai.request.max_tokens"),
    "max_output_tokens": _scalar("gen_ai.request.max_tokens"),
    "previous_response_id": _scalar("gen_ai.request.previous_response.id"),
    "dimensions": _scalar("gen_ai.embeddings.dimension.count"),
    "service_tier": _scalar("openai.request.service_tier"),
    "stop": _stop,
    "n": _count,
    "stream": _stream,
    "encoding_format": lambda value: (
        {"gen_ai.request.encoding_formats": [value]} if isinstance(value, str) else {}
    ),
    "reasoning_effort": _level,
    "reasoning": lambda value: _level(get(value, "effort")),
    "response_format": _format,
    "text": lambda value: _format(get(value, "format")),
    "modalities": lambda value: {"gen_ai.output.type": "speech"} if "audio" in listed(value) else {},
    "web_search_options": lambda value: {"posthog.web_search.enabled": True} if value is not None else {},
}
"""One table for all endpoints: a name means the same wherever it occurs."""


def parameters(body: Mapping[str, Any]) -> Attributes:
    """What the caller asked for besides content and tools."""
    found: Attributes = {}
    for name, value in body.items():
        if (read := _PARAMETERS.get(name)) is not None:
            found.update(read(value))
    return found


def tools(body: Mapping[str, Any], content: bool) -> Attributes:
    """The tools on offer: their number, whether the web is among them, and their definitions."""
    offered = [
        *listed(body.get("tools")),
        *({"type": "function", **f} for f in listed(body.get("functions"))),
    ]
    if not offered:
        return {}
    facts: Attributes = {"posthog.tools.count": len(offered)}
    if any(str(get(tool, "type")).startswith("web_search") for tool in offered):
        facts["posthog.web_search.enabled"] = True
    if content:
        definitions = [
            {"type": get(tool, "type"), **inner} if (inner := get(tool, "function")) else tool
            for tool in offered
        ]
        facts["gen_ai.tool.definitions"] = dumps(definitions)
    return facts


_KINDS = tuple(
    (f"{kind}_tokens", f"gen_ai.usage.{kind}.input_tokens", f"gen_ai.usage.{kind}.output_tokens")
    for kind in ("text", "image", "audio")
)


def usage(found: Any) -> Attributes:
    """Token counts, under the names of chat, of responses and images, or of transcriptions."""
    if found is None:
        return {}
    asked = get(found, "prompt_tokens_details") or get(found, "input_tokens_details")
    asked = asked or get(found, "input_token_details")
    told = get(found, "completion_tokens_details") or get(found, "output_tokens_details")
    inputs, outputs = get(found, "prompt_tokens"), get(found, "completion_tokens")
    facts = {
        "gen_ai.usage.input_tokens": get(found, "input_tokens") if inputs is None else inputs,
        "gen_ai.usage.output_tokens": get(found, "output_tokens") if outputs is None else outputs,
        "gen_ai.usage.total_tokens": get(found, "total_tokens"),
        "gen_ai.usage.cost": _cost(found),
    }
    if asked is not None:
        facts["gen_ai.usage.cache_read.input_tokens"] = get(asked, "cached_tokens")
        facts["gen_ai.usage.cache_write.input_tokens"] = get(asked, "cache_write_tokens")
    if told is not None:
        facts["gen_ai.usage.reasoning.output_tokens"] = get(told, "reasoning_tokens")
    for name, of_input, of_output in _KINDS:
        # The services fill in zeros for the kinds that a call had nothing to do with.
        facts[of_input] = get(asked, name) or None
        facts[of_output] = get(told, name) or None
    return facts


def _cost(found: Any) -> float | None:
    """What a gateway says that the call cost, in US dollars: OpenRouter, LiteLLM, Vercel's.

    With a key of one's own OpenRouter's `cost` is its fee, and what the provider takes stands beside it.
    """
    cost = get(found, "cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    upstream = (
        get(found, "cost_details", "upstream_inference_cost") if get(found, "is_byok") is True else None
    )
    return float(cost + upstream) if isinstance(upstream, int | float) else float(cost)


def head(response: Any) -> Attributes:
    """What stands on top of every response."""
    return {
        "gen_ai.response.id": get(response, "id"),
        "gen_ai.response.model": get(response, "model"),
        "openai.response.service_tier": get(response, "service_tier"),
        "openai.response.system_fingerprint": get(response, "system_fingerprint"),
        **usage(get(response, "usage")),
    }
