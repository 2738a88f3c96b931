"""Uses of google-genai, and the spans that each must leave."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from tests.instrumentors.cases import Case, Expected, ScriptedResponse

MODEL = "gemini-2.5-flash"
NAME = f"generate_content {MODEL}"
IMAGEN = "imagen-4.0-generate-001"
Config = types.GenerateContentConfig
PNG = types.Part.from_bytes(data=b"\xff\xfe\xfb\xff", mime_type="image/png")
IMAGE = types.Image(image_bytes=b"\xff\xfe\xfb\xff", mime_type="image/png")
BASE64 = "//77/w=="
INTERACTIONS = (2, 30)
"""The version from which the cases' interactions exist in this form."""
DECISIONS = (3, 3)

Run = Callable[[Any], Any]


# --- clients ------------------------------------------------------------------------------------------------


def client(url: str, **options: Any) -> genai.Client:
    return genai.Client(api_key="x", http_options=types.HttpOptions(base_url=url, **options))


def vertex(url: str) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project="p",
        location="l",
        credentials=Credentials("token"),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=url),
    )


def comparable(result: Any) -> Any:
    """Make a result comparable: the headers of a response differ from call to call."""
    if isinstance(result, list):
        return [comparable(one) for one in result]
    return result.model_dump(exclude={"sdk_http_response"}) if hasattr(result, "model_dump") else result


def run_sync(use: Callable[[genai.Client], Any], make: Callable[[str], genai.Client] = client) -> Run:
    return lambda url: comparable(use(make(url)))


def run_async(
    use: Callable[[genai.Client], Awaitable[Any]], make: Callable[[str], genai.Client] = client
) -> Run:
    async def main(url: str) -> Any:
        c = make(url)
        try:
            return comparable(await use(c))
        finally:
            if close := getattr(c.aio, "aclose", None):  # since 1.40
                await close()

    return lambda url: asyncio.run(main(url))


def retrying(url: str) -> genai.Client:
    retries = types.HttpRetryOptions(
        attempts=3, initial_delay=0.001, max_delay=0.001, jitter=0.001, http_status_codes=[429, 503]
    )
    return client(url, retry_options=retries)


def once(url: str) -> genai.Client:
    return client(url, retry_options=types.HttpRetryOptions(attempts=1))


def impatient(url: str) -> genai.Client:
    return client(url, timeout=50, retry_options=types.HttpRetryOptions(attempts=1))


# --- generate_content ---------------------------------------------------------------------------------------


def generate(contents: Any = "hello", model: str = MODEL, **config: Any) -> Run:
    return run_sync(
        lambda c: c.models.generate_content(model=model, contents=contents, config=Config(**config))
    )


def chunks(c: genai.Client, contents: Any = "hello", **config: Any) -> Any:
    return c.models.generate_content_stream(model=MODEL, contents=contents, config=Config(**config))


def stream(contents: Any = "hello", **config: Any) -> Run:
    return run_sync(lambda c: list(chunks(c, contents, **config)))


async def asynchronous(c: genai.Client) -> Any:
    return await c.aio.models.generate_content(model=MODEL, contents="hello")


async def asynchronous_stream(c: genai.Client) -> Any:
    stream = await c.aio.models.generate_content_stream(model=MODEL, contents="hello")
    return [chunk async for chunk in stream]


def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


