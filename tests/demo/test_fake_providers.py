from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import openai
import pytest
from google import genai
from google.genai import errors, types
from openai import OpenAI

from otel_posthog.demo.fake_providers import FakeProviders

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKED: Any = [{"role": "user", "content": "hello"}]
GREETING = "Hello there!"


@pytest.fixture(scope="module")
def standin() -> Iterator[FakeProviders]:
    with FakeProviders(latency=0, chunk_pause=0) as server:
        yield server


@pytest.fixture
def chatgpt(standin: FakeProviders) -> Iterator[OpenAI]:
    with OpenAI(base_url=standin.openai_base_url, api_key="x") as client:
        yield client


@pytest.fixture
def gemini(standin: FakeProviders) -> Iterator[genai.Client]:
    client = genai.Client(api_key="x", http_options=types.HttpOptions(base_url=standin.gemini_base_url))
    yield client
    client.close()


def test_answers_are_the_same_every_time(chatgpt: OpenAI, gemini: genai.Client) -> None:
    one, other = (chatgpt.chat.completions.create(model="m", messages=ASKED).to_dict() for _ in range(2))
    assert one == other
    first, second = (gemini.models.generate_content(model="m", contents="hello").text for _ in range(2))
    assert first == second
    assert str(first).startswith(GREETING)


def test_chat_stream_gives_usage_only_when_asked(chatgpt: OpenAI) -> None:
    plain = list(chatgpt.chat.completions.create(model="m", messages=ASKED, stream=True))
    assert all(chunk.choices for chunk in plain)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in plain).startswith(GREETING)
    *_, last = chatgpt.chat.completions.create(
        model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_tools_are_called_and_their_results_answered(chatgpt: OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}},
    }
    answer = chatgpt.chat.completions.create(model="m", messages=ASKED, tools=[tool]).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"a": 1}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "1"}
    said: Any = answer.message
    after = chatgpt.chat.completions.create(model="m", messages=[*ASKED, said, result], tools=[tool]).choices[
        0
    ]
    assert after.finish_reason == "stop"


def test_responses_plain_and_streamed_say_the_same(chatgpt: OpenAI) -> None:
    plain = chatgpt.responses.create(model="gpt-5", input="hello", reasoning={"effort": "low"})
    with chatgpt.responses.stream(model="gpt-5", input="hello", reasoning={"effort": "low"}) as stream:
        streamed = stream.get_final_response()
    assert streamed.output_text == plain.output_text
    assert plain.usage is not None
    assert streamed.usage == plain.usage
    assert plain.usage.output_tokens_details.reasoning_tokens == 16


def test_embeddings_and_images_are_real(chatgpt: OpenAI, gemini: genai.Client) -> None:
    assert len(chatgpt.embeddings.create(model="m", input=["a", "b"], dimensions=16).data[1].embedding) == 16
    found = gemini.models.embed_content(model="gemini-embedding-001", contents=["a", "b"]).embeddings or []
    assert [len(one.values or []) for one in found] == [768, 768]
    (picture,) = chatgpt.images.generate(model="gpt-image-1", prompt="draw").data or []
    assert base64.b64decode(picture.b64_json or "").startswith(b"\x89PNG")
    answer = gemini.models.generate_content(model="gemini-2.5-flash-image", contents="draw")
    blobs = [part.inline_data for part in answer.parts or [] if part.inline_data]
    assert [blob.mime_type for blob in blobs] == ["image/png"]
    assert (blobs[0].data or b"").startswith(b"\x89PNG")
    assert answer.usage_metadata is not None
    modalities = [
        str(one.modality.value)
        for one in answer.usage_metadata.candidates_tokens_details or []
        if one.modality
    ]
    assert modalities == ["TEXT", "IMAGE"]


@pytest.mark.parametrize(
    ("model", "prompt", "status"),
    [("gpt-unavailable", "hello", 503), ("gpt-limited", "hello", 429), ("gpt", "please [[429]]", 429)],
)
def test_failures_come_at_once_in_each_services_words(
    model: str, prompt: str, status: int, chatgpt: OpenAI, gemini: genai.Client
) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        chatgpt.chat.completions.create(model=model, messages=[{"role": "user", "content": prompt}])
    assert refused.value.status_code == status
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["code"] in {"service_unavailable", "rate_limit_exceeded"}
    with pytest.raises(errors.APIError) as blamed:
        gemini.models.generate_content(model=model, contents=prompt)
    assert blamed.value.code == status
    assert blamed.value.status in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}


def test_latency_lies_in_its_range_and_depends_on_the_request() -> None:
    with FakeProviders(latency=(0.01, 0.02)) as server:
        waits = [server._server.wait_for(str(number).encode()) for number in range(50)]
        assert waits == [server._server.wait_for(str(number).encode()) for number in range(50)]
        begin = time.perf_counter()
        with OpenAI(base_url=server.openai_base_url, api_key="x") as client:
            client.embeddings.create(model="m", input="a")
        assert time.perf_counter() - begin >= 0.01
    assert all(0.01 <= wait <= 0.02 for wait in waits)
    assert len(set(waits)) > 40


@pytest.mark.parametrize(
    ("path", "body", "status"), [("/v1/nothing", b"{}", 404), ("/v1/responses", b"{", 400)]
)
def test_what_is_not_understood_is_refused(
    path: str, body: bytes, status: int, standin: FakeProviders
) -> None:
    request = urllib.request.Request(
        standin.gemini_base_url + path, body, {"content-type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
        pass
    refused.value.close()
    assert refused.value.code == status
