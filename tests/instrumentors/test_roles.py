"""The roles of messages, in every spelling that reaches the SDKs."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from instrumentors.openai.messages import to_message
from otel_posthog.conversion.readers.messages import messages


class Role(str, Enum):
    """A role as smolagents and LlamaIndex pass it on."""

    USER = "user"
    TOOL = "tool"


@pytest.mark.parametrize(
    ("role", "written"),
    [("user", "user"), (Role.USER, "user"), (Role.TOOL, "tool"), (None, "assistant"), ("", "assistant")],
)
def test_a_role_that_is_an_enum_is_its_value(role: Any, written: str) -> None:
    assert to_message({"role": role, "content": "Hi"})["role"] == written


@pytest.mark.parametrize(
    ("role", "read"), [("MessageRole.USER", "user"), ("MessageRole.SYSTEM", "system"), ("user", "user")]
)
def test_a_role_that_is_an_enum_as_text_is_read(role: str, read: str) -> None:
    assert [each["role"] for each in messages([{"role": role, "content": "Hi"}], "assistant") or ()] == [read]
    parts = [{"type": "text", "content": "Hi"}]
    assert [each["role"] for each in messages([{"role": role, "parts": parts}], "assistant") or ()] == [read]
