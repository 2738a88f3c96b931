"""OpenAI's Agents SDK."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, drain, get_weather, run

import asyncio

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel


class City(BaseModel):
    name: str
    degrees: int


def agent_of(kind=OpenAIResponsesModel, **options):
    client = AsyncOpenAI(max_retries=0)
    return Agent(
        name="weather_agent",
        instructions="Be brief.",
        model=kind(MODEL, client),
        tools=[function_tool(get_weather)],
        **options,
    )


async def agent():
    await Runner.run(agent_of(), WEATHER)


def agent_sync():
    asyncio.set_event_loop(asyncio.new_event_loop())
    Runner.run_sync(agent_of(), HELLO)


async def agent_stream():
    await drain(Runner.run_streamed(agent_of(), WEATHER).stream_events())


async def agent_chat_completions():
    await Runner.run(agent_of(OpenAIChatCompletionsModel), WEATHER)


async def agent_chat_completions_stream():
    await drain(Runner.run_streamed(agent_of(OpenAIChatCompletionsModel), WEATHER).stream_events())


async def agent_structured():
    await Runner.run(agent_of(output_type=City), HELLO)


async def agent_handoff():
    other = agent_of()
    first = Agent(
        name="triage",
        instructions="Hand over.",
        model=OpenAIResponsesModel(MODEL, AsyncOpenAI(max_retries=0)),
        handoffs=[other],
    )
    await Runner.run(first, "@call:transfer_to_weather_agent @call:get_weather")


async def agent_two_at_once():
    await asyncio.gather(Runner.run(agent_of(), HELLO), Runner.run(agent_of(), HELLO))


async def failing():
    await Runner.run(agent_of(), FAIL)


async def failing_stream():
    await drain(Runner.run_streamed(agent_of(OpenAIChatCompletionsModel), FAIL).stream_events())


async def left_stream():
    async for _ in Runner.run_streamed(agent_of(), HELLO).stream_events():
        break


run(
    agent,
    agent_sync,
    agent_stream,
    agent_chat_completions,
    agent_chat_completions_stream,
    agent_structured,
    agent_handoff,
    agent_two_at_once,
    below_a_server(agent),
    below_a_server(agent_stream),
    failing,
    failing_stream,
    left_stream,
)
