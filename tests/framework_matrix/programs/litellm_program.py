"""LiteLLM as a library."""

from stage import (
    EMBEDDER,
    FAIL,
    GEMINI,
    GEMINI_KEY,
    HELLO,
    MODEL,
    PROVIDER,
    WAY,
    WEATHER,
    below_a_server,
    drain,
    get_weather,
    run,
)

import asyncio

import litellm

litellm.suppress_debug_info = True
if WAY == "built in":
    litellm.callbacks = ["otel"]

OPENAI = {"model": f"openai/{MODEL}", "max_retries": 0}
ON_GEMINI = {
    "model": f"gemini/{GEMINI}",
    "api_key": GEMINI_KEY,
    "api_base": f"{PROVIDER}/v1beta",
    "max_retries": 0,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def said(text):
    return [{"role": "user", "content": text}]


def chat():
    litellm.completion(messages=said(HELLO), **OPENAI)


def stream():
    list(litellm.completion(messages=said(HELLO), stream=True, **OPENAI))


def stream_with_usage():
    list(
        litellm.completion(
            messages=said(HELLO), stream=True, stream_options={"include_usage": True}, **OPENAI
        )
    )


async def chat_async():
    await litellm.acompletion(messages=said(HELLO), **OPENAI)


async def stream_async():
    await drain(await litellm.acompletion(messages=said(HELLO), stream=True, **OPENAI))


async def two_at_once():
    await asyncio.gather(*(litellm.acompletion(messages=said(HELLO), **OPENAI) for _ in range(2)))


def tools():
    first = litellm.completion(messages=said(WEATHER), tools=[TOOL], **OPENAI).choices[0].message
    call = first.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": get_weather("Paris")}
    litellm.completion(messages=[*said(WEATHER), first.model_dump(), result], tools=[TOOL], **OPENAI)


def responses():
    litellm.responses(input=HELLO, **OPENAI)


def responses_stream():
    list(litellm.responses(input=HELLO, stream=True, **OPENAI))


def embedding():
    litellm.embedding(model=f"openai/{EMBEDDER}", input=[HELLO])


async def embedding_async():
    await litellm.aembedding(model=f"openai/{EMBEDDER}", input=[HELLO])


def gemini_chat():
    litellm.completion(messages=said(HELLO), **ON_GEMINI)


def gemini_stream():
    list(litellm.completion(messages=said(HELLO), stream=True, **ON_GEMINI))


def left_stream():
    for _ in litellm.completion(messages=said(HELLO), stream=True, **OPENAI):
        break


def failing():
    litellm.completion(messages=said(FAIL), **OPENAI)


def failing_stream():
    list(litellm.completion(messages=said(FAIL), stream=True, **OPENAI))


run(
    chat,
    stream,
    stream_with_usage,
    chat_async,
    stream_async,
    two_at_once,
    tools,
    responses,
    responses_stream,
    embedding,
    embedding_async,
    gemini_chat,
    gemini_stream,
    below_a_server(chat),
    below_a_server(stream),
    left_stream,
    failing,
    failing_stream,
)
