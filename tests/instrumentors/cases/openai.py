"""Uses of openai, and the spans that each must leave.

A use is written once and is two cases: with the synchronous client and, as `..., async`, with the other.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic
from openai import (
    NOT_GIVEN,
    AsyncAzureOpenAI,
    AsyncOpenAI,
    AsyncStream,
    AzureOpenAI,
    OpenAI,
    Stream,
    _streaming,
)
from openai.types.chat import ChatCompletion

from tests.instrumentors.cases import Case, Expected, ScriptedResponse

MODEL = "gpt-4o-mini"
CHAT = f"chat {MODEL}"
MESSAGES: Any = [{"role": "system", "content": "be nice"}, {"role": "user", "content": "hello"}]
URI = "data:image/png;base64,//77/w=="
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
MakeClient = Callable[[str, bool], Any]
"""Takes a URL and whether to be asynchronous, and returns a client."""


# --- clients, and comparable results ----------------------------------------------------------------------


def client(url: str, asynchronous: bool, **options: Any) -> Any:
    return (AsyncOpenAI if asynchronous else OpenAI)(
        **{"base_url": url, "api_key": "x", "max_retries": 0, **options}
    )


def azure(url: str, asynchronous: bool) -> Any:
    return (AsyncAzureOpenAI if asynchronous else AzureOpenAI)(
        base_url=f"{url}/openai", api_key="x", api_version="2024-10-21", max_retries=0
    )


def impatient(url: str, asynchronous: bool) -> Any:
    return client(url, asynchronous, timeout=0.05)


def retrying(url: str, asynchronous: bool) -> Any:
    return client(url, asynchronous, max_retries=2)


def nowhere(_: str, asynchronous: bool) -> Any:
    return client("http://127.0.0.1:9", asynchronous)


def comparable(result: Any) -> Any:
    if isinstance(result, Stream) or inspect.isgenerator(result):  # a neighbour may return a generator
        return [comparable(chunk) for chunk in result]
    if hasattr(result, "http_response"):
        return comparable(result.parse())
    # A manager: a helper's, or a raw response's.
    if hasattr(result, "__enter__") and not hasattr(result, "response"):
        with result as entered:
            if hasattr(entered, "parse"):
                return comparable(entered.parse())
            return [event.type for event in entered]
    return _as_json(result)


async def comparable_async(result: Any) -> Any:
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncStream) or inspect.isasyncgen(result):
        return [_as_json(chunk) async for chunk in result]
    if hasattr(result, "http_response"):
        return await comparable_async(result.parse())
    if hasattr(result, "__aenter__") and not hasattr(result, "response"):
        async with result as entered:
            if hasattr(entered, "parse"):
                return await comparable_async(entered.parse())
            return [event.type async for event in entered]
    return _as_json(result)


def _as_json(result: Any) -> Any:
    if hasattr(result, "to_dict"):
        return result.to_dict()
    return result.content if hasattr(result, "content") and hasattr(result, "iter_bytes") else result


def run_sync(use: Callable[[Any], Any], make: MakeClient = client) -> Callable[[Any], Any]:
    def run(url: str) -> Any:
        with make(url, False) as c:
            return comparable(use(c))

    return run


def run_async(use: Callable[[Any], Any], make: MakeClient = client) -> Callable[[Any], Any]:
    async def main(url: str) -> Any:
        async with make(url, True) as c:
            return await comparable_async(use(c))

    return lambda url: asyncio.run(main(url))


# --- uses ------------------------------------------------------------------------------------------------


def chat(messages: Any = MESSAGES, model: str = MODEL, **more: Any) -> Callable[[Any], Any]:
    return lambda c: c.chat.completions.create(model=model, messages=messages, **more)


def streamed(messages: Any = MESSAGES, **more: Any) -> Callable[[Any], Any]:
    return chat(messages, stream=True, **more)


def respond(given: Any = "hello", **more: Any) -> Callable[[Any], Any]:
    return lambda c: c.responses.create(model=MODEL, input=given, **more)


def user(*parts: Any) -> Any:
    return [{"role": "user", "content": list(parts)}]


class Answer(pydantic.BaseModel):
    text: str


def parsed(c: Any) -> Any:
    return c.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Answer)


def embed(**more: Any) -> Callable[[Any], Any]:
    return lambda c: c.embeddings.create(
        **{"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 8, **more}
    )


def draw(**more: Any) -> Callable[[Any], Any]:
    return lambda c: c.images.generate(model="gpt-image-1", prompt="draw", **more)


def edit(**more: Any) -> Callable[[Any], Any]:
    pictures: Any = [("a.png", b"abc"), ("b.png", b"abc")]
    return lambda c: c.images.edit(model="gpt-image-1", prompt="draw", image=pictures, **more)


def deprecated(use: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Call a method that the SDK still has and warns about."""

    def run(c: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return use(c)

    return run


def transcribe(**more: Any) -> Callable[[Any], Any]:
    return lambda c: c.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=("a.wav", b"abc"), prompt="names: Ada", **more
    )


# --- responses of services --------------------------------------------------------------------------------

HEAD = {"id": "c-1", "model": "m-1", "object": "chat.completion", "created": 1}
DETAILS = {
    "prompt_tokens": 7,
    "completion_tokens": 9,
    "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2, "audio_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 5},
}
FEW = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
TOKENS = {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 9}


def answer(finish: str = "stop", message: Any = None, **more: Any) -> ScriptedResponse:
    answer_message = {"role": "assistant", "content": "hi", **(message or {})}
    choice = {"index": 0, "finish_reason": finish, "message": answer_message}
    return ScriptedResponse({**HEAD, "choices": [choice], "usage": FEW, **more})


def chunk(finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    whole = {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}
    return whole if usage is None else {**whole, "usage": usage}


def called(**call: Any) -> dict[str, Any]:
    return chunk(tool_calls=[{"type": "function", **call}])


def spoken(*parts: Any) -> str:
    messages = [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]
    return json.dumps(messages, separators=(",", ":"))


_READ = {
    **TOKENS,
    "gen_ai.request.stream": True,
    "gen_ai.output.messages": spoken({"type": "text", "content": "one two"}),
}
WORD = chunk(role="assistant", content="one ")
TAIL = {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": FEW}
FILTERS = {**TAIL, "id": "", "model": "", "usage": None, "prompt_filter_results": [{"prompt_index": 0}]}
FINGERPRINT = {"system_fingerprint": "fp-1", "service_tier": "flex"}
OF_STREAM = {
    "gen_ai.response.id": "c-1",
    "gen_ai.response.model": "m-1",
    "openai.response.service_tier": "flex",
    "openai.response.system_fingerprint": "fp-1",
}
SEEN = ScriptedResponse(events=[WORD, chunk(content="two"), chunk("stop"), TAIL, "[DONE]"])
WORDS = ScriptedResponse(events=[WORD, chunk(content="two"), chunk("stop"), "[DONE]"])
RESPONSE: dict[str, Any] = {
    "id": "r-1",
    "object": "response",
    "model": "m-1",
    "status": "completed",
    "output": [],
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 16,
    },
}
MESSAGE_ITEM: dict[str, Any] = {
    "type": "message",
    "id": "i-1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hi", "annotations": []}],
}
OOPS = {"code": "server_error", "message": "oops"}
REFUSED = {"error": {"message": "no", "type": "requests", "code": "c"}}


# Older SDKs let the HTTP library's own error through where a stream breaks off.
LOST = "APIConnectionError" if hasattr(_streaming, "request_exceptions") else "RemoteProtocolError"


