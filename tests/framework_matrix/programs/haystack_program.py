"""Haystack."""

from stage import (
    EMBEDDER,
    FAIL,
    HELLO,
    MODEL,
    WAY,
    WEATHER,
    below_a_server,
    get_weather,
    run,
)

from haystack import Pipeline, tracing
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function

if WAY == "built in":
    from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer
    from opentelemetry import trace

    tracing.enable_tracing(OpenTelemetryTracer(trace.get_tracer("the.application")))


def model(kind=OpenAIChatGenerator, **options):
    return kind(model=MODEL, max_retries=0, **options)


def said(text):
    return [ChatMessage.from_system("Be brief."), ChatMessage.from_user(text)]


ASKED = {"agent": {"messages": said(WEATHER)}}


def agent_of(generator):
    pipeline = Pipeline()
    pipeline.add_component(
        "agent", Agent(chat_generator=generator, tools=[create_tool_from_function(get_weather)])
    )
    return pipeline


def pipeline_of(generator):
    pipeline = Pipeline()
    pipeline.add_component("prompt", ChatPromptBuilder(template=said(HELLO)))
    pipeline.add_component("model", generator)
    pipeline.connect("prompt.prompt", "model.messages")
    return pipeline


def chat():
    model().run(messages=said(HELLO))


def stream():
    model(streaming_callback=lambda chunk: None).run(messages=said(HELLO))


async def chat_async():
    await model().run_async(messages=said(HELLO))


def responses():
    model(OpenAIResponsesChatGenerator).run(messages=said(HELLO))


def agent_pipeline():
    pipeline_of(model()).run({})


def agent():
    agent_of(model()).run(ASKED)


async def agent_async():
    await agent_of(model()).run_async(ASKED)


def agent_stream():
    agent_of(model(streaming_callback=lambda chunk: None)).run(ASKED)


def embedding():
    OpenAITextEmbedder(model=EMBEDDER).run(HELLO)


def failing():
    model().run(messages=said(FAIL))


run(
    chat,
    stream,
    chat_async,
    responses,
    agent_pipeline,
    agent,
    agent_async,
    agent_stream,
    below_a_server(agent),
    embedding,
    failing,
)
