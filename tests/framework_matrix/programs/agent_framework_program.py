"""Microsoft's Agent Framework; its spans are always on."""

from stage import EMBEDDER, FAIL, HELLO, MODEL, WEATHER, below_a_server, drain, get_weather, run

import asyncio

from agent_framework import Agent, WorkflowBuilder
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient, OpenAIEmbeddingClient
from openai import AsyncOpenAI


def client(kind=OpenAIChatCompletionClient):
    return kind(model=MODEL, async_client=AsyncOpenAI(max_retries=0))


def agent_of(kind=OpenAIChatCompletionClient, name="weather_agent"):
    return Agent(client=client(kind), name=name, instructions="Be brief.", tools=[get_weather])


async def chat():
    await client().get_response(HELLO)


async def agent():
    await agent_of().run(WEATHER)


async def agent_stream():
    await drain(agent_of().run(WEATHER, stream=True))


async def agent_responses():
    await agent_of(OpenAIChatClient).run(WEATHER)


async def agent_responses_stream():
    await drain(agent_of(OpenAIChatClient).run(WEATHER, stream=True))


async def agent_workflow():
    first, second = agent_of(name="first"), agent_of(name="second")
    await WorkflowBuilder(start_executor=first).add_edge(first, second).build().run(HELLO)


async def agent_two_at_once():
    await asyncio.gather(agent_of().run(HELLO), agent_of().run(HELLO))


async def embedding():
    await OpenAIEmbeddingClient(model=EMBEDDER, async_client=AsyncOpenAI(max_retries=0)).get_embeddings(
        [HELLO]
    )


async def left_stream():
    async for _ in agent_of().run(HELLO, stream=True):
        break


async def failing():
    await agent_of().run(FAIL)


run(
    chat,
    agent,
    agent_stream,
    agent_responses,
    agent_responses_stream,
    agent_workflow,
    agent_two_at_once,
    below_a_server(agent),
    embedding,
    left_stream,
    failing,
)
