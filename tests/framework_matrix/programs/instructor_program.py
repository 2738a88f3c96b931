"""Instructor."""

from stage import FAIL, GEMINI, GEMINI_KEY, HELLO, MODEL, PROVIDER, below_a_server, run

import instructor
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel


class City(BaseModel):
    name: str
    degrees: int


def said(text):
    return {"messages": [{"role": "user", "content": text}], "response_model": City, "max_retries": 0}


def client(mode=instructor.Mode.TOOLS):
    return instructor.from_openai(OpenAI(max_retries=0), mode=mode)


def chat():
    client().chat.completions.create(model=MODEL, **said(HELLO))


def chat_json():
    client(instructor.Mode.JSON_SCHEMA).chat.completions.create(model=MODEL, **said(HELLO))


async def chat_async():
    await instructor.from_openai(AsyncOpenAI(max_retries=0)).chat.completions.create(
        model=MODEL, **said(HELLO)
    )


def stream():
    list(client().chat.completions.create_partial(model=MODEL, **said(HELLO)))


def gemini_chat():
    raw = genai.Client(api_key=GEMINI_KEY, http_options=types.HttpOptions(base_url=PROVIDER))
    instructor.from_genai(raw, mode=instructor.Mode.GENAI_STRUCTURED_OUTPUTS).chat.completions.create(
        model=GEMINI, **said(HELLO)
    )


def failing():
    client().chat.completions.create(model=MODEL, **said(FAIL))


run(chat, chat_json, chat_async, stream, gemini_chat, below_a_server(chat), failing)