def event(kind: str, number: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": number, **more}


# --- the table -------------------------------------------------------------------------------------------


class Use(NamedTuple):
    """A use, the spans that it leaves, and the service's responses."""

    use: Callable[[Any], Any]
    spans: Sequence[Expected]
    responses: Sequence[ScriptedResponse] = ()
    make: MakeClient = client
    since: tuple[int, int] = (0, 0)


def one(name: str, attributes: Mapping[str, Any], *absent: str) -> list[Expected]:
    return [Expected(name, attributes, absent)]


def failed(name: str, kind: str, attributes: Mapping[str, Any] | None = None) -> list[Expected]:
    return [Expected(name, {"error.type": kind, **(attributes or {})}, error=True)]


PLAIN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.model": MODEL,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 4,
    "gen_ai.usage.output_tokens": 19,
    "gen_ai.usage.cache_read.input_tokens": 0,
    "gen_ai.usage.reasoning.output_tokens": 0,
    "posthog.prompt.length": 12,
    "posthog.messages.count": 2,
    "server.address": "127.0.0.1",
}
STREAMED = {**PLAIN, "gen_ai.request.stream": True}
OF_RESPONSES = {**PLAIN, "posthog.messages.count": 1}
HELLO = {**OF_RESPONSES, "gen_ai.usage.input_tokens": 2, "posthog.prompt.length": 5}
PICTURE = "image_generation gpt-image-1"

_CHATS = {
    "chat": Use(chat(), one(CHAT, PLAIN, "gen_ai.request.stream", "error.type", "gen_ai.request.seed")),
    "chat, n=2": Use(
        chat(n=2),
        one(CHAT, {"gen_ai.request.choice.count": 2, "gen_ai.response.finish_reasons": ("stop", "stop")}),
    ),
    "chat, n=1 is nothing to say": Use(chat(n=1), one(CHAT, PLAIN, "gen_ai.request.choice.count")),
    "chat, parameters": Use(
        chat(
            seed=7,
            stop="x",
            max_completion_tokens=3,
            temperature=0.5,
            top_p=0.9,
            frequency_penalty=0.1,
            presence_penalty=0.2,
            reasoning_effort="low",
            service_tier="default",
            response_format={"type": "json_object"},
            web_search_options={},
        ),
        one(
            CHAT,
            {
                "gen_ai.request.seed": 7,
                "gen_ai.request.stop_sequences": ("x",),
                "gen_ai.request.max_tokens": 3,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.request.top_p": 0.9,
                "gen_ai.request.frequency_penalty": 0.1,
                "gen_ai.request.presence_penalty": 0.2,
                "gen_ai.request.reasoning.level": "low",
                "gen_ai.output.type": "json",
                "gen_ai.usage.reasoning.output_tokens": 16,
                "gen_ai.response.finish_reasons": ("length",),
                "openai.request.service_tier": "default",
                "posthog.thinking.level": "low",
                "posthog.web_search.enabled": True,
            },
        ),
    ),
    "chat, old name of the limit, two stops": Use(
        chat(max_tokens=300, stop=["x", "y"]),
        one(CHAT, {"gen_ai.request.max_tokens": 300, "gen_ai.request.stop_sequences": ("x", "y")}),
    ),
    "chat, parameters that are not given": Use(
        chat(temperature=NOT_GIVEN, tools=NOT_GIVEN, stop=None),
        one(CHAT, PLAIN, "gen_ai.request.temperature", "gen_ai.request.stop_sequences"),
    ),
    "chat, tools": Use(
        chat(tools=[WEATHER]),
        one(
            CHAT,
            {
                "gen_ai.response.finish_reasons": ("tool_call",),
                "posthog.tools.count": 1,
                "posthog.tool_calls.count": 1,
            },
        ),
    ),
    "chat, a tool's answer": Use(
        chat(
            [
                *MESSAGES,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ],
                },
                {"role": "tool", "tool_call_id": "t", "content": "sunny"},
            ]
        ),
        one(CHAT, {"posthog.messages.count": 4, "gen_ai.response.finish_reasons": ("stop",)}),
    ),
    "chat, a developer's message": Use(
        chat([{"role": "developer", "content": "be nice"}, MESSAGES[1]]),
        one(CHAT, {"posthog.messages.count": 2}),
    ),
    "chat, a picture": Use(
        chat(
            user({"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": URI}}),
        ),
        one(CHAT, {"posthog.files.count": 1, "posthog.prompt.length": 5}),
    ),
    "chat, audio and a file": Use(
        chat(
            user(
                {"type": "input_audio", "input_audio": {"data": "//77", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f-1"}},
            )
        ),
        one(CHAT, {"posthog.files.count": 2}),
    ),
    "chat, a hundred messages": Use(chat(MESSAGES * 50), one(CHAT, {"posthog.messages.count": 100})),
    "chat, parsed": Use(parsed, one(CHAT, {"gen_ai.output.type": "json", "gen_ai.usage.input_tokens": 4})),
    "chat, raw": Use(
        lambda c: c.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES),
        one(CHAT, PLAIN),
    ),
    "chat, raw stream": Use(
        lambda c: c.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, stream=True),
        one(CHAT, {"gen_ai.request.stream": True, "gen_ai.response.finish_reasons": ("stop",)}),
    ),
    "chat, raw stream, with the usage that was not asked for": Use(
        lambda c: c.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, stream=True),
        one(CHAT, STREAMED),
    ),
    "chat, raw stream, usage not wanted": Use(
        lambda c: c.chat.completions.with_raw_response.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": False}
        ),
        one(CHAT, {"gen_ai.request.stream": True}, "gen_ai.usage.input_tokens"),
    ),
    "chat, streaming response": Use(
        lambda c: c.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES),
        one(CHAT, PLAIN),
    ),
    "chat stream": Use(streamed(), one(CHAT, STREAMED)),
    "chat stream, usage asked for": Use(
        streamed(stream_options={"include_usage": True}), one(CHAT, STREAMED)
    ),
    "chat stream, usage not wanted": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, {"gen_ai.request.stream": True}, "gen_ai.usage.input_tokens"),
    ),
    "chat stream, other options": Use(
        streamed(stream_options={"include_obfuscation": False}), one(CHAT, STREAMED)
    ),
    "chat stream, n=2, tools": Use(
        streamed(n=2, tools=[WEATHER]),
        one(
            CHAT,
            {"gen_ai.response.finish_reasons": ("tool_call", "tool_call"), "posthog.tool_calls.count": 2},
        ),
    ),
    "chat stream helper": Use(
        lambda c: c.chat.completions.stream(model=MODEL, messages=MESSAGES),
        one(CHAT, {"gen_ai.usage.input_tokens": 4, "gen_ai.response.finish_reasons": ("stop",)}),
    ),
    "chat, a gateway's cost": Use(
        chat(), one(CHAT, {"gen_ai.usage.cost": 0.0042}), [answer(usage={**FEW, "cost": 0.0042})]
    ),
    "chat, a gateway's fee beside one's own key": Use(
        chat(),
        one(CHAT, {"gen_ai.usage.cost": 0.5}),
        [
            answer(
                usage={
                    **FEW,
                    "cost": 0.125,
                    "is_byok": True,
                    "cost_details": {"upstream_inference_cost": 0.375},
                }
            )
        ],
    ),
    "chat stream, a gateway's cost": Use(
        streamed(stream_options={"include_usage": True}),
        one(CHAT, {"gen_ai.usage.cost": 0.0042}),
        [
            ScriptedResponse(
                events=[WORD, chunk("stop"), {**TAIL, "usage": {**FEW, "cost": 0.0042}}, "[DONE]"]
            )
        ],
    ),
    "chat, a cost that is none": Use(
        chat(), one(CHAT, {}, "gen_ai.usage.cost"), [answer(usage={**FEW, "cost": "free"})]
    ),
    "chat, length": Use(
        chat(), one(CHAT, {"gen_ai.response.finish_reasons": ("length",)}), [answer("length")]
    ),
    "chat, filtered": Use(
        chat(),
        one(CHAT, {"gen_ai.response.finish_reasons": ("content_filter",), **TOKENS}),
        [answer("content_filter")],
    ),
    "chat, a refusal": Use(
        chat(), one(CHAT, TOKENS), [answer(message={"content": None, "refusal": "I will not"})]
    ),
    "chat, thoughts beside the answer": Use(
        chat(), one(CHAT, TOKENS), [answer(message={"reasoning_content": "hm"})]
    ),
    "chat, spoken": Use(
        chat(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
        one(CHAT, {"gen_ai.output.type": "speech", **TOKENS}),
        [answer(message={"audio": {"id": "a", "data": "//77", "expires_at": 1, "transcript": "hi"}})],
    ),
    "chat, the web was searched": Use(
        chat(web_search_options={}),
        one(CHAT, {"posthog.web_search.used": True, "posthog.web_search.enabled": True}),
        [
            answer(
                message={
                    "annotations": [
                        {
                            "type": "url_citation",
                            "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1},
                        }
                    ]
                }
            )
        ],
    ),
    "chat, tokens in detail": Use(
        chat(),
        one(
            CHAT,
            {
                **TOKENS,
                "gen_ai.response.id": "c-1",
                "gen_ai.response.model": "m-1",
                "gen_ai.usage.cache_read.input_tokens": 3,
                "gen_ai.usage.cache_write.input_tokens": 2,
                "gen_ai.usage.reasoning.output_tokens": 4,
                "gen_ai.usage.audio.input_tokens": 1,
                "gen_ai.usage.audio.output_tokens": 5,
                "openai.response.service_tier": "flex",
            },
            "gen_ai.usage.text.input_tokens",
        ),
        [answer(usage=DETAILS, service_tier="flex")],
    ),
    "chat, the request's id": Use(
        chat(),
        one(CHAT, {"posthog.request.id": "req-1"}),
        [answer()._replace(headers={"x-request-id": "req-1"})],
    ),
    "chat stream, the request's id": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, {"posthog.request.id": "req-1"}),
        [WORDS._replace(headers={"x-request-id": "req-1"})],
    ),
    "chat, one tool of the older kind": Use(
        chat(functions=[{"name": "f", "parameters": {}}]),
        one(CHAT, {"gen_ai.response.finish_reasons": ("tool_call",), "posthog.tools.count": 1}),
        [answer("function_call", {"content": None, "function_call": {"name": "f", "arguments": "{}"}})],
    ),
    "chat, nothing counted": Use(
        chat(), one(CHAT, {"gen_ai.response.id": "c-1"}, "gen_ai.usage.input_tokens"), [answer(usage=None)]
    ),
    "chat stream, thoughts": Use(
        streamed(stream_options={"include_usage": True}),
        one(CHAT, {**TOKENS, "gen_ai.response.finish_reasons": ("stop",)}),
        [ScriptedResponse(events=[WORD, chunk(reasoning_content="hm"), chunk("stop"), TAIL, "[DONE]"])],
    ),
    "chat stream, usage in the last chunk with a choice": Use(
        streamed(stream_options={"include_usage": True}),
        one(CHAT, TOKENS),
        [ScriptedResponse(events=[WORD, chunk("stop", FEW), "[DONE]"])],
    ),
    "chat stream without an end": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, {"gen_ai.response.finish_reasons": ("error",), "gen_ai.response.id": "c-1"}),
        [ScriptedResponse(events=[WORD])],
    ),
    "azure stream, whose first chunk has an empty id and model": Use(
        streamed(stream_options={"include_usage": True}),
        one(CHAT, {**TOKENS, **OF_STREAM}),
        [ScriptedResponse(events=[FILTERS, {**WORD, **FINGERPRINT}, chunk("stop"), TAIL, "[DONE]"])],
        azure,
    ),
    "azure raw stream, whose first chunk has an empty id and model": Use(
        lambda c: raw(c, stream=True, stream_options={"include_usage": True}),
        one(CHAT, {**TOKENS, **OF_STREAM}),
        [ScriptedResponse(events=[FILTERS, {**WORD, **FINGERPRINT}, chunk("stop"), TAIL, "[DONE]"])],
        azure,
    ),
    "chat, an empty id and model": Use(
        chat(), one(CHAT, TOKENS, "gen_ai.response.id", "gen_ai.response.model"), [answer(id="", model="")]
    ),
    "azure": Use(
        chat(),
        one(CHAT, {"gen_ai.provider.name": "azure.ai.openai", "server.address": "127.0.0.1"}),
        [answer()],
        azure,
    ),
    "azure stream": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, {"gen_ai.provider.name": "azure.ai.openai", "gen_ai.request.stream": True}),
        [WORDS],
        azure,
    ),
}

