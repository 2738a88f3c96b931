"""AutoGen's AgentChat; its spans are always on."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, drain, get_weather, run

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ModelInfo, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    family="gpt-5",
    structured_output=True,
    multiple_system_messages=True,
)


def client():
    return OpenAIChatCompletionClient(model=MODEL, model_info=INFO, max_retries=0)


def agent_of(name="weather_agent", **options):
    return AssistantAgent(name, client(), tools=[get_weather], **options)


async def chat():
    await client().create([UserMessage(content=HELLO, source="user")])


async def stream():
    await drain(client().create_stream([UserMessage(content=HELLO, source="user")]))


async def agent():
    await agent_of().run(task=WEATHER)


async def agent_stream():
    await drain(agent_of(model_client_stream=True).run_stream(task=WEATHER))


async def agent_team():
    await RoundRobinGroupChat(
        [agent_of("first"), agent_of("second")], termination_condition=MaxMessageTermination(3)
    ).run(task=HELLO)


async def failing():
    await agent_of().run(task=FAIL)


run(chat, stream, agent, agent_stream, agent_team, below_a_server(agent), failing)
