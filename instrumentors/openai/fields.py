"""The fields that all endpoints share: request parameters, tools, token counts.

Requests are read as the JSON that the SDK is about to send, responses as the SDK's objects or as JSON; `get`
reads both. A reader returns span attributes; a value of None means that the field is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from instrumentors.common import attributes as names
from instrumentors.common.call_span import Attributes, read_safely
from instrumentors.common.message_parts import dumps

_FINISH = {"tool_calls": "tool_call", "function_call": "tool_call", "max_output_tokens": "length"}
"""Finish reasons that the GenAI conventions spell differently."""


def get(value: Any, *path: str) -> Any:
    """Return the field at the end of the path; None if the path ends early."""
    for name in path:
        if type(value) is dict:
            value = value.get(name)
        else:
            # Not by attribute: to ask a pydantic object for a missing one takes microseconds.
            fields = getattr(value, "__dict__", None)
            if fields is None:
                return None
            field = fields.get(name)
            if field is None and (extra := getattr(value, "__pydantic_extra__", None)):
                field = extra.get(name)
            value = field
        if value is None:
            return None
    return value


def get_list(value: Any) -> list[Any] | tuple[Any, ...]:
    """Return `value` if it is a list, otherwise an empty one: only the SDK may read the user's iterators."""
    return value if isinstance(value, (list, tuple)) else ()


def finish_reason(reason: Any) -> str:
    """Return a finish reason as the conventions spell it."""
    word = str(reason)
    return _FINISH.get(word, word)


def _scalar(attribute: str) -> Callable[[Any], Attributes]:
    def read_scalar(value: Any) -> Attributes:
        # The SDK's markers for "not given" are no scalars, and a boolean is no number.
        return {attribute: value} if isinstance(value, (str, int, float)) and value is not True else {}

    return read_scalar


def _stop(value: Any) -> Attributes:
    stop = [value] if isinstance(value, str) else [one for one in get_list(value) if isinstance(one, str)]
    return {"gen_ai.request.stop_sequences": stop} if stop else {}


def _count(value: Any) -> Attributes:
    return {"gen_ai.request.choice.count": value} if isinstance(value, int) and value != 1 else {}


def _stream(value: Any) -> Attributes:
    return {"gen_ai.request.stream": True} if value else {}  # the markers for "not given" are false


def _level(value: Any) -> Attributes:
    if not isinstance(value, str):
        return {}
    return {"gen_ai.request.reasoning.level": value, names.THINKING_LEVEL: value}


def _format(value: Any) -> Attributes:
    kind = get(value, "type")
    return {"gen_ai.output.type": "text" if kind == "text" else "json"} if isinstance(kind, str) else {}


PARAMETERS: dict[str, Callable[[Any], Attributes]] = {
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
    "modalities": lambda value: {"gen_ai.output.type": "speech"} if "audio" in get_list(value) else {},
    "web_search_options": lambda value: {names.WEB_SEARCH_ENABLED: True} if value is not None else {},
}
"""The parameters of all endpoints: a name means the same in each of them."""


def request_attributes(body: Mapping[str, Any], files: Any, content: bool) -> Attributes:
    """Return the attributes of a request that every endpoint may have: parameters, tools, attached files."""
    attributes: Attributes = {}
    for name, value in body.items():
        if (read_parameter := PARAMETERS.get(name)) is not None:
            attributes.update(read_parameter(value))
    attributes |= read_safely(_tool_attributes, body, content)
    if files:
        fields = [str(name) for name in _field_names(files)]
        attributes[names.FILE_COUNT] = len(fields) or None
        attributes[names.IMAGE_REFERENCE_COUNT] = sum(name.startswith("image") for name in fields) or None
    return attributes


def _field_names(files: Any) -> Iterable[Any]:
    pairs = files.items() if isinstance(files, Mapping) else get_list(files)
    return [pair[0] for pair in pairs if isinstance(pair, tuple)]


