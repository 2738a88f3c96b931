"""Strands Agents; its spans are always on."""

from stage import (
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

from strands import Agent, tool
from strands.models.gemini import GeminiModel
from strands.models.openai import OpenAIModel
from strands.models.openai_responses import OpenAIResponsesModel


def model(kind=OpenAIModel):
    return kind(model_id=MODEL, client_args={"max_retries": 0})


def gemini_model():
    return GeminiModel(
        model_id=GEMINI, client_args={"api_key": GEMINI_KEY, "http_options": {"base_url": PROVIDER}}
    )


def agent_of(chat):
    return Agent(
        model=chat,
        name="weather_agent",
        tools=[tool(get_weather)],
        callback_handler=None,
        retry_strategy=None,
    )


def agent():
    agent_of(model())(WEATHER)


async def agent_async():
    await agent_of(model()).invoke_async(WEATHER)


async def agent_stream():
    await drain(agent_of(model()).stream_async(WEATHER))


async def agent_responses():
    await agent_of(model(OpenAIResponsesModel)).invoke_async(WEATHER)


def agent_gemini():
    agent_of(gemini_model())(WEATHER)


def agent_of_agents():
    inner = agent_of(model())

    @tool
    def ask_the_weather(question: str) -> str:
        """Ask another agent."""
        return str(inner(HELLO))

    Agent(model=model(), name="outer", tools=[ask_the_weather], callback_handler=None)(
        "@call:ask_the_weather"
    )


def failing():
    agent_of(model())(FAIL)


run(
    agent,
    agent_async,
    agent_stream,
    agent_responses,
    agent_gemini,
    agent_of_agents,
    below_a_server(agent),
    failing,
)