async def get_weather_async(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def chat(c: genai.Client) -> Any:
    session = c.chats.create(model=MODEL)
    return [session.send_message(words).text for words in ("hello", "a joke")]


def chat_stream(c: genai.Client) -> Any:
    session = c.chats.create(model=MODEL)
    return [[chunk.text for chunk in session.send_message_stream(words)] for words in ("hello", "a joke")]


async def chat_async(c: genai.Client) -> Any:
    return (await c.aio.chats.create(model=MODEL).send_message("hello")).text


def called(c: genai.Client) -> Any:
    return c.chats.create(model=MODEL, config=Config(tools=[get_weather])).send_message("weather?").text


async def called_async(c: genai.Client) -> Any:
    config = Config(tools=[get_weather_async])
    return (await c.aio.models.generate_content(model=MODEL, contents="weather?", config=config)).text


def embed(c: genai.Client) -> Any:
    config = types.EmbedContentConfig(output_dimensionality=8)
    return c.models.embed_content(model="gemini-embedding-001", contents=["one", "two"], config=config)


async def embed_async(c: genai.Client) -> Any:
    return await c.aio.models.embed_content(model="gemini-embedding-001", contents="one")


def leave_by_break(c: genai.Client) -> None:
    for _ in chunks(c):
        break


def leave_by_close(c: genai.Client) -> None:
    stream = chunks(c)
    next(stream)
    stream.close()


def leave_by_exception(c: genai.Client) -> None:
    for _ in chunks(c):
        raise LookupError("mine")


async def leave_async(c: genai.Client) -> None:
    # The SDK leaves its inner generators to the loop, which at times complains, also without us.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    stream: Any = await c.aio.models.generate_content_stream(model=MODEL, contents="hello")
    await stream.__anext__()
    await stream.aclose()


async def never_iterated(c: genai.Client) -> None:
    stream = await c.aio.models.generate_content_stream(model=MODEL, contents="hello")
    del stream
    gc.collect()


def never_started(c: genai.Client) -> None:
    chunks(c)
    gc.collect()


async def cancelled(c: genai.Client) -> None:
    await asyncio.wait_for(c.aio.models.generate_content(model=MODEL, contents="hello"), 0.3)


def answer(*parts: Any, finish: str | None = "STOP", usage: Any = None, **more: Any) -> Any:
    """Make a response of one candidate."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 5, **(usage or {})},
        "modelVersion": "m-1",
        "responseId": "r",
    }


def failure(code: int, status: str) -> ScriptedResponse:
    return ScriptedResponse({"error": {"code": code, "message": "no", "status": status}}, status=code)


TEXT = {"text": "one "}
FIRST = answer(TEXT, finish=None)
LAST = answer(TEXT)
PLAIN = {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": MODEL,
    "gen_ai.response.model": MODEL,
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 2,
    "gen_ai.usage.output_tokens": 35,
    "gen_ai.usage.reasoning.output_tokens": 16,
    "posthog.prompt.length": 5,
    "posthog.messages.count": 1,
    "server.address": "127.0.0.1",
}
STREAMED = {**PLAIN, "gen_ai.request.stream": True}
LEFT = Expected(
    NAME,
    {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"one "}]}]',
    },
    ("error.type", "gen_ai.response.finish_reasons"),
)
CALLED = [
    Expected(NAME, {"gen_ai.response.finish_reasons": ("tool_call",), "posthog.tool_calls.count": 1}),
    Expected(NAME, {"gen_ai.response.finish_reasons": ("stop",), "posthog.messages.count": 3}),
]


def one(
    run: Run,
    attributes: dict[str, Any],
    *responses: ScriptedResponse,
    absent: tuple[str, ...] = (),
    name: str = NAME,
) -> Case:
    return Case(run, [Expected(name, attributes, absent)], responses)


def broken(run: Run, kind: str, *responses: ScriptedResponse, **attributes: Any) -> Case:
    return Case(run, [Expected(NAME, {"error.type": kind, **attributes}, error=True)], responses)


def message(*parts: str, finish: str = "stop") -> str:
    """Write one output message as the convention has it."""
    return f'[{{"role":"assistant","parts":[{",".join(parts)}],"finish_reason":"{finish}"}}]'


GENERATE: dict[str, Case] = {
    "plain": one(generate(), PLAIN, absent=("gen_ai.request.stream", "error.type", "posthog.retry.count")),
    "async": one(run_async(asynchronous), PLAIN),
    "stream": one(stream(), STREAMED),
    "async stream": one(run_async(asynchronous_stream), STREAMED),
    "parameters": one(
        generate(
            temperature=0.5,
            top_p=0.9,
            top_k=4,
            seed=7,
            max_output_tokens=3,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            stop_sequences=["x"],
            system_instruction="be nice",
            response_mime_type="application/json",
            thinking_config=types.ThinkingConfig(thinking_budget=5),
        ),
        {
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.top_k": 4,
            "gen_ai.request.seed": 7,
            "gen_ai.request.max_tokens": 3,
            "gen_ai.request.presence_penalty": 0.1,
            "gen_ai.request.frequency_penalty": 0.2,
            "gen_ai.request.stop_sequences": ("x",),
            "gen_ai.output.type": "json",
            "gen_ai.response.finish_reasons": ("length",),
            "gen_ai.usage.reasoning.output_tokens": 5,
            "gen_ai.system_instructions": '[{"type":"text","content":"be nice"}]',
            "posthog.thinking.budget": 5,
            "posthog.prompt.length": len("hello") + len("be nice"),
        },
    ),
    "search": one(
        generate(tools=[types.Tool(google_search=types.GoogleSearch(), url_context=types.UrlContext())]),
        {
            "posthog.web_search.enabled": True,
            "posthog.web_search.used": True,
            "posthog.web_search.count": 1,
            "posthog.url_context.enabled": True,
            "posthog.url_context.used": True,
            "gen_ai.usage.input_tokens": 42,  # 2 of the prompt, 40 of the tool's
        },
    ),
    "image in": one(
        generate(["hello", PNG]), {"posthog.files.count": 1, "gen_ai.usage.image.input_tokens": 258}
    ),
    "image out": one(
        generate(["draw", PNG, PNG], "gemini-2.5-flash-image"),
        {
            "gen_ai.output.type": "image",
            "posthog.image.count": 1,
            "posthog.image.reference_count": 2,
            "gen_ai.usage.image.output_tokens": 258,
        },
        name="generate_content gemini-2.5-flash-image",
    ),
    "chat": Case(
        run_sync(chat),
        [Expected(NAME, {"posthog.messages.count": 1}), Expected(NAME, {"posthog.messages.count": 3})],
    ),
    "chat stream": Case(
        run_sync(chat_stream),
        [Expected(NAME, {"gen_ai.request.stream": True, "posthog.files.count": None})] * 2,
    ),
    "async chat": one(run_async(chat_async), PLAIN),
    "automatic function calling": Case(run_sync(called), CALLED),
    "async function calling": Case(run_async(called_async), CALLED),
    "streamed function calling": Case(stream("weather?", tools=[get_weather]), CALLED),
    "count tokens": Case(
        run_sync(lambda c: c.models.count_tokens(model=MODEL, contents="hello")),
        [],
        [ScriptedResponse({"totalTokens": 1})],
    ),
    "get a model": Case(
        run_sync(lambda c: c.models.get(model=MODEL)), [], [ScriptedResponse({"name": "models/m"})]
    ),
    "ids and modalities": one(
        generate(),
        {
            "gen_ai.response.model": "m-1",
            "gen_ai.response.id": "r",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.usage.reasoning.output_tokens": 4,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "gen_ai.usage.text.input_tokens": 8,
            "gen_ai.usage.audio.input_tokens": 2,
            "gen_ai.usage.text.cache_read.input_tokens": 2,
            "gen_ai.usage.text.output_tokens": 5,
        },
        ScriptedResponse(
            answer(
                TEXT,
                usage={
                    "toolUsePromptTokenCount": 3,
                    "thoughtsTokenCount": 4,
                    "cachedContentTokenCount": 2,
                    "promptTokensDetails": [
                        {"modality": "TEXT", "tokenCount": 5},
                        {"modality": "AUDIO", "tokenCount": 2},
                    ],
                    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
                    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 2}],
                    "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 5}],
                },
            )
        ),
    ),
    "cached content": one(
        generate(cached_content="cachedContents/c"), {"posthog.cached_content": True}, ScriptedResponse(LAST)
    ),
    "thoughts": one(
        generate(thinking_config=types.ThinkingConfig(include_thoughts=True)),
        {
            "gen_ai.output.messages": message(
                '{"type":"reasoning","content":"hm"}', '{"type":"text","content":"one "}'
            )
        },
        ScriptedResponse(answer({"text": "hm", "thought": True}, TEXT)),
    ),
    "streamed thoughts are one part": one(
        stream(),
        {
            "gen_ai.output.messages": message(
                '{"type":"reasoning","content":"hmhm"}', '{"type":"text","content":"one one "}'
            ),
            "gen_ai.usage.reasoning.output_tokens": 4,
        },
        ScriptedResponse(
            events=[
                answer({"text": "hm", "thought": True}, finish=None),
                answer({"text": "hm", "thought": True}, finish=None),
                FIRST,
                answer(TEXT, usage={"thoughtsTokenCount": 4}),
            ]
        ),
    ),
    "code execution": one(
        generate(tools=[types.Tool(code_execution=types.ToolCodeExecution())]),
        {
            "gen_ai.tool.definitions": '[{"type":"code_execution","name":"code_execution"}]',
            "gen_ai.output.messages": message(
                '{"type":"server_tool_call","name":"code_execution","server_tool_call":'
                '{"type":"code_execution","code":"1+1","language":"PYTHON"}}',
                '{"type":"server_tool_call_response","server_tool_call_response":'
                '{"type":"code_execution","outcome":"OUTCOME_OK","output":"2"}}',
            ),
        },
        ScriptedResponse(
            answer(
                {"executableCode": {"code": "1+1", "language": "PYTHON"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
            )
        ),
    ),
    "search results in a stream": one(
        stream(tools=[types.Tool(google_search=types.GoogleSearch())]),
        {"posthog.web_search.used": True, "posthog.web_search.count": 2},
        ScriptedResponse(events=[FIRST, answer(TEXT, groundingMetadata={"webSearchQueries": ["a", "b"]})]),
    ),
    "maps are no web search": one(
        run_sync(
            lambda c: c.models.generate_content(
                model=MODEL,
                contents="hello",
                config=Config(tools=[types.Tool(google_maps=types.GoogleMaps())]),
            ),
            vertex,
        ),
        {},
        ScriptedResponse(answer(TEXT, groundingMetadata={"groundingChunks": [{"maps": {"title": "here"}}]})),
        absent=("posthog.web_search.used", "posthog.web_search.enabled"),
    ),
    "file": one(
        generate([types.Part.from_uri(file_uri="gs://b/a.pdf", mime_type="application/pdf"), "sum up"]),
        {
            "posthog.files.count": 1,
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"uri","uri":"gs://b/a.pdf",'
            '"modality":"document","mime_type":"application/pdf"},{"type":"text","content":"sum up"}]}]',
        },
        ScriptedResponse(LAST),
    ),
    "function response": one(
        generate(
            [
                types.Content(role="user", parts=[types.Part(text="w?")]),
                types.Content(
                    role="model",
                    parts=[types.Part(function_call=types.FunctionCall(name="w", args={"c": "B"}))],
                ),
                types.Content(
                    role="user",
                    parts=[types.Part.from_function_response(name="w", response={"result": "sun"})],
                ),
            ]
        ),
        {
            "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"w?"}]},'
            '{"role":"assistant","parts":[{"type":"tool_call","name":"w","arguments":{"c":"B"}}]},'
            '{"role":"tool","parts":[{"type":"tool_call_response","response":{"result":"sun"},"name":"w"}]}]'
        },
        ScriptedResponse(LAST),
    ),
    "two candidates": one(
        stream(candidate_count=2),
        {
            "gen_ai.request.choice.count": 2,
            "gen_ai.response.finish_reasons": ("stop", "length"),
            "gen_ai.output.messages": (
                '[{"role":"assistant","parts":[{"type":"text","content":"one one "}],"finish_reason":"stop"},'
                '{"role":"assistant","parts":[{"type":"text","content":"two"}],"finish_reason":"length"}]'
            ),
        },
        ScriptedResponse(
            events=[
                {
                    "candidates": [
                        FIRST["candidates"][0],
                        {"content": {"parts": [{"text": "two"}]}, "index": 1},
                    ]
                },
                {"candidates": [LAST["candidates"][0], {"index": 1, "finishReason": "MAX_TOKENS"}]},
            ]
        ),
    ),
    "one candidate": one(
        generate(candidate_count=1), {}, ScriptedResponse(LAST), absent=("gen_ai.request.choice.count",)
    ),
    "speech": one(
        generate(response_modalities=["AUDIO"]),
        {"gen_ai.output.type": "speech", "gen_ai.response.finish_reasons": ("stop",)},
        ScriptedResponse(answer({"inlineData": {"mimeType": "audio/L16", "data": BASE64}})),
    ),
    "images in a stream": one(
        stream(response_modalities=["TEXT", "IMAGE"]),
        {"gen_ai.output.type": "image", "posthog.image.count": 2},
        ScriptedResponse(
            events=[
                answer({"inlineData": {"mimeType": "image/png", "data": BASE64}}, finish=f)
                for f in (None, "STOP")
            ]
        ),
    ),
    "count as text": one(
        generate(),
        {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.text.input_tokens": 5},
        ScriptedResponse(
            answer(TEXT, usage={"promptTokensDetails": [{"modality": "TEXT", "tokenCount": "5"}]})
        ),
    ),
    "count nulled in the last chunk": one(
        stream(),
        {"gen_ai.usage.input_tokens": 7, "gen_ai.response.finish_reasons": ("stop",)},
        ScriptedResponse(events=[FIRST, answer(TEXT, usage={"promptTokenCount": None})]),
    ),
    "index as text in one chunk": one(
        stream(),
        {"gen_ai.usage.input_tokens": 7, "gen_ai.response.finish_reasons": ("stop", "length")},
        ScriptedResponse(events=[LAST, {"candidates": [{"index": "1", "finishReason": "MAX_TOKENS"}]}]),
    ),
    "options of one request": one(
        generate(http_options=types.HttpOptions(extra_body={"generationConfig": {"topK": 3}}), seed=1),
        {"gen_ai.request.top_k": 3, "gen_ai.request.seed": 1},
        ScriptedResponse(LAST),
    ),
    "usage in a tail without candidates": one(
        stream(),
        {
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 9,
            "gen_ai.response.finish_reasons": ("stop",),
        },
        ScriptedResponse(
            events=[
                FIRST,
                {"candidates": [{"finishReason": "STOP", "index": 0}]},
                {"usageMetadata": {"candidatesTokenCount": 9}},
            ]
        ),
    ),
    "no finish reason": one(
        stream(), {"gen_ai.response.finish_reasons": ("error",)}, ScriptedResponse(events=[FIRST])
    ),
    "malformed function call": one(
        generate(),
        {"gen_ai.response.finish_reasons": ("error",)},
        ScriptedResponse(answer(finish="MALFORMED_FUNCTION_CALL")),
    ),
    "blocked prompt": one(
        generate(),
        {
            "gen_ai.response.finish_reasons": ("content_filter",),
            "posthog.prompt.block_reason": "SAFETY",
            "gen_ai.usage.input_tokens": 3,
        },
        ScriptedResponse(
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
        ),
        absent=("error.type",),
    ),
    "blocked prompt in a stream": one(
        stream(),
        {
            "gen_ai.response.finish_reasons": ("content_filter",),
            "posthog.prompt.block_reason": "PROHIBITED_CONTENT",
        },
        ScriptedResponse(events=[{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}]),
    ),
    "safety stop": one(
        generate(),
        {"gen_ai.response.finish_reasons": ("content_filter",)},
        ScriptedResponse(answer(TEXT, finish="SAFETY")),
    ),
    "recitation in a stream": one(
        stream(),
        {"gen_ai.response.finish_reasons": ("content_filter",)},
        ScriptedResponse(events=[FIRST, answer(finish="RECITATION")]),
    ),
    "empty answer": one(generate(), {"gen_ai.request.model": MODEL}, ScriptedResponse({})),
    "stream left by break": Case(run_sync(leave_by_break), [LEFT], [ScriptedResponse(events=[FIRST] * 3)]),
    "stream closed": Case(run_sync(leave_by_close), [LEFT], [ScriptedResponse(events=[FIRST] * 3)]),
    "stream left by exception": Case(
        run_sync(leave_by_exception), [LEFT], [ScriptedResponse(events=[FIRST] * 3)]
    ),
    "async stream closed": Case(run_async(leave_async), [LEFT], [ScriptedResponse(events=[FIRST] * 3)]),
    "async stream never started": Case(run_async(never_iterated), [], [ScriptedResponse(events=[LAST])]),
    "stream never started": Case(run_sync(never_started), []),
    "400": broken(generate(), "400", failure(400, "INVALID_ARGUMENT"), **{"posthog.http.status": 400}),
    "429": broken(generate(), "429", failure(429, "RESOURCE_EXHAUSTED")),
    "async 500": broken(run_async(asynchronous), "500", failure(500, "INTERNAL")),
    "429 to a stream": broken(stream(), "429", failure(429, "RESOURCE_EXHAUSTED")),
    "503 to an async stream": broken(run_async(asynchronous_stream), "503", failure(503, "UNAVAILABLE")),
    "200 that is no JSON": broken(generate(), "JSONDecodeError", ScriptedResponse(b"<html>")),
    "200 that is no JSON, async": broken(
        run_async(asynchronous), "JSONDecodeError", ScriptedResponse(b"<html>")
    ),
    "connection lost": broken(
        generate(), "RemoteProtocolError", ScriptedResponse({"candidates": []}, drop=True)
    ),
    "connection lost in a stream": broken(
        stream(),
        "RemoteProtocolError",
        ScriptedResponse(events=[FIRST], drop=True),
        **{
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.response.model": "m-1",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"one "}]}]',
        },
    ),
    "connection lost in an async stream": Case(  # httpx and aiohttp name it differently
        run_async(asynchronous_stream),
        [Expected(NAME, {"gen_ai.usage.input_tokens": 7, "gen_ai.response.id": "r"}, error=True)],
        [ScriptedResponse(events=[FIRST], drop=True)],
    ),
    "error inside a stream": broken(
        stream(),
        "503",
        ScriptedResponse(
            events=[FIRST, {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}]
        ),
        **{"posthog.http.status": 503, "gen_ai.response.id": "r"},
    ),
    "time-out": broken(
        run_sync(lambda c: c.models.generate_content(model=MODEL, contents="hello"), impatient),
        "ReadTimeout",
        ScriptedResponse(stall=True),
    ),
    "cancelled": broken(run_async(cancelled), "CancelledError", ScriptedResponse(stall=True)),
    "retried": Case(
        run_sync(lambda c: c.models.generate_content(model=MODEL, contents="hello"), retrying),
        [Expected(NAME, {"posthog.retry.count": 2, "gen_ai.response.id": "r"}, ("error.type",))],
        [failure(429, "RESOURCE_EXHAUSTED"), failure(503, "UNAVAILABLE"), ScriptedResponse(LAST)],
    ),
    "async retried": Case(
        run_async(asynchronous, retrying),
        [Expected(NAME, {"posthog.retry.count": 1, "gen_ai.response.id": "r"}, ("error.type",))],
        [failure(429, "RESOURCE_EXHAUSTED"), ScriptedResponse(LAST)],
    ),
    "stream retried": Case(
        run_sync(lambda c: list(chunks(c)), retrying),
        [Expected(NAME, {"posthog.retry.count": 1, "gen_ai.response.id": "r"}, ("error.type",))],
        [failure(429, "RESOURCE_EXHAUSTED"), ScriptedResponse(events=[LAST])],
    ),
    "retried in vain": Case(
        run_sync(lambda c: c.models.generate_content(model=MODEL, contents="hello"), retrying),
        [Expected(NAME, {"posthog.retry.count": 2, "error.type": "429"}, error=True)],
        [failure(429, "RESOURCE_EXHAUSTED")] * 3,
    ),
    "thinking level": Case(
        run_sync(
            lambda c: c.models.generate_content(
                model="gemini-3-flash",
                contents="hello",
                config=Config(thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)),
            )
        ),
        [
            Expected(
                "generate_content gemini-3-flash",
                {"gen_ai.request.reasoning.level": "low", "posthog.thinking.level": "low"},
            )
        ],
        since=(1, 51),
    ),
    "image config": Case(
        run_sync(
            lambda c: c.models.generate_content(
                model="gemini-3-pro-image",
                contents="draw",
                config=Config(image_config=types.ImageConfig(aspect_ratio="16:9", image_size="1K")),
            )
        ),
        [
            Expected(
                "generate_content gemini-3-pro-image",
                {"posthog.image.size": "1K", "posthog.image.aspect_ratio": "16:9", "posthog.image.count": 1},
            )
        ],
        since=(1, 51),
    ),
}


# --- embeddings and Imagen ----------------------------------------------------------------------------------

PREDICTED = {"bytesBase64Encoded": BASE64, "mimeType": "image/png"}


def quietly(use: Callable[[genai.Client], Any]) -> Run:
    """Call a method that the newest SDK warns it will remove."""

    def run(url: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return use_it(url)

    use_it = run_sync(use, vertex)
    return run


def imagine(c: genai.Client) -> Any:
    config = types.GenerateImagesConfig(number_of_images=2, aspect_ratio="16:9", seed=3, add_watermark=False)
    return c.models.generate_images(model=IMAGEN, prompt="a cat", config=config)


async def imagine_async(c: genai.Client) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return await c.aio.models.generate_images(model=IMAGEN, prompt="a cat")


def edit(c: genai.Client) -> Any:
    references: list[Any] = [
        types.RawReferenceImage(reference_id=1, reference_image=IMAGE),
        types.MaskReferenceImage(
            reference_id=2,
            config=types.MaskReferenceConfig(mask_mode=types.MaskReferenceMode.MASK_MODE_BACKGROUND),
        ),
    ]
    return c.models.edit_image(model="imagen-3.0-capability-001", prompt="a dog", reference_images=references)


def upscale(c: genai.Client) -> Any:
    return c.models.upscale_image(model="imagen-4.0-upscale-preview", image=IMAGE, upscale_factor="x2")


def recontext(c: genai.Client) -> Any:
    source = types.RecontextImageSource(
        person_image=IMAGE, product_images=[types.ProductImage(product_image=IMAGE)]
    )
    return c.models.recontext_image(model="virtual-try-on-preview-08-04", source=source)


def segment(c: genai.Client) -> Any:
    return c.models.segment_image(
        model="image-segmentation-001",
        source=types.SegmentImageSource(image=IMAGE),
        config=types.SegmentImageConfig(mode=types.SegmentMode.FOREGROUND),
    )


VERTEX = {"gen_ai.provider.name": "gcp.vertex_ai", "server.address": "127.0.0.1"}
MODELS: dict[str, Case] = {
    "embeddings": one(
        run_sync(embed),
        {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.embeddings.dimension.count": 8,
            "gen_ai.usage.input_tokens": 2,
            "posthog.messages.count": 2,
        },
        absent=("gen_ai.usage.output_tokens",),
        name="embeddings gemini-embedding-001",
    ),
    "async embeddings": one(
        run_async(embed_async),
        {"gen_ai.operation.name": "embeddings", "posthog.messages.count": 1},
        name="embeddings gemini-embedding-001",
    ),
    "embeddings 429": Case(
        run_sync(embed),
        [Expected("embeddings gemini-embedding-001", {"error.type": "429"}, error=True)],
        [failure(429, "RESOURCE_EXHAUSTED")],
    ),
    "Vertex AI": one(
        run_sync(lambda c: c.models.generate_content(model=MODEL, contents="hello"), vertex),
        VERTEX | {"gen_ai.response.id": "r"},
        ScriptedResponse(LAST),
    ),
    "Vertex AI stream": one(
        run_sync(lambda c: list(chunks(c)), vertex),
        VERTEX | {"gen_ai.response.id": "r"},
        ScriptedResponse(events=[LAST]),
    ),
    "async Vertex AI": one(run_async(asynchronous, vertex), VERTEX, ScriptedResponse(LAST)),
    "Vertex AI 403": broken(
        run_sync(lambda c: c.models.generate_content(model=MODEL, contents="hello"), vertex),
        "403",
        failure(403, "PERMISSION_DENIED"),
    ),
    "Vertex AI embeddings": one(
        run_sync(lambda c: c.models.embed_content(model="text-embedding-005", contents=["a", "bc"]), vertex),
        {"gen_ai.usage.input_tokens": 3, "posthog.messages.count": 2, "posthog.prompt.length": 3},
        ScriptedResponse(
            {
                "predictions": [
                    {"embeddings": {"values": [0.5], "statistics": {"token_count": n, "truncated": False}}}
                    for n in (1, 2)
                ]
            }
        ),
        name="embeddings text-embedding-005",
    ),
    "images": one(
        quietly(imagine),
        {
            "gen_ai.operation.name": "image_generation",
            "gen_ai.output.type": "image",
            "gen_ai.request.choice.count": 2,
            "gen_ai.request.seed": 3,
            "gen_ai.response.finish_reasons": ("stop", "stop"),
            "posthog.image.count": 2,
            "posthog.image.aspect_ratio": "16:9",
            "posthog.prompt.length": 5,
        },
        ScriptedResponse({"predictions": [PREDICTED, PREDICTED]}),
        absent=("posthog.image.reference_count",),
        name=f"image_generation {IMAGEN}",
    ),
    "async images": one(
        run_async(imagine_async, vertex),
        {
            "posthog.image.count": 1,
            "gen_ai.output.messages": message(
                '{"type":"blob","mime_type":"image/png","modality":"image","content":"' + BASE64 + '"}'
            ),
        },
        ScriptedResponse({"predictions": [PREDICTED]}),
        name=f"image_generation {IMAGEN}",
    ),
    "image withheld": one(
        quietly(imagine),
        {"posthog.image.count": 1, "gen_ai.response.finish_reasons": ("stop", "content_filter")},
        ScriptedResponse({"predictions": [PREDICTED, {"raiFilteredReason": "no"}]}),
        absent=("error.type",),
        name=f"image_generation {IMAGEN}",
    ),
    "images 400": Case(
        quietly(imagine),
        [Expected(f"image_generation {IMAGEN}", {"error.type": "400"}, error=True)],
        [failure(400, "INVALID_ARGUMENT")],
    ),
    "image edit": one(
        quietly(edit),
        {"gen_ai.operation.name": "image_edit", "posthog.image.reference_count": 1, "posthog.image.count": 1},
        ScriptedResponse({"predictions": [PREDICTED]}),
        name="image_edit imagen-3.0-capability-001",
    ),
    "image upscale": one(
        quietly(upscale),
        {"posthog.image.reference_count": 1, "posthog.image.count": 1},
        ScriptedResponse({"predictions": [PREDICTED]}),
        name="image_upscale imagen-4.0-upscale-preview",
    ),
    "image recontext": one(
        quietly(recontext),
        {"posthog.image.reference_count": 2, "posthog.image.count": 1},
        ScriptedResponse({"predictions": [PREDICTED]}),
        name="image_recontext virtual-try-on-preview-08-04",
    ),
    "image segmentation": one(
        quietly(segment),
        {"posthog.image.reference_count": 1, "posthog.image.count": 1},
        ScriptedResponse({"predictions": [PREDICTED]}),
        name="image_segmentation image-segmentation-001",
    ),
}


# --- interactions -------------------------------------------------------------------------------------------

FLASH = "gemini-3-flash-preview"
INTERACTION_NAME = f"generate_content {FLASH}"
USAGE = {
    "total_input_tokens": 5,
    "total_tool_use_tokens": 2,
    "total_output_tokens": 7,
    "total_thought_tokens": 3,
    "total_cached_tokens": 1,
    "input_tokens_by_modality": [{"modality": "text", "tokens": 5}],
    "output_tokens_by_modality": [{"modality": "text", "tokens": 7}],
}
OUTPUT_STEP = {"type": "model_output", "content": [{"type": "text", "text": "hello"}]}
CALL = {"type": "function_call", "id": "f", "name": "weather", "arguments": {"city": "Bonn"}}


def interaction(*steps: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    times = {"created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z"}
    head = {"id": "i", "status": status, "model": FLASH, "object": "interaction", **times}
    return {**head, "steps": list(steps or [OUTPUT_STEP]), "usage": USAGE, **more}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event_type": kind, **fields}


def step_events(index: int, step: Any, *deltas: Any) -> list[Any]:
    """Make the events of one step."""
    return [
        event("step.start", index=index, step=step),
        *(event("step.delta", index=index, delta=delta) for delta in deltas),
        event("step.stop", index=index),
    ]


def flow(*events: Any, status: str | None = "completed", **more: Any) -> ScriptedResponse:
    """Make a stream of events: it begins, and ends with a status."""
    begun = event("interaction.created", interaction={"id": "i", "status": "in_progress", "model": FLASH})
    ended = {"id": "i", "status": status, "model": FLASH, "usage": USAGE, **more}
    last = [event("interaction.completed", interaction=ended), "[DONE]"] if status else []
    return ScriptedResponse(events=[begun, *events, *last])


HELLO = step_events(
    0, {"type": "model_output"}, {"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}
)


def interact(given: Any = "hello", make: Any = once, **options: Any) -> Run:
    options.setdefault("model", FLASH)
    return run_sync(lambda c: c.interactions.create(input=given, **options), make)


def interact_async(given: Any = "hello", make: Any = once, **options: Any) -> Run:
    return run_async(lambda c: c.aio.interactions.create(model=FLASH, input=given, **options), make)


def flowing(use: Any = list, make: Any = once, **options: Any) -> Run:
    return run_sync(
        lambda c: use(c.interactions.create(model=FLASH, input="hello", stream=True, **options)), make
    )


def flowing_async(leave: bool = False) -> Run:
    async def use(c: genai.Client) -> Any:
        read_events = []
        events: Any = await c.aio.interactions.create(model=FLASH, input="hello", stream=True)
        async for one in events:
            read_events.append(one)
            if leave and one.event_type == "step.delta":
                await events.close()
                break
        return read_events

    return run_async(use, once)


def first_delta(events: Any, after: Callable[[Any], Any]) -> Any:
    read_events = []
    for one in events:
        read_events.append(one)
        if one.event_type == "step.delta":
            after(events)
            break
    return read_events


def managed(events: Any) -> Any:
    with events as entered:
        return first_delta(entered, lambda _: None)


def raw(c: genai.Client) -> Any:
    response = c.interactions.with_raw_response.create(model=FLASH, input="hello")
    return response.parse().status


def streamed_raw(c: genai.Client) -> Any:
    with c.interactions.with_streaming_response.create(model=FLASH, input="hello") as response:
        return response.parse().status


QUESTIONS: Any = {"q": {"type": "noul", "instructions": "polite?"}}
DECISION = ScriptedResponse({"answers": {}, "usage": {"total_input_tokens": 5, "total_output_tokens": 2}})
DECISION_SPAN = Expected(
    INTERACTION_NAME,
    {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2, "posthog.prompt.length": 5},
    ("error.type",),
)


def decide(c: Any) -> Any:
    return c.decisions.create(model=f"models/{FLASH}", input="hello", questions=QUESTIONS)


async def decide_async(c: Any) -> Any:
    return await c.aio.decisions.create(model=f"models/{FLASH}", input="hello", questions=QUESTIONS)


def interaction_case(
    run: Run, attributes: dict[str, Any], *responses: ScriptedResponse, absent: tuple[str, ...] = ()
) -> Case:
    return Case(run, [Expected(INTERACTION_NAME, attributes, absent)], responses, INTERACTIONS)


def failed(run: Run, kind: str, *responses: ScriptedResponse, **attributes: Any) -> Case:
    return Case(
        run,
        [Expected(INTERACTION_NAME, {"error.type": kind, **attributes}, error=True)],
        responses,
        INTERACTIONS,
    )


COUNTED = {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": FLASH,
    "gen_ai.response.model": FLASH,
    "gen_ai.response.id": "i",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.usage.reasoning.output_tokens": 3,
    "gen_ai.usage.cache_read.input_tokens": 1,
    "gen_ai.usage.text.input_tokens": 5,
    "gen_ai.usage.text.output_tokens": 7,
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"hello"}]}]',
    "gen_ai.output.messages": message('{"type":"text","content":"hello"}'),
    "posthog.prompt.length": 5,
    "server.address": "127.0.0.1",
}
STREAM_COUNTED = {**COUNTED, "gen_ai.request.stream": True}
SEARCHED = [
    {"type": "google_search_call", "id": "s", "arguments": {"queries": ["a", "b"]}},
    {"type": "google_search_result", "call_id": "s", "result": []},
    {"type": "url_context_call", "id": "u", "arguments": {"urls": ["https://a.b"]}},
    {"type": "url_context_result", "call_id": "u", "result": []},
]
OF_INTERACTIONS: dict[str, Case] = {
    "interaction": interaction_case(
        interact(), COUNTED, ScriptedResponse(interaction()), absent=("gen_ai.request.stream",)
    ),
    "async interaction": interaction_case(interact_async(), COUNTED, ScriptedResponse(interaction())),
    "interaction stream": interaction_case(flowing(), STREAM_COUNTED, flow(*HELLO)),
    "async interaction stream": interaction_case(flowing_async(), STREAM_COUNTED, flow(*HELLO)),
    "interaction parameters": interaction_case(
        interact(
            generation_config={
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "max_output_tokens": 30,
                "stop_sequences": ["x"],
                "thinking_level": "low",
            },
            system_instruction="be nice",
            previous_interaction_id="before",
            service_tier="flex",
        ),
        {
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.seed": 7,
            "gen_ai.request.max_tokens": 30,
            "gen_ai.request.stop_sequences": ("x",),
            "gen_ai.request.reasoning.level": "low",
            "gen_ai.request.previous_response.id": "before",
            "gen_ai.system_instructions": '[{"type":"text","content":"be nice"}]',
            "posthog.thinking.level": "low",
            "posthog.request.service_tier": "flex",
            "posthog.prompt.length": len("hello") + len("be nice"),
        },
        ScriptedResponse(interaction()),
    ),
    "interaction that wants a tool": interaction_case(
        interact(tools=[{"type": "function", "name": "weather", "description": "d", "parameters": {}}]),
        {
            "gen_ai.response.finish_reasons": ("tool_call",),
            "posthog.tools.count": 1,
            "posthog.tool_calls.count": 1,
            "gen_ai.output.messages": message(
                '{"type":"tool_call","name":"weather","arguments":{"city":"Bonn"},"id":"f"}',
                finish="tool_call",
            ),
        },
        ScriptedResponse(interaction(CALL, status="requires_action")),
        absent=("error.type",),
    ),
    "interaction stream that wants a tool": interaction_case(
        flowing(),
        {
            "gen_ai.response.finish_reasons": ("tool_call",),
            "posthog.tool_calls.count": 1,
            "gen_ai.output.messages": message(
                '{"type":"tool_call","name":"weather","arguments":{"city":"Bonn"},"id":"f"}',
                finish="tool_call",
            ),
        },
        flow(
            *step_events(
                0,
                {**CALL, "arguments": {}},
                {"type": "arguments_delta", "arguments": '{"city":'},
                {"type": "arguments_delta", "arguments": '"Bonn"}'},
            ),
            status="requires_action",
        ),
    ),
    "interaction with a tool's result": interaction_case(
        interact(
            [{"type": "function_result", "call_id": "f", "name": "weather", "result": "sun"}],
            previous_interaction_id="before",
        ),
        {
            "gen_ai.input.messages": '[{"role":"tool","parts":[{"type":"tool_call_response","response":"sun",'
            '"id":"f","name":"weather"}]}]'
        },
        ScriptedResponse(interaction()),
    ),
    "interaction of steps": interaction_case(
        interact(
            [
                {"type": "user_input", "content": [{"type": "text", "text": "hi"}]},
                OUTPUT_STEP,
                {"type": "user_input", "content": [{"type": "text", "text": "bye"}]},
            ]
        ),
        {"posthog.messages.count": 3, "posthog.prompt.length": 10},
        ScriptedResponse(interaction()),
    ),
    "interaction with an image": interaction_case(
        interact(
            [{"type": "text", "text": "what"}, {"type": "image", "data": BASE64, "mime_type": "image/png"}]
        ),
        {"posthog.files.count": 1, "posthog.messages.count": 1, "posthog.prompt.length": 4},
        ScriptedResponse(interaction()),
    ),
    "interaction that draws": interaction_case(
        interact(
            [{"type": "text", "text": "draw"}, {"type": "image", "data": BASE64, "mime_type": "image/png"}],
            response_format={"type": "image", "aspect_ratio": "16:9", "image_size": "1K"},
        ),
        {
            "gen_ai.output.type": "image",
            "posthog.image.count": 1,
            "posthog.image.aspect_ratio": "16:9",
            "posthog.image.size": "1K",
            "posthog.image.reference_count": 1,
        },
        ScriptedResponse(
            interaction(
                {
                    "type": "model_output",
                    "content": [{"type": "image", "data": BASE64, "mime_type": "image/png"}],
                }
            )
        ),
    ),
    "interaction stream that draws": interaction_case(
        flowing(),
        {"posthog.image.count": 1},
        flow(
            *step_events(
                0, {"type": "model_output"}, {"type": "image", "data": BASE64, "mime_type": "image/png"}
            )
        ),
    ),
    "interaction in JSON": interaction_case(
        interact(
            response_format={"type": "text", "mime_type": "application/json", "schema": {"type": "object"}}
        ),
        {"gen_ai.output.type": "json"},
        ScriptedResponse(interaction()),
    ),
    "interaction with search": interaction_case(
        interact(tools=[{"type": "google_search"}, {"type": "url_context"}]),
        {
            "posthog.web_search.enabled": True,
            "posthog.web_search.used": True,
            "posthog.web_search.count": 2,
            "posthog.url_context.enabled": True,
            "posthog.url_context.used": True,
            "gen_ai.tool.definitions": '[{"type":"google_search","name":"google_search"},'
            '{"type":"url_context","name":"url_context"}]',
        },
        ScriptedResponse(interaction(*SEARCHED, OUTPUT_STEP)),
    ),
    "interaction with counted searches": interaction_case(
        interact(),
        {"posthog.web_search.count": 3},
        ScriptedResponse(
            interaction(
                *SEARCHED,
                OUTPUT_STEP,
                usage={**USAGE, "grounding_tool_count": [{"type": "google_search", "count": 3}]},
            )
        ),
    ),
    "interaction that runs code": interaction_case(
        interact(tools=[{"type": "code_execution"}]),
        {
            "gen_ai.output.messages": message(
                '{"type":"server_tool_call","id":"c","name":"code_execution","server_tool_call":'
                '{"type":"code_execution","arguments":{"code":"1+1","language":"python"}}}',
                '{"type":"server_tool_call_response","id":"c","server_tool_call_response":'
                '{"type":"code_execution","result":"2"}}',
            )
        },
        ScriptedResponse(
            interaction(
                {
                    "type": "code_execution_call",
                    "id": "c",
                    "arguments": {"code": "1+1", "language": "python"},
                },
                {"type": "code_execution_result", "call_id": "c", "result": "2"},
            )
        ),
    ),
    "interaction that thinks": interaction_case(
        flowing(),
        {
            "gen_ai.output.messages": message(
                '{"type":"reasoning","content":"hmhm"}', '{"type":"text","content":"hello"}'
            )
        },
        flow(
            *step_events(
                0,
                {"type": "thought"},
                *[{"type": "thought_summary", "content": {"type": "text", "text": "hm"}}] * 2,
                {"type": "thought_signature", "signature": "AA=="},
            ),
            *step_events(1, {"type": "model_output"}, {"type": "text", "text": "hello"}),
        ),
    ),
    "interaction of an agent": Case(
        run_sync(
            lambda c: c.interactions.create(
                agent="deep-research-pro-preview-12-2025", input="hello", background=True
            ),
            once,
        ),
        [
            Expected(
                "invoke_agent deep-research-pro-preview-12-2025",
                {
                    "gen_ai.operation.name": "invoke_agent",
                    "gen_ai.agent.name": "deep-research-pro-preview-12-2025",
                    "gen_ai.response.id": "i",
                },
                ("gen_ai.response.finish_reasons", "error.type"),
            )
        ],
        [ScriptedResponse(interaction(status="in_progress", usage=None))],
        INTERACTIONS,
    ),
    "interaction in the background": interaction_case(
        interact(background=True),
        {"gen_ai.response.id": "i"},
        ScriptedResponse(interaction(status="queued", usage=None, steps=None)),
        absent=("gen_ai.response.finish_reasons", "gen_ai.usage.input_tokens", "error.type"),
    ),
    "stored interaction": Case(
        run_sync(lambda c: c.interactions.get("i"), once), [], [ScriptedResponse(interaction())], INTERACTIONS
    ),
    "interaction called off": Case(
        run_sync(lambda c: c.interactions.cancel("i"), once),
        [],
        [ScriptedResponse(interaction(status="cancelled"))],
        INTERACTIONS,
    ),
    "interaction cut short": interaction_case(
        interact(),
        {"gen_ai.response.finish_reasons": ("length",)},
        ScriptedResponse(interaction(status="incomplete")),
        absent=("error.type",),
    ),
    "interaction failed": failed(
        interact(),
        "internal",
        ScriptedResponse(interaction(status="failed", errors=[{"code": "internal", "message": "oops"}])),
        **{"gen_ai.response.finish_reasons": ("error",), "gen_ai.usage.input_tokens": 7},
    ),
    "interaction stream failed": failed(
        flowing(), "failed", flow(*HELLO, status="failed"), **{"gen_ai.usage.output_tokens": 10}
    ),
    "interaction stream cut short": interaction_case(
        flowing(), {"gen_ai.response.finish_reasons": ("length",)}, flow(*HELLO, status="incomplete")
    ),
    "error event": failed(
        flowing(),
        "unavailable",
        flow(*HELLO, event("error", error={"code": "unavailable", "message": "busy"}), status=None),
        **{"gen_ai.response.id": "i"},
    ),
    "interaction 429": failed(
        interact(),
        "429",
        ScriptedResponse({"error": {"code": "too_many_requests", "message": "slow"}}, status=429),
        **{"posthog.http.status": 429},
    )._replace(since=(3, 0)),  # where one attempt is one
    "async interaction 400": failed(
        interact_async(), "400", ScriptedResponse({"error": {"code": "invalid", "message": "no"}}, status=400)
    ),
    "interaction stream 500": failed(
        flowing(), "500", ScriptedResponse({"error": {"code": "internal", "message": "no"}}, status=500)
    )._replace(since=(3, 0)),
    **{
        f"{name} that is no JSON": failed(run, "APIError", ScriptedResponse(b"<html>"))
        for name, run in (
            ("interaction", interact()),
            ("async interaction", interact_async()),
            ("interaction stream", flowing()),
        )
    },
    "interaction that is called text": failed(
        interact(),
        "APIError",
        ScriptedResponse(json.dumps(interaction()).encode()),
        **{"gen_ai.usage.input_tokens": 7},
    ),
    "interaction stream with an odd index": interaction_case(
        flowing(),
        {
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.output.messages": message(
                '{"type":"text","content":"hello"}', '{"type":"text","content":"bye"}'
            ),
        },
        flow(
            *HELLO,
            event("step.start", index="1", step={"type": "model_output"}),
            event("step.delta", index="1", delta={"type": "text", "text": "bye"}),
        ),
    ),
    "interaction stream with a count nulled": interaction_case(
        flowing(),
        {"gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 10},
        flow(
            *HELLO,
            event("interaction.status_update", interaction={"usage": USAGE}),
            usage={"total_input_tokens": None, "total_thought_tokens": 3},
        ),
    ),
    "decision": Case(run_sync(decide, once), [DECISION_SPAN], [DECISION], DECISIONS),
    "async decision": Case(run_async(decide_async, once), [DECISION_SPAN], [DECISION], DECISIONS),
    "interaction retried": interaction_case(
        interact(make=retrying),
        {"posthog.retry.count": 2, **COUNTED},
        *[ScriptedResponse({"error": {"code": "busy", "message": "no"}}, status=503)] * 2,
        ScriptedResponse(interaction()),
    ),
    "async interaction retried": interaction_case(
        interact_async(make=retrying),
        {"posthog.retry.count": 1, **COUNTED},
        ScriptedResponse({"error": {"code": "busy", "message": "no"}}, status=503),
        ScriptedResponse(interaction()),
    ),
    "interaction stream retried": interaction_case(
        flowing(make=retrying),
        {"posthog.retry.count": 1, **STREAM_COUNTED},
        ScriptedResponse({"error": {"code": "busy", "message": "no"}}, status=503),
        flow(*HELLO),
    ),
    "interaction lost": Case(
        interact(),
        [Expected(INTERACTION_NAME, {}, error=True)],
        [ScriptedResponse(interaction(), drop=True)],
        INTERACTIONS,
    ),
    "interaction stream lost": failed(
        flowing(),
        "RemoteProtocolError",
        ScriptedResponse(events=flow(*HELLO, status=None).events, drop=True),
        **{
            "gen_ai.response.id": "i",
            "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"hello"}]}]',
        },
    ),
    "interaction timed out": Case(
        interact(make=impatient),
        [Expected(INTERACTION_NAME, {}, error=True)],
        [ScriptedResponse(stall=True)],
        INTERACTIONS,
    ),
    **{
        f"interaction stream {how}": interaction_case(
            flowing(leave),
            {"gen_ai.request.stream": True, "gen_ai.response.id": "i"},
            flow(*HELLO),
            absent=("error.type",),
        )
        for how, leave in (
            ("left by break", lambda events: first_delta(events, lambda _: None)),
            ("closed", lambda events: first_delta(events, lambda stream: stream.close())),
            ("left by with", managed),
        )
    },
    "async interaction stream closed": interaction_case(
        flowing_async(leave=True), {"gen_ai.response.id": "i"}, flow(*HELLO), absent=("error.type",)
    ),
    "raw interaction": interaction_case(run_sync(raw, once), COUNTED, ScriptedResponse(interaction())),
    "raw interaction, streamed": interaction_case(
        run_sync(streamed_raw, once), COUNTED, ScriptedResponse(interaction())
    ),
    "Vertex AI interaction": interaction_case(
        interact(make=vertex),
        {**COUNTED, "gen_ai.provider.name": "gcp.vertex_ai"},
        ScriptedResponse(interaction()),
    ),
}
CASES: dict[str, Case] = {**GENERATE, **MODELS, **OF_INTERACTIONS}