_UNUSUAL = {
    "chat, parameters in the extra body": Use(
        chat(extra_body={"model": "other", "temperature": 0.5}),
        one("chat other", {"gen_ai.request.model": "other", "gen_ai.request.temperature": 0.5, **TOKENS}),
        [answer()],
    ),
    "chat stream, usage asked for in the extra body": Use(
        streamed(extra_body={"stream_options": {"include_usage": True}}), one(CHAT, TOKENS), [SEEN]
    ),
    "chat stream, other options in the extra body": Use(
        streamed(
            stream_options={"include_usage": True},
            extra_body={"stream_options": {"include_obfuscation": False}},
        ),
        one(CHAT, STREAMED),
    ),
    "chat stream, asked for by a number": Use(
        chat(stream=1, stream_options={"include_usage": True}),
        one(CHAT, {"gen_ai.request.stream": True, **TOKENS}),
        [SEEN],
    ),
    "chat stream, calls that are not numbered": Use(
        streamed(stream_options={"include_usage": True}),
        one(
            CHAT,
            {
                **TOKENS,
                "gen_ai.output.messages": spoken(
                    {"type": "tool_call", "name": "f", "arguments": {"a": 1}, "id": "t"},
                    {"type": "tool_call", "name": "g", "arguments": {}, "id": "u"},
                    {"type": "tool_call", "name": "h", "arguments": {}},
                    {"type": "tool_call", "name": "h", "arguments": {}},
                ),
            },
        ),
        [
            ScriptedResponse(
                events=[
                    called(id="t", function={"name": "f", "arguments": '{"a"'}),
                    called(index=None, function={"arguments": ":1}"}),
                    called(id="u", function={"name": "g", "arguments": "{}"}),
                    called(index=None, function={"name": "h", "arguments": "{}"}),
                    called(index=None, function={"name": "h", "arguments": "{}"}),
                    chunk("stop", FEW),
                    "[DONE]",
                ]
            )
        ],
    ),
    "chat, arguments that cannot be read": Use(
        chat(),
        one(
            CHAT, {**TOKENS, "gen_ai.response.finish_reasons": ("tool_call",), "posthog.tool_calls.count": 1}
        ),
        [
            answer(
                "tool_calls",
                {
                    "tool_calls": [
                        {"id": "t", "type": "function", "function": {"name": "f", "arguments": "[" * 99_999}}
                    ]
                },
            )
        ],
    ),
}

