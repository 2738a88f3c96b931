"""Semantic Kernel."""

from stage import EMBEDDER, FAIL, HELLO, MODEL, WEATHER, below_a_server, drain, get_weather, run

from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
    OpenAITextEmbedding,
)
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import KernelArguments, kernel_function


class Weather:
    @kernel_function(description="Tell the weather of a city.")
    def get_weather(self, city: str) -> str:
        return get_weather(city)


def service():
    return OpenAIChatCompletion(ai_model_id=MODEL, async_client=AsyncOpenAI(max_retries=0))


def history(text):
    chat_history = ChatHistory()
    chat_history.add_user_message(text)
    return chat_history


def with_tools():
    kernel = Kernel()
    kernel.add_plugin(Weather(), "w")
    return kernel, OpenAIChatPromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())


def agent_of():
    return ChatCompletionAgent(
        service=service(), name="weather_agent", instructions="Be brief.", plugins=[Weather()]
    )


async def chat():
    await service().get_chat_message_content(history(HELLO), OpenAIChatPromptExecutionSettings())


async def stream():
    await drain(
        service().get_streaming_chat_message_content(history(HELLO), OpenAIChatPromptExecutionSettings())
    )


async def agent_tool_loop():
    kernel, settings = with_tools()
    await service().get_chat_message_content(history(WEATHER), settings, kernel=kernel)


async def agent_prompt():
    kernel, settings = with_tools()
    kernel.add_service(service())
    await kernel.invoke_prompt(HELLO, arguments=KernelArguments(settings=settings))


async def agent():
    await agent_of().get_response(WEATHER)


async def agent_stream():
    await drain(agent_of().invoke_stream(WEATHER))


async def embedding():
    await OpenAITextEmbedding(
        ai_model_id=EMBEDDER, async_client=AsyncOpenAI(max_retries=0)
    ).generate_embeddings([HELLO])


async def left_stream():
    async for _ in service().get_streaming_chat_message_content(
        history(HELLO), OpenAIChatPromptExecutionSettings()
    ):
        break


async def failing():
    await service().get_chat_message_content(history(FAIL), OpenAIChatPromptExecutionSettings())


run(
    chat,
    stream,
    agent_tool_loop,
    agent_prompt,
    agent,
    agent_stream,
    below_a_server(agent),
    embedding,
    left_stream,
    failing,
)
