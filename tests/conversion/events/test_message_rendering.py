"""Messages in the shapes that PostHog's pages render."""

from __future__ import annotations

from typing import Any

import pytest

from otel_posthog.conversion.events.message_rendering import render_messages, text_length
from otel_posthog.conversion.privacy.media import placeholder

TEXT = {"type": "text", "content": "hello"}


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        pytest.param([TEXT], [{"content": "hello"}], id="text"),
        pytest.param([], [{"content": None}], id="nothing"),
        pytest.param(
            [TEXT, TEXT],
            [{"content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "hello"}]}],
            id="texts",
        ),
        pytest.param(
            [{"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}],
            [
                {
                    "content": None,
                    "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
                    ],
                }
            ],
            id="tool call",
        ),
        pytest.param(
            [{"type": "tool_call_response", "id": "c", "response": {"a": 1}}],
            [{"role": "tool", "tool_call_id": "c", "content": '{"a":1}'}],
            id="tool result",
        ),
        pytest.param(
            [{"type": "reasoning", "content": "hm"}, TEXT],
            [{"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hello"}]}],
            id="reasoning",
        ),
        pytest.param([{"type": "refusal", "content": "no"}], [{"content": "no"}], id="refusal"),
        pytest.param(
            [{"type": "blob", "mime_type": "audio/wav", "modality": "audio", "content": "AAAA"}],
            [{"content": "[audio: audio/wav, 3 bytes]"}],
            id="blob",
        ),
        pytest.param(
            [{"type": "uri", "modality": "image", "uri": "https://x/y.png"}],
            [{"content": [{"type": "image", "image": "https://x/y.png"}]}],
            id="image by address",
        ),
        pytest.param(
            [{"type": "uri", "modality": "document", "uri": "gs://b/f.pdf"}],
            [{"content": "[document: gs://b/f.pdf]"}],
            id="file by address",
        ),
        pytest.param(
            [{"type": "uri", "modality": "image", "uri": "data:image/png;base64,AAAA"}],
            [{"content": "[image: image/png, 3 bytes]"}],
            id="image as data address",
        ),
        pytest.param([{"type": "file", "file_id": "f1"}], [{"content": "[file: f1]"}], id="uploaded file"),
        pytest.param(
            [
                {
                    "type": "server_tool_call",
                    "id": "w",
                    "name": "web_search",
                    "server_tool_call": {"query": "q"},
                }
            ],
            [{"content": [{"type": "tool_use", "id": "w", "name": "web_search", "input": {"query": "q"}}]}],
            id="server tool",
        ),
        pytest.param(
            [{"type": "hologram", "data": 1}],
            [{"content": [{"type": "hologram", "data": 1}]}],
            id="unknown part",
        ),
        pytest.param(["bare text"], [{"content": "bare text"}], id="no part at all"),
        pytest.param(
            [{"type": ["list"], "a": 1}], [{"content": [{"type": ["list"], "a": 1}]}], id="odd type"
        ),
    ],
)
def test_a_message_is_shown(parts: Any, shown: Any) -> None:
    rendered = render_messages([{"role": "assistant", "parts": parts}], media=placeholder)
    assert rendered == [{"role": "assistant", **message} for message in shown]


def test_text_is_counted_and_media_is_not() -> None:
    parts = [
        TEXT,
        {"type": "blob", "content": "AAAA"},
        {"type": "reasoning", "content": "hm"},
        {"type": "x"},
        "odd",
    ]
    assert text_length([{"role": "user", "parts": parts}]) == 7


DATA = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_call", "id": "c", "name": "f", "arguments": DATA},
        {"type": "tool_call_response", "id": "c", "response": DATA},
        {"type": "tool_call_response", "id": "c", "response": {"a": DATA}},
        {"type": "reasoning", "content": DATA},
        DATA,
    ],
)
def test_no_base64_leaves_by_any_part(part: Any) -> None:
    assert DATA not in str(render_messages([{"role": "user", "parts": [part, TEXT]}], media=placeholder))