_OSLO = {"type": "tool_call", "name": "f", "arguments": {"city": "Oslo"}, "id": "t"}
_ROME = {"type": "tool_call", "name": "f", "arguments": {"city": "Rome"}, "id": "u"}
_THOUGHTS = {
    name: {"gen_ai.output.messages": spoken({"type": "reasoning", "content": "hm so"}, *parts), **TOKENS}
    for name, *parts in (
        ("alone",),
        ("beside", {"type": "text", "content": "hi"}),
    )
}
_HM = [{"type": "text", "text": "hm "}, {"type": "text", "text": "so"}]
_NAMED_THOUGHTS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": "hm so"},
    "reasoning": {"reasoning": "hm so"},
    "reasoning_content in parts": {"reasoning_content": _HM},
    "reasoning in parts": {"reasoning": _HM},
    "reasoning and its details": {
        "reasoning": "hm so",
        "reasoning_details": [{"type": "reasoning.text", "text": "hm so"}],
    },
    "reasoning_details alone": {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm so"}]},
    "thinking_blocks": {"thinking_blocks": [{"type": "thinking", "thinking": "hm so", "signature": "x"}]},
}


def events_of(*chunks: Any) -> list[ScriptedResponse]:
    return [ScriptedResponse(events=[*chunks, "[DONE]"])]


def _ran(identifier: str, kind: str, name: str, detail: Any) -> Any:
    whole = {"type": kind, **detail}
    return {"type": "server_tool_call", "id": identifier, "name": name, "server_tool_call": whole}


def _returned(identifier: str, kind: str, detail: Any) -> Any:
    whole = {"type": kind, **detail}
    return {"type": "server_tool_call_response", "id": identifier, "server_tool_call_response": whole}


def _answered(identifier: str, response: Any) -> Any:
    return {"type": "tool_call_response", "response": response, "id": identifier}


_TOOLS: dict[str, tuple[list[Any], list[Any], str, int | None]] = {
    "a call of an MCP server": (
        [
            {
                "type": "mcp_call",
                "id": "m",
                "name": "roll",
                "arguments": '{"dice":"2d4+1"}',
                "server_label": "dice",
                "output": "7",
            }
        ],
        [
            _ran("m", "mcp", "roll", {"arguments": {"dice": "2d4+1"}, "server_label": "dice"}),
            _returned("m", "mcp", {"output": "7"}),
        ],
        "stop",
        None,
    ),
    "an interpreter": (
        [
            {
                "type": "code_interpreter_call",
                "id": "c",
                "code": "6*7",
                "container_id": "k",
                "status": "completed",
                "outputs": [{"logs": "42", "type": "logs"}],
            }
        ],
        [
            _ran(
                "c",
                "code_interpreter",
                "code_interpreter",
                {"code": "6*7", "container_id": "k", "status": "completed"},
            ),
            _returned("c", "code_interpreter", {"outputs": [{"logs": "42", "type": "logs"}]}),
        ],
        "stop",
        None,
    ),
    "a search of files": (
        [
            {
                "type": "file_search_call",
                "id": "f",
                "queries": ["returns"],
                "status": "completed",
                "results": [{"text": "thirty days"}],
            }
        ],
        [
            _ran("f", "file_search", "file_search", {"queries": ["returns"], "status": "completed"}),
            _returned("f", "file_search", {"results": [{"text": "thirty days"}]}),
        ],
        "stop",
        None,
    ),
    "an approval that is asked for": (
        [
            {
                "type": "mcp_approval_request",
                "id": "a",
                "name": "roll",
                "arguments": "{}",
                "server_label": "dice",
            }
        ],
        [_ran("a", "mcp_approval_request", "roll", {"arguments": {}, "server_label": "dice"})],
        "tool_call",
        1,
    ),
}


def answered_with(usage: Any) -> list[ScriptedResponse]:
    return [answer(usage=usage)]


def streamed_with(usage: Any) -> list[ScriptedResponse]:
    return events_of(WORD, chunk("stop"), {**TAIL, "usage": usage})


_SPEAK: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
_PIECES = {
    **{
        f"chat, thoughts as {name}": Use(chat(), one(CHAT, _THOUGHTS["beside"]), [answer(message=message)])
        for name, message in _NAMED_THOUGHTS.items()
    },
    **{
        f"chat stream, thoughts as {name}": Use(
            streamed(stream_options={"include_usage": True}),
            one(CHAT, _THOUGHTS["alone"]),
            events_of(chunk(**message), chunk("stop"), TAIL),
        )
        for name, message in _NAMED_THOUGHTS.items()
    },
    **{
        f"{name}, cached tokens as {field}": Use(
            use,
            one(CHAT, {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.cache_read.input_tokens": 3}),
            responses({**FEW, field: 3, **more}),
        )
        for field, more in (
            ("cached_tokens", {}),
            ("prompt_cache_hit_tokens", {"prompt_tokens_details": {"cached_tokens": 0}}),
            ("cache_read_input_tokens", {}),
        )
        for name, use, responses in (
            ("chat", chat(), answered_with),
            ("chat, raw", _CHATS["chat, raw"].use, answered_with),
            (
                "chat stream",
                streamed(stream_options={"include_usage": True}),
                streamed_with,
            ),
        )
    },
    "chat stream, usage within the choice": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, TOKENS),
        events_of(WORD, {**TAIL, "usage": None, "choices": [{**chunk("stop")["choices"][0], "usage": FEW}]}),
    ),
    "chat stream, usage as Groq has it": Use(
        streamed(stream_options={"include_usage": False}),
        one(CHAT, TOKENS),
        events_of(WORD, {**chunk("stop"), "x_groq": {"usage": FEW}}),
    ),
    "chat, the cost in detail": Use(
        chat(),
        one(CHAT, {"gen_ai.usage.cost": 0.25}),
        [answer(usage={**FEW, "cost": {"total_cost": 0.25, "input_tokens_cost": 0.2}})],
    ),
    "responses, a stored prompt": Use(
        lambda c: c.responses.create(
            prompt={"id": "pmpt_1", "version": "2", "variables": {"city": "Oslo"}},
        ),
        one(
            "chat",
            {
                **TOKENS,
                "gen_ai.prompt.name": "pmpt_1",
                "gen_ai.prompt.version": "2",
                "gen_ai.input.messages": json.dumps(
                    [{"role": "user", "parts": [{"type": "text", "content": '{"city":"Oslo"}'}]}],
                    separators=(",", ":"),
                ),
            },
            "posthog.prompt.length",
            "posthog.messages.count",
        ),
        [ScriptedResponse(RESPONSE)],
    ),
    "responses, a stored prompt with a picture": Use(
        lambda c: c.responses.create(
            prompt={"id": "pmpt_1", "variables": {"shot": {"type": "input_image", "image_url": URI}}},
        ),
        one(
            "chat",
            {"gen_ai.prompt.name": "pmpt_1", "posthog.files.count": 1},
            "gen_ai.prompt.version",
            "posthog.prompt.length",
        ),
        [ScriptedResponse(RESPONSE)],
    ),
    **{
        f"embeddings of {name}": Use(
            embed(input=given),
            one("embeddings text-embedding-3-small", {"posthog.messages.count": count}, *absent),
        )
        for name, given, count, absent in (
            ("tokens", [1, 2, 3], 1, ("posthog.prompt.length",)),
            ("arrays of tokens", [[1, 2], [3]], 2, ("posthog.prompt.length",)),
            ("texts", ["a", "b"], 2, ()),
        )
    },
    "text completion of tokens": Use(
        lambda c: c.completions.create(model="m", prompt=[1, 2, 3]),
        one("text_completion m", {"posthog.messages.count": 1}, "posthog.prompt.length"),
        [ScriptedResponse({**HEAD, "object": "text_completion", "choices": [], "usage": FEW})],
    ),
    "moderation of parts": Use(
        lambda c: c.moderations.create(
            model="m",
            input=[{"type": "text", "text": "hello"}, {"type": "image_url", "image_url": {"url": URI}}],
        ),
        one("moderation m", {"posthog.prompt.length": 5, "posthog.files.count": 1}),
        [ScriptedResponse({"id": "modr-1", "model": "m", "results": []})],
    ),
    **{
        f"{name}, spoken words beside the sound": Use(
            use,
            one(
                CHAT,
                {
                    "gen_ai.output.messages": spoken(
                        {"type": "text", "content": "Good morning"},
                        {
                            "type": "blob",
                            "mime_type": "audio/pcm16",
                            "modality": "audio",
                            "content": "AQIDBAUGBwg=",
                        },
                    )
                },
            ),
            [response],
        )
        for name, use, response in (
            (
                "chat",
                chat(**_SPEAK),
                answer(
                    message={
                        "content": None,
                        "audio": {
                            "id": "a",
                            "data": "AQIDBAUGBwg=",
                            "expires_at": 1,
                            "transcript": "Good morning",
                        },
                    }
                ),
            ),
            (
                "chat stream",
                streamed(**_SPEAK),
                events_of(
                    chunk(role="assistant", audio={"id": "a", "transcript": "Good "}),
                    chunk(audio={"data": "AQIDBA==", "transcript": "morning"}),
                    chunk(audio={"data": "BQYHCA=="}),
                    chunk("stop"),
                )[0],
            ),
        )
    },
    "chat stream, calls that share an index": Use(
        streamed(stream_options={"include_usage": True}),
        one(
            CHAT,
            {
                **TOKENS,
                "posthog.tool_calls.count": 2,
                "gen_ai.output.messages": spoken(_OSLO, _ROME),
            },
        ),
        events_of(
            called(index=0, id="t", function={"name": "f", "arguments": '{"city":'}),
            called(index=0, function={"arguments": '"Oslo"}'}),
            called(index=0, id="u", function={"name": "f", "arguments": '{"city":'}),
            called(index=0, id="u", function={"arguments": '"Rome"}'}),
            chunk("stop", FEW),
        ),
    ),
    "chat stream, a call of the older kind": Use(
        streamed(stream_options={"include_usage": True}),
        one(CHAT, {**TOKENS, "posthog.tool_calls.count": 1}),
        events_of(
            chunk(function_call={"name": "f", "arguments": "{"}),
            chunk(function_call={"arguments": "}"}),
            chunk("function_call", FEW),
        ),
    ),
}

