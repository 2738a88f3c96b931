"""Google's Agent Development Kit; its spans are always on."""

from stage import FAIL, GEMINI, HELLO, WEATHER, below_a_server, get_weather, run

import asyncio

from google.adk.agents import Agent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.runners import InMemoryRunner
from google.genai import types


def agent_of(name="weather_agent", tools=(get_weather,), **options):
    return Agent(name=name, model=GEMINI, instruction="Be brief.", tools=list(tools), **options)


async def play(agent, text, *, stream=False, leave=False):
    runner = InMemoryRunner(agent=agent, app_name="the_app")
    session = await runner.session_service.create_session(app_name="the_app", user_id="adk_user")
    message = types.Content(role="user", parts=[types.Part(text=text)])
    config = RunConfig(streaming_mode=StreamingMode.SSE if stream else StreamingMode.NONE)
    async for _ in runner.run_async(
        user_id="adk_user", session_id=session.id, new_message=message, run_config=config
    ):
        if leave:
            break


async def agent():
    await play(agent_of(), WEATHER)


async def agent_stream():
    await play(agent_of(), WEATHER, stream=True)


async def agent_transfer():
    other = agent_of(description="Knows the weather.")
    await play(agent_of("triage", (), sub_agents=[other]), "@call:transfer_to_agent")


async def agent_sequence():
    await play(SequentialAgent(name="two_steps", sub_agents=[agent_of("first"), agent_of("second")]), HELLO)


async def agent_two_at_once():
    await asyncio.gather(play(agent_of(), HELLO), play(agent_of(), HELLO))


async def left_stream():
    await play(agent_of(), HELLO, stream=True, leave=True)


async def failing():
    await play(agent_of(), FAIL)


async def failing_stream():
    await play(agent_of(), FAIL, stream=True)


run(
    agent,
    agent_stream,
    agent_transfer,
    agent_sequence,
    agent_two_at_once,
    below_a_server(agent),
    left_stream,
    failing,
    failing_stream,
)
