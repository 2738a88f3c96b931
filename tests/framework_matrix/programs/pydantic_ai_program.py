"""Pydantic AI."""

from stage import (
    EMBEDDER,
    FAIL,
    GEMINI,
    GEMINI_KEY,
    HELLO,
    MODEL,
    PROVIDER,
    WEATHER,
    below_a_server,
    drain,
    get_weather,
    run,
)

import asyncio

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    name: str
    degrees: int


def model(kind=OpenAIChatModel, name=MODEL):
    return kind(name, provider=OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0)))


def gemini_model():
    return GoogleModel(GEMINI, provider=GoogleProvider(api_key=GEMINI_KEY, base_url=PROVIDER))


def agent_of(chat, **options):
    return Agent(
        chat, name="weather_agent", instructions="Be brief.", tools=[get_weather], retries=0, **options
    )


async def agent():
    await agent_of(model()).run(WEATHER)


def agent_sync():
    asyncio.set_event_loop(asyncio.new_event_loop())
    agent_of(model()).run_sync(HELLO)


async def agent_stream():
    async with agent_of(model()).run_stream(WEATHER) as result:
        await drain(result.stream_text())


async def agent_responses():
    await agent_of(model(OpenAIResponsesModel)).run(WEATHER)


async def agent_responses_stream():
    async with agent_of(model(OpenAIResponsesModel)).run_stream(WEATHER) as result:
        await drain(result.stream_text())


async def agent_structured():
    await agent_of(model(), output_type=City).run(HELLO)


async def agent_fallback():
    await agent_of(FallbackModel(model(name="gpt-4o-mini"), model())).run(HELLO)


async def agent_gemini():
    await agent_of(gemini_model()).run(WEATHER)


async def agent_gemini_stream():
    async with agent_of(gemini_model()).run_stream(HELLO) as result:
        await drain(result.stream_text())


async def agent_two_at_once():
    one = agent_of(model())
    await asyncio.gather(one.run(HELLO), one.run(HELLO))


async def embedding():
    from pydantic_ai import Embedder
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    await Embedder(
        OpenAIEmbeddingModel(EMBEDDER, provider=OpenAIProvider(openai_client=AsyncOpenAI(max_retries=0)))
    ).embed_query(HELLO)


async def left_stream():
    async with agent_of(model()).run_stream(HELLO) as result:
        async for _ in result.stream_text():
            break


async def failing():
    await agent_of(model()).run(FAIL)


async def failing_stream():
    async with agent_of(model()).run_stream(FAIL) as result:
        await drain(result.stream_text())


run(
    agent,
    agent_sync,
    agent_stream,
    agent_responses,
    agent_responses_stream,
    agent_structured,
    agent_fallback,
    agent_gemini,
    agent_gemini_stream,
    agent_two_at_once,
    below_a_server(agent),
    embedding,
    left_stream,
    failing,
    failing_stream,
)