_RESPONSES = {
    "responses": Use(respond(instructions="be nice"), one(CHAT, OF_RESPONSES)),
    "responses, search and image": Use(
        respond(
            reasoning={"effort": "low"},
            previous_response_id="resp_0",
            max_output_tokens=500,
            tools=[{"type": "web_search"}, {"type": "image_generation", "size": "1024x1024"}],
        ),
        one(
            CHAT,
            {
                "gen_ai.request.reasoning.level": "low",
                "gen_ai.request.previous_response.id": "resp_0",
                "gen_ai.request.max_tokens": 500,
                "gen_ai.response.finish_reasons": ("stop",),
                "posthog.web_search.enabled": True,
                "posthog.web_search.used": True,
                "posthog.web_search.count": 1,
                "posthog.image.count": 1,
                "posthog.image.size": "1024x1024",
            },
        ),
    ),
    "responses, function": Use(
        respond(tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}]),
        one(CHAT, {"gen_ai.response.finish_reasons": ("tool_call",), "posthog.tool_calls.count": 1}),
    ),
    "responses, items": Use(
        respond(
            [
                {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "t", "output": "sunny"},
                {"role": "user", "content": [{"type": "input_image", "image_url": URI, "detail": "auto"}]},
            ]
        ),
        one(CHAT, {"posthog.messages.count": 4, "posthog.files.count": 1, "posthog.prompt.length": 5}),
        [ScriptedResponse({**RESPONSE, "output": [MESSAGE_ITEM]})],
    ),
    "responses, in a conversation": Use(
        respond(conversation="conv-1"),
        one(CHAT, {"gen_ai.conversation.id": "conv-1"}),
        [ScriptedResponse({**RESPONSE, "output": [MESSAGE_ITEM]})],
    ),
    "responses, tokens in detail": Use(
        respond(),
        one(
            CHAT,
            {
                **TOKENS,
                "gen_ai.usage.cache_read.input_tokens": 3,
                "gen_ai.usage.reasoning.output_tokens": 4,
                "gen_ai.response.id": "r-1",
            },
        ),
        [ScriptedResponse({**RESPONSE, "output": [MESSAGE_ITEM]})],
    ),
    "responses, structured": Use(
        lambda c: c.responses.parse(model=MODEL, input="hello", text_format=Answer),
        one(CHAT, {"gen_ai.output.type": "json", **TOKENS}),
        [
            ScriptedResponse(
                {
                    **RESPONSE,
                    "output": [
                        {**MESSAGE_ITEM, "content": [{**MESSAGE_ITEM["content"][0], "text": '{"text":"hi"}'}]}
                    ],
                }
            )
        ],
    ),
    "responses, raw": Use(
        lambda c: c.responses.with_raw_response.create(model=MODEL, input="hello"), one(CHAT, HELLO)
    ),
    "responses, streaming response": Use(
        lambda c: c.responses.with_streaming_response.create(model=MODEL, input="hello"), one(CHAT, HELLO)
    ),
    "responses stream": Use(respond(stream=True), one(CHAT, {**HELLO, "gen_ai.request.stream": True})),
    "responses stream helper": Use(
        lambda c: c.responses.stream(model=MODEL, input="hello"), one(CHAT, HELLO)
    ),
    "responses, in the background": Use(
        respond(background=True),
        one(CHAT, {"gen_ai.response.id": "r-1"}, "gen_ai.response.finish_reasons", "error.type"),
        [ScriptedResponse({**RESPONSE, "status": "queued", "usage": None})],
    ),
    "responses, incomplete": Use(
        respond(),
        one(CHAT, {"gen_ai.response.finish_reasons": ("length",)}),
        [
            ScriptedResponse(
                {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
            )
        ],
    ),
    "responses, filtered": Use(
        respond(),
        one(CHAT, {"gen_ai.response.finish_reasons": ("content_filter",)}),
        [
            ScriptedResponse(
                {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
            )
        ],
    ),
    "responses, failed": Use(
        respond(),
        failed(CHAT, "server_error", {"gen_ai.response.finish_reasons": ("error",)}),
        [ScriptedResponse({**RESPONSE, "status": "failed", "error": OOPS})],
    ),
    "responses stream, whose last event lacks what an earlier one had": Use(
        respond(stream=True),
        one(CHAT, {**TOKENS, "gen_ai.response.id": "r-1", "gen_ai.response.model": "m-1"}),
        [
            ScriptedResponse(
                events=[
                    event("response.created", response={**RESPONSE, "status": "in_progress"}),
                    event("response.completed", 1, response={**RESPONSE, "id": "", "model": ""}),
                ]
            )
        ],
    ),
    "responses stream, failed": Use(
        respond(stream=True),
        failed(CHAT, "server_error", {"gen_ai.response.id": "r-1"}),
        [
            ScriptedResponse(
                events=[event("response.failed", response={**RESPONSE, "status": "failed", "error": OOPS})]
            )
        ],
    ),
    "responses stream, an error event": Use(
        respond(stream=True),
        failed(CHAT, "server_error", {"gen_ai.response.id": "r-1"}),
        [
            ScriptedResponse(
                events=[
                    event("response.created", response={**RESPONSE, "status": "in_progress"}),
                    event("error", 1, code="server_error", message="oops", param=None),
                ]
            )
        ],
    ),
    "responses stream, lost": Use(
        respond(stream=True),
        failed(CHAT, LOST, {"gen_ai.response.id": "r-1"}),
        [
            ScriptedResponse(
                events=[event("response.created", response={**RESPONSE, "status": "in_progress"})], drop=True
            )
        ],
    ),
    "responses of the beta client, by its path": Use(
        lambda c: c.post("/responses?beta=true", body={"model": MODEL, "input": "hello"}, cast_to=object),
        one(CHAT, {**TOKENS, "posthog.prompt.length": 5}),
        [ScriptedResponse(RESPONSE)],
    ),
    "chat, a path without its first slash": Use(
        lambda c: c.post(
            "chat/completions", body={"model": MODEL, "messages": MESSAGES}, cast_to=ChatCompletion
        ),
        one(CHAT, TOKENS),
        [answer()],
    ),
    "responses, compacted": Use(
        lambda c: c.responses.compact(model=MODEL, input="hello"),
        one(CHAT, {**TOKENS, "gen_ai.response.id": "r-1", "posthog.prompt.length": 5}),
        [ScriptedResponse({**RESPONSE, "object": "response.compaction"})],
        since=(2, 11),
    ),
    **{
        f"{name}, {tool}": Use(
            respond(**more),
            one(
                CHAT,
                {
                    "gen_ai.response.finish_reasons": (reason,),
                    "posthog.tool_calls.count": count,
                    "gen_ai.output.messages": json.dumps(
                        [{"role": "assistant", "parts": parts, "finish_reason": reason}],
                        separators=(",", ":"),
                    ),
                },
            ),
            [
                ScriptedResponse(events=[event("response.completed", response=reply), "[DONE]"])
                if more
                else ScriptedResponse(reply)
            ],
        )
        for tool, (items, parts, reason, count) in _TOOLS.items()
        for reply in [{**RESPONSE, "output": items}]
        for name, more in (("responses", {}), ("responses stream", {"stream": True}))
    },
    "responses, outputs of tools as input": Use(
        respond(
            [
                {"type": "shell_call", "call_id": "s", "action": {"commands": ["pwd"]}},
                {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "/srv/app"}]},
                {"type": "apply_patch_call_output", "call_id": "p", "status": "completed", "output": "ok"},
                {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
            ]
        ),
        one(
            CHAT,
            {
                "gen_ai.input.messages": json.dumps(
                    [
                        {
                            "role": "assistant",
                            "parts": [_ran("s", "shell", "shell", {"commands": ["pwd"]})],
                        },
                        {"role": "tool", "parts": [_answered("s", [{"stdout": "/srv/app"}])]},
                        {"role": "tool", "parts": [_answered("p", "ok")]},
                        {"role": "tool", "parts": [_answered("a", {"approve": True})]},
                    ],
                    separators=(",", ":"),
                )
            },
        ),
        [ScriptedResponse({**RESPONSE, "output": [MESSAGE_ITEM]})],
    ),
    "a stored response is read": Use(
        lambda c: c.responses.retrieve("r-1"), [], [ScriptedResponse({**RESPONSE, "output": [MESSAGE_ITEM]})]
    ),
    "a response is cancelled": Use(
        lambda c: c.responses.cancel("r-1"), [], [ScriptedResponse({**RESPONSE, "status": "cancelled"})]
    ),
    "models are listed": Use(
        lambda c: c.models.retrieve("m"), [], [ScriptedResponse({"id": "m", "object": "model"})]
    ),
}

