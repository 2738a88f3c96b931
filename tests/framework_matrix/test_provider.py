"""The provider: real clients get what they ask for, and each request is in the log with tokens of its own."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types

from tests.framework_matrix.answers import SENTENCE, Ask, Turn, answer
from tests.framework_matrix.provider import Provider, Request

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: list[Any] = [{"role": "user", "content": "How is it? @call:get_weather"}]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def client(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="key-of-nobody") as made:
        yield made


@pytest.fixture
def gemini(provider: Provider) -> Iterator[genai.Client]:
    with genai.Client(api_key="key-of-nobody", http_options=types.HttpOptions(base_url=provider.url)) as made:
        yield made


def only(provider: Provider) -> Request:
    [logged] = provider.requests
    return logged


def test_a_chat_completion_has_the_tokens_of_the_log(provider: Provider, client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model="gpt-5-mini", messages=[{"role": "user", "content": "Hi"}]
    )
    assert completion.choices[0].message.content == SENTENCE
    assert completion.model == only(provider).model == "gpt-5-mini-2025-08-07"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens == only(provider).usage.input_tokens
    assert completion.usage.completion_tokens == only(provider).usage.output_tokens
    assert only(provider).prompt == "Hi"


@pytest.mark.parametrize("asked", [True, False])
def test_a_streamed_chat_has_usage_only_if_it_was_asked_for(
    provider: Provider, client: openai.OpenAI, asked: bool
) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.chat.completions.create(model="m", messages=WEATHER, stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == SENTENCE
    usages = [chunk.usage.prompt_tokens for chunk in chunks if chunk.usage]
    assert usages == ([only(provider).usage.input_tokens] if asked else [])
    assert only(provider).stream


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_called_once_and_its_result_answered(client: openai.OpenAI, stream: bool) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": TOOL}}]
    if stream:
        with client.chat.completions.stream(model="m", messages=WEATHER, tools=tools) as events:
            message: Any = events.get_final_completion().choices[0].message
    else:
        message = client.chat.completions.create(model="m", messages=WEATHER, tools=tools).choices[0].message
    assert message.tool_calls
    called: Any = message.tool_calls[0]
    assert (called.function.name, json.loads(called.function.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_call_id": called.id, "content": "sunny"}
    history: Any = [*WEATHER, message.model_dump(exclude_none=True), result]
    last = client.chat.completions.create(model="m", messages=history, tools=tools).choices[0].message
    assert last.content == "The tool answered: sunny"


def test_a_response_is_streamed_as_it_is_whole(provider: Provider, client: openai.OpenAI) -> None:
    whole = client.responses.create(model="gpt-5-mini", input="Hi")
    with client.responses.stream(model="gpt-5-mini", input="Hi") as events:
        streamed = events.get_final_response()
    assert whole.output_text == streamed.output_text == SENTENCE
    tokens = [response.usage.input_tokens for response in (whole, streamed) if response.usage]
    assert tokens == [request.usage.input_tokens for request in provider.requests]
    assert len(set(tokens)) == 2


def test_a_response_goes_on_from_an_earlier_one(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "name": "get_weather", "parameters": TOOL, "strict": False}]
    first = client.responses.create(model="m", input="@call:get_weather", tools=tools)
    called: Any = first.output[0]
    result: Any = [{"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}]
    second = client.responses.create(model="m", input=result, tools=tools, previous_response_id=first.id)
    assert (called.name, second.output_text) == ("get_weather", "The tool answered: sunny")


def test_an_embedding_is_logged_as_one(provider: Provider, client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert [len(each.embedding) for each in made.data] == [16, 16]
    assert (only(provider).kind, only(provider).usage.input_tokens) == ("embedding", made.usage.prompt_tokens)


def test_gemini_answers_whole_and_streamed(provider: Provider, gemini: genai.Client) -> None:
    whole = gemini.models.generate_content(model="gemini-2.5-flash", contents="Hi")
    chunks = list(gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi"))
    assert whole.text == "".join(chunk.text or "" for chunk in chunks) == SENTENCE
    for request, usage in zip(
        provider.requests, (whole.usage_metadata, chunks[-1].usage_metadata), strict=True
    ):
        assert usage is not None
        output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        assert (usage.prompt_token_count, output) == (request.usage.input_tokens, request.usage.output_tokens)
    assert [request.stream for request in provider.requests] == [False, True]


def test_gemini_calls_a_tool_and_embeds(provider: Provider, gemini: genai.Client) -> None:
    def get_weather(city: str) -> str:
        """Tell the weather of a city."""
        return f"sunny in {city}"

    # On Python 3.10 the SDK does not resolve annotations that are texts.
    get_weather.__annotations__ = {"city": str, "return": str}
    config = types.GenerateContentConfig(tools=[get_weather])
    answered = gemini.models.generate_content(
        model="gemini-2.5-flash", contents="@call:get_weather", config=config
    )
    gemini.models.embed_content(model="gemini-embedding-001", contents="a")
    assert answered.text == "The tool answered: {'result': 'sunny in Paris'}"
    assert [request.kind for request in provider.requests] == ["chat", "chat", "embedding"]


def test_a_request_fails_with_the_status_that_it_asks_for(provider: Provider, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "@fail:500"}])
    assert only(provider).status == 500


def test_requests_belong_to_the_scenario_that_was_named_last(
    provider: Provider, client: openai.OpenAI
) -> None:
    body = json.dumps({"name": "agent"}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{provider.url}/_scenario", body)).close()
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert only(provider).scenario == "agent"


def test_a_path_that_nobody_serves_is_noted(provider: Provider, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a cat")
    assert provider.unknown == ["/v1/images/generations"]


def test_latency_passes_before_the_answer(
    client: openai.OpenAI, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    provider.latency = 1.3
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert 1.3 in waits


DSPY = """Your output fields are:
1. `next_tool_name` (str):
2. `next_tool_args` (dict):
All interactions will be structured ... [[ ## completed ## ]]"""

FORMS: list[tuple[str, Ask, Callable[[str], bool]]] = [
    (
        "DSPy, before its tool ran",
        Ask([Turn("system", DSPY), Turn("user", "@call:get_weather")]),
        lambda text: "[[ ## next_tool_name ## ]]\nget_weather" in text,
    ),
    (
        "DSPy, after its tool ran",
        Ask([Turn("system", DSPY), Turn("user", "@call:get_weather\n[[ ## observation_0 ## ]]\nsunny")]),
        lambda text: "[[ ## next_tool_name ## ]]\nfinish" in text,
    ),
    (
        "smolagents' code",
        Ask([Turn("system", "<code> ... final_answer"), Turn("user", "@call:get_weather")]),
        lambda text: '<code>\nprint(get_weather(city="Paris"))' in text,
    ),
    (
        "ReAct",
        Ask([Turn("user", "Action: ... Final Answer: ... @call:get_weather")]),
        lambda text: "Action: get_weather" in text,
    ),
    (
        "a structured answer",
        Ask([Turn("user", "x")], schema={"type": "object", "properties": {"degrees": {"type": "integer"}}}),
        lambda text: json.loads(text) == {"degrees": 21},
    ),
]


@pytest.mark.parametrize(
    ("ask", "fits"), [(ask, fits) for _, ask, fits in FORMS], ids=[name for name, *_ in FORMS]
)
def test_the_answer_has_the_form_that_the_prompt_wants(ask: Ask, fits: Callable[[str], bool]) -> None:
    assert fits(answer(ask).text)


def test_several_marks_call_several_tools_in_order() -> None:
    tools: dict[str, dict[str, object]] = {"first": {}, "second": {}}
    turns = [Turn("user", "@call:first @call:second")]
    assert answer(Ask(turns, tools)).tool == "first"
    assert answer(Ask([*turns, Turn("tool", "done")], tools)).tool == "second"
