"""A span's attributes become a call: values that a library got wrong are settled."""

from __future__ import annotations

import pytest

from otel_posthog.conversion.span_reader import read_call
from tests.support.spans import CHAT, make_view

INVENTED = "gen_ai.conversation.id"
FIRST = "gen_ai.server.time_to_first_token"


@pytest.mark.parametrize(
    ("reported", "seconds"),
    [(0.5, 0.5), (778, 0.778), (1_000_000, None)],
    ids=["seconds", "milliseconds", "neither"],
)
def test_no_first_token_comes_after_the_end(reported: float, seconds: float | None) -> None:
    view = make_view({**CHAT, FIRST: reported})
    assert view.end_ns is not None
    view = view._replace(end_ns=view.start_ns + 800_000_000)
    assert read_call(view).time_to_first_token == seconds


@pytest.mark.parametrize(
    ("attributes", "conversation"),
    [
        ({"posthog.chat_id": "chat", INVENTED: "invented"}, "chat"),
        (
            {
                "posthog.chat_id": "chat",
                "posthog.conversation_id": "mine",
                INVENTED: "invented",
            },
            "mine",
        ),
        ({"gen_ai.conversation.id": "session"}, "session"),
        ({"chat_id": "chat", "gen_ai.conversation.id": "session"}, "session"),
    ],
    ids=["ai_context beats a library", "both by ai_context", "a library alone", "two attributes of others"],
)
def test_the_conversation_of_the_application_wins(attributes: dict[str, str], conversation: str) -> None:
    assert read_call(make_view({**CHAT, **attributes})).context.conversation_id == conversation