_OTHERS = {
    "text completion": Use(
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="hello", max_tokens=5),
        one(
            "text_completion gpt-3.5-turbo-instruct",
            {**TOKENS, "gen_ai.response.finish_reasons": ("length",), "posthog.prompt.length": 5},
        ),
        [
            ScriptedResponse(
                {
                    **HEAD,
                    "object": "text_completion",
                    "choices": [{"index": 0, "text": "hi", "finish_reason": "length", "logprobs": None}],
                    "usage": FEW,
                }
            )
        ],
    ),
    "text completion stream": Use(
        lambda c: c.completions.create(
            model="gpt-3.5-turbo-instruct",
            prompt="hello",
            stream=True,
            stream_options={"include_usage": True},
        ),
        one(
            "text_completion gpt-3.5-turbo-instruct",
            {**TOKENS, "gen_ai.response.finish_reasons": ("stop",), "gen_ai.request.stream": True},
        ),
        [
            ScriptedResponse(
                events=[
                    {
                        **HEAD,
                        "object": "text_completion",
                        "choices": [{"index": 0, "text": "hi", "finish_reason": "stop", "logprobs": None}],
                    },
                    {**HEAD, "object": "text_completion", "choices": [], "usage": FEW},
                    "[DONE]",
                ]
            )
        ],
    ),
    "embeddings": Use(
        embed(),
        one(
            "embeddings text-embedding-3-small",
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.embeddings.dimension.count": 8,
                "gen_ai.usage.input_tokens": 2,
                "posthog.messages.count": 2,
            },
            "gen_ai.usage.output_tokens",
        ),
    ),
    "embeddings of one text, as floats": Use(
        embed(input="one", encoding_format="float"),
        one("embeddings text-embedding-3-small", {"gen_ai.request.encoding_formats": ("float",)}),
    ),
    "image": Use(
        draw(n=2, size="1024x1536", quality="high"),
        one(
            PICTURE,
            {
                "gen_ai.output.type": "image",
                "gen_ai.provider.name": "openai",
                "gen_ai.usage.output_tokens": 516,
                "gen_ai.usage.image.output_tokens": 516,
                "gen_ai.usage.text.input_tokens": 1,
                "posthog.image.count": 2,
                "posthog.image.size": "1024x1536",
                "posthog.image.quality": "high",
            },
        ),
    ),
    "image stream": Use(
        draw(stream=True, partial_images=1),
        one(
            PICTURE,
            {"posthog.image.count": 1, "gen_ai.request.stream": True, "gen_ai.usage.output_tokens": 258},
        ),
    ),
    "image edit": Use(
        edit(),
        one(
            "image_edit gpt-image-1",
            {"posthog.image.reference_count": 2, "gen_ai.usage.image.input_tokens": 516},
        ),
    ),
    "image variation": Use(
        deprecated(lambda c: c.images.create_variation(image=("a.png", b"abc"), n=1, size="256x256")),
        one(
            "image_variation dall-e-2",
            {"posthog.image.reference_count": 1, "posthog.image.size": "256x256", "posthog.image.count": 1},
        ),
        [ScriptedResponse({"created": 1, "data": [{"url": "https://a.io/x.png"}]})],
    ),
    "transcription": Use(
        transcribe(),
        one(
            "transcription gpt-4o-transcribe",
            {
                "gen_ai.usage.input_tokens": 14,
                "gen_ai.usage.output_tokens": 2,
                "gen_ai.usage.audio.input_tokens": 12,
                "gen_ai.usage.text.input_tokens": 2,
                "posthog.files.count": 1,
            },
            "posthog.image.reference_count",
        ),
        [
            ScriptedResponse(
                {
                    "text": "hi",
                    "usage": {
                        "type": "tokens",
                        "input_tokens": 14,
                        "output_tokens": 2,
                        "total_tokens": 16,
                        "input_token_details": {"audio_tokens": 12, "text_tokens": 2},
                    },
                }
            )
        ],
    ),
    "transcription as text": Use(
        transcribe(response_format="text"),
        one("transcription gpt-4o-transcribe", {"gen_ai.output.type": "text"}),
        [ScriptedResponse(b"hi")],
    ),
    "transcription stream": Use(
        transcribe(stream=True),
        one(
            "transcription gpt-4o-transcribe",
            {"gen_ai.request.stream": True, "gen_ai.usage.input_tokens": 14},
        ),
        [
            ScriptedResponse(
                events=[
                    {"type": "transcript.text.delta", "delta": "hi"},
                    {
                        "type": "transcript.text.done",
                        "text": "hi",
                        "usage": {
                            "type": "tokens",
                            "input_tokens": 14,
                            "output_tokens": 2,
                            "total_tokens": 16,
                        },
                    },
                ]
            )
        ],
    ),
    "translation of speech": Use(
        deprecated(lambda c: c.audio.translations.create(model="whisper-1", file=("a.wav", b"abc"))),
        one("translation whisper-1", {"gen_ai.response.finish_reasons": ("stop",)}),
        [ScriptedResponse({"text": "hi"})],
    ),
    "speech": Use(
        lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="hello"),
        one("speech tts-1", {"gen_ai.output.type": "speech", "posthog.prompt.length": 5}),
        [ScriptedResponse(b"RIFF\xff")],
    ),
    "moderation": Use(
        lambda c: c.moderations.create(model="omni-moderation-latest", input="hello"),
        one(
            "moderation omni-moderation-latest",
            {"gen_ai.operation.name": "moderation", "gen_ai.response.id": "modr-1"},
            "gen_ai.usage.input_tokens",
        ),
        [ScriptedResponse({"id": "modr-1", "model": "omni-moderation", "results": []})],
    ),
}