def _tool_attributes(body: Mapping[str, Any], content: bool) -> Attributes:
    """Return the number of tools, whether web search is among them, and their definitions."""
    tools = [
        *get_list(body.get("tools")),
        *({"type": "function", **function} for function in get_list(body.get("functions"))),
    ]
    if not tools:
        return {}
    attributes: Attributes = {names.TOOL_COUNT: len(tools)}
    if any(str(get(tool, "type")).startswith("web_search") for tool in tools):
        attributes[names.WEB_SEARCH_ENABLED] = True
    if content:
        definitions = [
            {"type": get(tool, "type"), **inner} if (inner := get(tool, "function")) else tool
            for tool in tools
        ]
        attributes["gen_ai.tool.definitions"] = dumps(definitions)
    return attributes


_KINDS = tuple(
    (f"{kind}_tokens", f"gen_ai.usage.{kind}.input_tokens", f"gen_ai.usage.{kind}.output_tokens")
    for kind in ("text", "image", "audio")
)


_CACHE_READ = (
    "cached_tokens",  # OpenAI in the details, Kimi beside them
    "prompt_cache_hit_tokens",  # DeepSeek
    "cache_read_input_tokens",  # Anthropic, also through gateways
    "cache_read_tokens",
    "cached_input_tokens",
    "cached_prompt_tokens",
    "num_cached_tokens",  # Mistral
    "cached_content_token_count",
)
_CACHE_WRITE = (
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "cache_creation_tokens",
    "cached_creation_tokens",
    "cache_write_input_tokens",
)


def usage_attributes(usage: Any) -> Attributes:
    """Return token counts, which chat, responses and images, and transcriptions name differently."""
    if usage is None:
        return {}
    input_details = get(usage, "prompt_tokens_details") or get(usage, "input_tokens_details")
    input_details = input_details or get(usage, "input_token_details")
    output_details = get(usage, "completion_tokens_details") or get(usage, "output_tokens_details")
    inputs, outputs = get(usage, "prompt_tokens"), get(usage, "completion_tokens")
    attributes = {
        "gen_ai.usage.input_tokens": get(usage, "input_tokens") if inputs is None else inputs,
        "gen_ai.usage.output_tokens": get(usage, "output_tokens") if outputs is None else outputs,
        "gen_ai.usage.total_tokens": get(usage, "total_tokens"),
        "gen_ai.usage.cost": _cost(usage),
    }
    for attribute, details, fields in (
        ("gen_ai.usage.cache_read.input_tokens", input_details, _CACHE_READ),
        ("gen_ai.usage.cache_write.input_tokens", input_details, _CACHE_WRITE),
        ("gen_ai.usage.reasoning.output_tokens", output_details, ("reasoning_tokens",)),
    ):
        counts = [get(holder, field) for holder in (details, usage) for field in fields]
        # Some services write OpenAI's field as zero beside their own.
        attributes[attribute] = next(filter(None, counts), 0 if 0 in counts else None)
    for name, of_input, of_output in _KINDS:
        # The services write zeros for kinds that do not occur in the call.
        attributes[of_input] = get(input_details, name) or None
        attributes[of_output] = get(output_details, name) or None
    return attributes


def _cost(usage: Any) -> float | None:
    """Return the cost that a gateway (OpenRouter, LiteLLM, Vercel's) reports, in US dollars.

    With the user's own key of a provider, OpenRouter's `cost` is its fee; the provider's price is beside it.
    """
    cost = get(usage, "cost")
    if isinstance(cost, Mapping):  # Perplexity
        cost = cost.get("total_cost")
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    upstream = (
        get(usage, "cost_details", "upstream_inference_cost") if get(usage, "is_byok") is True else None
    )
    return float(cost + upstream) if isinstance(upstream, int | float) else float(cost)


def response_attributes(response: Any, _content: bool = False) -> Attributes:
    """Return the attributes that every response may have: its id, model, service tier and token counts."""
    return {
        "gen_ai.response.id": get(response, "id"),
        "gen_ai.response.model": get(response, "model"),
        "openai.response.service_tier": get(response, "service_tier"),
        "openai.response.system_fingerprint": get(response, "system_fingerprint"),
        **usage_attributes(get(response, "usage")),
    }
