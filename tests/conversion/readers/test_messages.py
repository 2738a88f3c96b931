from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.readers.messages import messages, system_messages, tools
from tests.conversion.readers.test_attribute_values import ANYTHING

HELLO = {"role": "user", "parts": [{"type": "text", "content": "hello"}]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(json.dumps([HELLO]), [HELLO], id="the convention's JSON"),
        pytest.param([HELLO], [HELLO], id="structured"),
        pytest.param(json.dumps(HELLO), [HELLO], id="one message"),
        pytest.param("hello", [HELLO], id="plain text"),
        pytest.param(
            '[{"role": "user"',
            [{"role": "user", "parts": [{"type": "text", "content": '[{"role": "user"'}]}],
            id="broken JSON",
        ),
        pytest.param('[{"role":"user","content":"hello"}]', [HELLO], id="chat completions"),
        pytest.param(
            '[{"role":"user","content":[{"type":"input_text","text":"hello"}]}]', [HELLO], id="responses"
        ),
        pytest.param('[{"type":"text","content":"hello"}]', [HELLO], id="parts alone"),
        pytest.param('["hello"]', [HELLO], id="list of texts"),
        pytest.param('[{"content":"hello"}]', [HELLO], id="no role"),
        pytest.param('[{"parts":[{"type":"text","content":"hello"}]}]', [HELLO], id="parts and no role"),
        pytest.param("", None, id="nothing"),
        pytest.param("[]", None, id="no messages"),
        pytest.param(None, None, id="none"),
    ],
)
def test_messages_come_in_one_form(value: Any, expected: Any) -> None:
    assert messages(value, "user") == expected


def test_tool_calls_and_their_answers_are_parts() -> None:
    chat = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    assert messages(json.dumps(chat), "user") == [
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "sunny"}]},
    ]


def test_a_list_beyond_any_conversation_stays_one_text() -> None:
    data = str([*range(30_000)])
    assert messages(data, "user") == [{"role": "user", "parts": [{"type": "text", "content": data}]}]


def test_a_part_of_unknown_shape_stays_as_it_is() -> None:
    odd = {"type": "hologram", "frames": [1, 2]}
    assert messages(json.dumps([{"role": "user", "content": [odd]}]), "user") == [
        {"role": "user", "parts": [odd]}
    ]


@pytest.mark.parametrize(
    "value",
    ['[{"type":"text","content":"Be brief."}]', "Be brief.", '[{"role":"system","content":"Be brief."}]'],
)
def test_system_instructions_are_a_system_message(value: str) -> None:
    assert system_messages(value) == [{"role": "system", "parts": [{"type": "text", "content": "Be brief."}]}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('[{"name":"a"}]', [{"name": "a"}]),
        ('{"name":"a"}', [{"name": "a"}]),
        (['{"name":"a"}', "b"], [{"name": "a"}, "b"]),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_tools_are_a_list(value: Any, expected: Any) -> None:
    assert tools(value) == expected


@given(value=ANYTHING | ANYTHING.map(lambda drawn: json.dumps(drawn, default=str)))
def test_any_attribute_value_gives_well_formed_messages(value: Any) -> None:
    for message in messages(value, "user") or ():
        assert isinstance(message["role"], str)
        assert isinstance(message["parts"], list)
    tools(value)


@given(text=st.text(min_size=1))
def test_no_text_is_lost(text: str) -> None:
    [message] = messages(json.dumps([{"role": "user", "content": text}]), "user") or [{}]
    assert message["parts"] == [{"type": "text", "content": text}]