_FAULTS = {
    f"{status} of {name}": Use(
        use,
        failed(span, kind, {"posthog.http.status": status}),
        [ScriptedResponse(REFUSED, status=status)],
    )
    for status, kind, name, use, span in (
        (400, "BadRequestError", "a chat", chat(), CHAT),
        (401, "AuthenticationError", "a chat", chat(), CHAT),
        (403, "PermissionDeniedError", "a chat", chat(), CHAT),
        (404, "NotFoundError", "a chat", chat(), CHAT),
        (422, "UnprocessableEntityError", "a chat", chat(), CHAT),
        (429, "RateLimitError", "a chat", chat(), CHAT),
        (500, "InternalServerError", "a chat", chat(), CHAT),
        (429, "RateLimitError", "a chat stream", streamed(), CHAT),
        (429, "RateLimitError", "responses", respond(), CHAT),
        (500, "InternalServerError", "a responses stream", respond(stream=True), CHAT),
        (429, "RateLimitError", "embeddings", embed(), "embeddings text-embedding-3-small"),
        (400, "BadRequestError", "an image", draw(), PICTURE),
        (400, "BadRequestError", "an edit", edit(), "image_edit gpt-image-1"),
        (500, "InternalServerError", "a transcription", transcribe(), "transcription gpt-4o-transcribe"),
    )
} | {
    "an answer that cannot be parsed": Use(
        parsed,
        failed(CHAT, "ValidationError", TOKENS),
        [answer(message={"content": "no JSON"})],
    ),
    "lost before the answer": Use(
        chat(), failed(CHAT, "APIConnectionError"), [ScriptedResponse({"id": 1}, drop=True)]
    ),
    "lost within a stream": Use(
        streamed(),
        failed(CHAT, LOST, {"gen_ai.response.id": "c-1"}),
        [ScriptedResponse(events=[WORD], drop=True)],
    ),
    "an error within a stream": Use(
        streamed(),
        failed(CHAT, "APIError", {"gen_ai.response.id": "c-1"}),
        [ScriptedResponse(events=[WORD, REFUSED])],
    ),
    **{
        f"{name} in {of}": Use(use, failed(span, kind, {"posthog.http.status": status}), [response])
        for of, use, span in (
            ("a chat", chat(), CHAT),
            ("a raw chat", _CHATS["chat, raw"].use, CHAT),
            ("a chat stream", streamed(), CHAT),
            ("a raw chat stream", _CHATS["chat, raw stream"].use, CHAT),
            ("responses", respond(), CHAT),
            ("embeddings", embed(input="hello"), "embeddings text-embedding-3-small"),
        )
        for name, kind, status, response in (
            ("an error", "502", 502, ScriptedResponse({"error": {"message": "away", "code": 502}})),
            ("an error that is a text", "error", None, ScriptedResponse({"error": "away"})),
            ("a detail alone", "error", None, ScriptedResponse({"detail": "away"})),
            ("a page", "invalid_response", None, ScriptedResponse(b"<!doctype html><title>Login</title>")),
        )
        # Traceloop's instrumentor raises an error at a page in the place of a response.
        if (of, name) != ("responses", "a page")
    },
    "an error in a choice": Use(
        chat(),
        failed(CHAT, "502", {"posthog.http.status": 502, "gen_ai.response.finish_reasons": ("error",)}),
        [
            ScriptedResponse(
                {
                    **HEAD,
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "error",
                            "message": {"role": "assistant", "content": ""},
                            "error": {"code": 502, "message": "away"},
                        }
                    ],
                }
            )
        ],
    ),
    "an error in a choice of a stream": Use(
        streamed(),
        failed(CHAT, "502", {"posthog.http.status": 502, "gen_ai.response.id": "c-1"}),
        events_of(
            WORD,
            {
                **WORD,
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "error",
                        "delta": {},
                        "error": {"code": 502, "message": "away"},
                    }
                ],
            },
        ),
    ),
    "nobody listens": Use(chat(), failed(CHAT, "APIConnectionError"), (), nowhere),
    "no answer in time": Use(
        chat(), failed(CHAT, "APITimeoutError"), [ScriptedResponse(stall=True)], impatient
    ),
    "a second try": Use(
        chat(),
        one(CHAT, {"posthog.retry.count": 1, **TOKENS}),
        [
            ScriptedResponse(REFUSED, status=429, headers={"x-should-retry": "true", "retry-after-ms": "1"}),
            answer(),
        ],
        retrying,
    ),
    "three tries in vain": Use(
        chat(),
        failed(CHAT, "InternalServerError", {"posthog.retry.count": 2}),
        [ScriptedResponse(REFUSED, status=500, headers={"x-should-retry": "true", "retry-after-ms": "1"})]
        * 3,
        retrying,
    ),
}

USES = {**_CHATS, **_UNUSUAL, **_PIECES, **_RESPONSES, **_OTHERS, **_FAULTS}


# --- uses that differ between the two clients ---------------------------------------------------------------


def left_by_break(c: OpenAI) -> None:
    for _ in streamed()(c):
        break


def left_by_close(c: OpenAI) -> None:
    stream = streamed()(c)
    next(stream)
    stream.close()


def left_with(c: OpenAI) -> None:
    with streamed()(c) as stream:
        next(stream)


