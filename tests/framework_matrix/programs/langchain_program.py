"""LangChain and LangGraph."""

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

from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def model(**options):
    return ChatOpenAI(model=MODEL, max_retries=0, **options)


def gemini():
    return ChatGoogleGenerativeAI(model=GEMINI, api_key=GEMINI_KEY, base_url=PROVIDER, max_retries=1)


def agent_of(chat):
    return create_agent(chat, [get_weather], name="weather_agent")


ASKED = {"messages": [("user", WEATHER)]}


def chat():
    model().invoke(HELLO)


def chain():
    (
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("user", "{q}")])
        | model()
        | StrOutputParser()
    ).invoke({"q": HELLO})


def stream():
    list(model().stream(HELLO))


async def chat_async():
    await model().ainvoke(HELLO)


async def stream_async():
    await drain(model().astream(HELLO))


async def two_at_once():
    await asyncio.gather(model().ainvoke(HELLO), model().ainvoke(HELLO))


def batch():
    model().batch([HELLO, HELLO])


def responses():
    model(use_responses_api=True).invoke(HELLO)


def responses_stream():
    list(model(use_responses_api=True).stream(HELLO))


def agent():
    agent_of(model()).invoke(ASKED)


async def agent_async():
    await agent_of(model()).ainvoke(ASKED)


def agent_stream():
    list(agent_of(model()).stream(ASKED, stream_mode="messages"))


def agent_gemini():
    agent_of(gemini()).invoke(ASKED)


def gemini_chat():
    gemini().invoke(HELLO)


def gemini_stream():
    list(gemini().stream(HELLO))


def embedding():
    OpenAIEmbeddings(model=EMBEDDER, check_embedding_ctx_length=False).embed_query(HELLO)


def left_stream():
    for _ in model().stream(HELLO):
        break


def failing():
    model().invoke(FAIL)


def failing_stream():
    list(model().stream(FAIL))


def failing_gemini():
    gemini().invoke(FAIL)


run(
    chat,
    chain,
    stream,
    chat_async,
    stream_async,
    two_at_once,
    batch,
    responses,
    responses_stream,
    agent,
    agent_async,
    agent_stream,
    below_a_server(agent),
    below_a_server(agent_gemini),
    agent_gemini,
    gemini_chat,
    gemini_stream,
    below_a_server(gemini_chat),
    embedding,
    left_stream,
    failing,
    failing_stream,
    failing_gemini,
)
