"""The Model Context Protocol's SDK: a client beside OpenAI's, and a server whose tool asks a model itself."""

from stage import FAIL, HELLO, MODEL, WEATHER, below_a_server, run

import json

from mcp import Client
from mcp.server import MCPServer
from openai import AsyncOpenAI

server = MCPServer("weather")


@server.tool()
async def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


@server.tool()
async def ask_a_model(question: str) -> str:
    """Ask a model."""
    answer = await openai().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": HELLO}]
    )
    return answer.choices[0].message.content


def openai():
    return AsyncOpenAI(max_retries=0)


async def tool_that_asks():
    async with Client(server) as client:
        await client.call_tool("ask_a_model", {"question": HELLO})


async def loop():
    async with Client(server) as client:
        listed = (await client.list_tools()).tools
        tools = [
            {"type": "function", "function": {"name": each.name, "parameters": each.input_schema}}
            for each in listed
        ]
        messages = [{"role": "user", "content": WEATHER}]
        first = (
            (await openai().chat.completions.create(model=MODEL, messages=messages, tools=tools))
            .choices[0]
            .message
        )
        call = first.tool_calls[0]
        result = await client.call_tool(call.function.name, json.loads(call.function.arguments))
        messages += [
            first.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": result.content[0].text},
        ]
        await openai().chat.completions.create(model=MODEL, messages=messages, tools=tools)


async def failing():
    await openai().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": FAIL}])


run(tool_that_asks, loop, below_a_server(loop), below_a_server(tool_that_asks), failing)