def left_by_error(c: OpenAI) -> str:
    try:
        with streamed()(c) as stream:
            for _ in stream:
                raise LookupError
    except LookupError:
        return "raised"
    return ""


def left_helper(c: OpenAI) -> None:
    with c.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        next(stream)


def never_started(c: OpenAI) -> None:
    streamed()(c)


def left_responses(c: OpenAI) -> None:
    for _ in respond(stream=True)(c):
        break


def left_raw(c: OpenAI) -> None:
    with c.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES) as response:
        assert response.status_code == 200


def raw(c: Any, **more: Any) -> Any:
    return c.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, **more)


def streaming(c: Any, **more: Any) -> Any:
    return c.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES, **more)


ASKED: Any = {"stream_options": {"include_usage": True}}


def parsed_at_once(c: OpenAI) -> Any:
    return [one.to_dict() for one in raw(c, stream=True, **ASKED).parse()]


async def parsed_at_once_async(c: AsyncOpenAI) -> Any:
    return [one.to_dict() async for one in (await raw(c, stream=True, **ASKED)).parse()]


def parsed_twice(c: OpenAI) -> Any:
    response = raw(c, stream=True, **ASKED)
    response.parse()
    return [one.to_dict() for one in response.parse()]


def in_pieces(how: str, **more: Any) -> Callable[[OpenAI], Any]:
    def run(c: OpenAI) -> Any:
        with streaming(c, **more) as response:
            return list(getattr(response.http_response, how)())

    return run


def in_pieces_async(how: str, **more: Any) -> Callable[[AsyncOpenAI], Any]:
    async def run(c: AsyncOpenAI) -> Any:
        async with streaming(c, **more) as response:
            return [piece async for piece in getattr(response.http_response, how)()]

    return run


async def left_async(c: AsyncOpenAI) -> None:
    stream = await streamed()(c)
    async for _ in stream:
        break
    await stream.close()


async def left_async_with(c: AsyncOpenAI) -> None:
    async with await streamed()(c) as stream:
        async for _ in stream:
            break


ARRIVED = threading.Event()


async def cancelled(c: AsyncOpenAI) -> str:
    """Cancel when the request has arrived and no answer comes; before, the SDK raises another error."""
    ARRIVED.clear()
    task = asyncio.create_task(chat()(c))
    await asyncio.to_thread(ARRIVED.wait, 30)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return ""


def generator(c: OpenAI) -> Any:
    return c.chat.completions.create(model=MODEL, messages=(one for one in MESSAGES)).to_dict()


def echoed(c: OpenAI) -> Any:
    first = chat()(c)
    return chat([*MESSAGES, first.choices[0].message, MESSAGES[1]])(c).to_dict()


def in_threads(c: OpenAI) -> int:
    import contextvars

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(chat(), c)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(threads)


async def gathered(c: AsyncOpenAI) -> int:
    return len(await asyncio.gather(*(chat()(c) for _ in range(4))))


def loops_with_garbage(c: OpenAI) -> int:
    for _ in range(3):
        left_by_break(c)
        gc.collect()
    return 3


_LEFT = one(
    CHAT,
    {"gen_ai.response.id": "c-1", "gen_ai.request.stream": True},
    "error.type",
    "gen_ai.response.finish_reasons",
)
_TWO = [Expected(CHAT, {"gen_ai.response.finish_reasons": ("stop",)})] * 2

CASES: dict[str, Case] = {
    **{
        name: Case(run_sync(use.use, use.make), use.spans, use.responses, use.since)
        for name, use in USES.items()
    },
    **{
        f"{name}, async": Case(run_async(use.use, use.make), use.spans, use.responses, use.since)
        for name, use in USES.items()
    },
    **{
        name: Case(run_sync(use), _LEFT, [SEEN])
        for name, use in {
            "left by break": left_by_break,
            "left by close": left_by_close,
            "left within with": left_with,
            "left by an error of the user's": left_by_error,
            "a helper's stream left": left_helper,
        }.items()
    },
    "left by break, async": Case(run_async(left_async), _LEFT, [SEEN]),
    "left within with, async": Case(run_async(left_async_with), _LEFT, [SEEN]),
    "a stream never read": Case(
        run_sync(never_started), one(CHAT, {"gen_ai.request.stream": True}, "error.type"), [SEEN]
    ),
    "three streams left": Case(run_sync(loops_with_garbage), [*_LEFT] * 3, [SEEN] * 3),
    "a responses stream left": Case(
        run_sync(left_responses),
        one(CHAT, {"gen_ai.request.stream": True, "gen_ai.response.id": "r-1"}, "error.type"),
        [
            ScriptedResponse(
                events=[
                    event("response.created", response={**RESPONSE, "status": "in_progress", "usage": None})
                ]
            )
        ],
    ),
    "a raw stream parsed at once": Case(run_sync(parsed_at_once), one(CHAT, _READ), [SEEN]),
    "a raw stream parsed at once, async": Case(run_async(parsed_at_once_async), one(CHAT, _READ), [SEEN]),
    "a raw stream parsed twice": Case(run_sync(parsed_twice), one(CHAT, _READ), [SEEN]),
    **{
        f"a response read by {how}{name}": Case(run, one(CHAT, attributes), [reply])
        for name, more, attributes, reply in (
            ("", {}, {**TOKENS, "gen_ai.response.finish_reasons": ("stop",)}, answer()),
            (", streamed", {"stream": True, **ASKED}, _READ, SEEN),
        )
        for how, run in {
            **{how: run_sync(in_pieces(how, **more)) for how in ("iter_bytes", "iter_lines", "iter_raw")},
            **{
                how: run_async(in_pieces_async(how, **more))
                for how in ("aiter_bytes", "aiter_lines", "aiter_raw")
            },
        }.items()
    },
    **{
        f"a stream read by {how}, without the usage that was not asked for": Case(run, one(CHAT, STREAMED))
        for how, run in {
            **{
                how: run_sync(in_pieces(how, stream=True)) for how in ("iter_bytes", "iter_lines", "iter_raw")
            },
            **{
                how: run_async(in_pieces_async(how, stream=True))
                for how in ("aiter_bytes", "aiter_lines", "aiter_raw")
            },
        }.items()
    },
    "a response lost while it is read": Case(
        run_sync(in_pieces("iter_bytes")),
        failed(CHAT, "RemoteProtocolError"),
        [ScriptedResponse({"id": 1}, drop=True)],
    ),
    "a response lost while it is read, async": Case(
        run_async(in_pieces_async("aiter_bytes")),
        failed(CHAT, "RemoteProtocolError"),
        [ScriptedResponse({"id": 1}, drop=True)],
    ),
    "an error among events that are read as text": Case(
        run_sync(in_pieces("iter_lines", stream=True)),
        failed(CHAT, "APIError", {"gen_ai.response.id": "c-1"}),
        [ScriptedResponse(events=[WORD, REFUSED])],
    ),
    "a raw response never read": Case(run_sync(left_raw), one(CHAT, {}, "error.type"), [answer()]),
    "a call cancelled": Case(
        run_async(cancelled),
        failed(CHAT, "CancelledError"),
        [ScriptedResponse(stall=True, first=ARRIVED.set)],
    ),
    "a generator of messages": Case(
        run_sync(generator), one(CHAT, {"gen_ai.response.finish_reasons": ("stop",)})
    ),
    "an answer sent back": Case(run_sync(echoed), _TWO),
    "in four threads": Case(run_sync(in_threads), [Expected(CHAT, PLAIN)] * 4),
    "four at once": Case(run_async(gathered), [Expected(CHAT, PLAIN)] * 4),
}
