"""LlamaIndex."""

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

from google.genai import types
from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.google_genai import GoogleGenAI
from llama_index.llms.openai import OpenAI, OpenAIResponses


def model(kind=OpenAI):
    return kind(model=MODEL, max_retries=0)


def gemini_model():
    options = types.HttpOptions(base_url=PROVIDER)
    return GoogleGenAI(
        model=GEMINI, api_key=GEMINI_KEY, http_options=options, context_window=100_000, max_retries=1
    )


MESSAGES = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=HELLO)]


def chat():
    model().chat(MESSAGES)


def complete():
    model().complete(HELLO)


def stream():
    for _ in model().stream_chat(MESSAGES):
        pass


async def chat_async():
    await model().achat(MESSAGES)


async def stream_async():
    await drain(await model().astream_chat(MESSAGES))


async def two_at_once():
    await asyncio.gather(model().achat(MESSAGES), model().achat(MESSAGES))


def responses():
    model(OpenAIResponses).chat(MESSAGES)


def responses_stream():
    for _ in model(OpenAIResponses).stream_chat(MESSAGES):
        pass


def predict_and_call():
    model().predict_and_call([FunctionTool.from_defaults(get_weather)], WEATHER)


async def agent():
    await FunctionAgent(name="weather_agent", tools=[get_weather], llm=model(), streaming=False).run(WEATHER)


async def agent_stream():
    await FunctionAgent(name="weather_agent", tools=[get_weather], llm=model()).run(WEATHER)


def rag():
    Settings.llm, Settings.embed_model = model(), OpenAIEmbedding(model=EMBEDDER)
    VectorStoreIndex.from_documents([Document(text="Paris is sunny.")]).as_query_engine().query(
        "How is Paris?"
    )


def gemini_chat():
    gemini_model().chat(MESSAGES)


def gemini_stream():
    for _ in gemini_model().stream_chat(MESSAGES):
        pass


def embedding():
    OpenAIEmbedding(model=EMBEDDER).get_text_embedding(HELLO)


def left_stream():
    for _ in model().stream_chat(MESSAGES):
        break


def failing():
    model().complete(FAIL)


def failing_stream():
    for _ in model().stream_complete(FAIL):
        pass


run(
    chat,
    complete,
    stream,
    chat_async,
    stream_async,
    two_at_once,
    responses,
    responses_stream,
    predict_and_call,
    agent,
    agent_stream,
    below_a_server(agent_stream),
    rag,
    gemini_chat,
    gemini_stream,
    embedding,
    left_stream,
    failing,
    failing_stream,
)
