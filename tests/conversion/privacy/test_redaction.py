"""Texts that are redacted, texts that are not, and how the work grows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.redact import ADVERSARIAL
from otel_posthog.config.parsers import redaction
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.privacy import credentials, personal_data, personal_numbers
from otel_posthog.conversion.privacy.redaction import (
    KINDS,
    may_hold_credentials,
    redact_call,
    redact_json,
    redactor,
)
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.packed_span import pack
from otel_posthog.forwarder import forwarder
from otel_posthog.forwarder.span_converter import DecodedSpan, FinishedSpan, SpanConverter
from tests.conversion.readers.test_attribute_values import ANYTHING
from tests.delivery.support import ScriptedTransport, answer
from tests.support.spans import make_view, sdk_span

EVERY = redactor(KINDS)
KEYS_ONLY = redactor()
OPENAI = "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8x"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def test_the_option_takes_every_kind() -> None:
    assert redaction(",".join(KINDS)) == dict.fromkeys(KINDS)


REDACTED: list[tuple[str, str, str]] = [
    ("email", "to jane.doe+x@mail.example.co.uk.", "to [EMAIL]."),
    ("email", "<jörg@exämple.de>, 'a@b.io'", "<[EMAIL]>, '[EMAIL]'"),
    ("email", "a@b.io a@b.io", "[EMAIL] [EMAIL]"),
    ("card", "4111 1111 1111 1111", "[CARD]"),
    ("card", "4111-1111-1111-1111.", "[CARD]."),
    ("card", "4111111111111111", "[CARD]"),
    ("card", "3782 822463 10005 or 378282246310005", "[CARD] or [CARD]"),
    ("card", "5555 5555 5555 4444 12/27 123", "[CARD] 12/27 123"),
    ("card", "4111 1111 1111 1111 123", "[CARD] 123"),
    ("card", "1234 4111 1111 1111 1111", "1234 [CARD]"),
    ("card", "4111\u00a01111\u00a01111\u00a01111", "[CARD]"),
    ("iban", "DE89 3704 0044 0532 0130 00 BIC COBADEFF", "[IBAN] BIC COBADEFF"),
    ("iban", "GB82WEST12345698765432.", "[IBAN]."),
    ("iban", "ES91 2100 0418 4502 0005 1332 THIS", "[IBAN] THIS"),
    ("iban", "nl91abna0417164300", "[IBAN]"),
    ("ssn", "219-09-9999, 219 09 9999", "[SSN], [SSN]"),
    ("ssn", "SSN: 219099999", "SSN: [SSN]"),
    ("ssn", "social security number 219099999", "social security number [SSN]"),
    ("ip", "10.0.0.1, 255.255.255.255.", "[IP], [IP]."),
    ("ip", "[2001:db8::1]:443 and fe80::1%eth0", "[[IP]]:443 and [IP]%eth0"),
    ("ip", "1:2:3:4:5:6:7:8 ::ffff:10.0.0.1 2001:db8::", "[IP] [IP] [IP]"),
    ("phone", "+49 (0)30 1234567", "[PHONE]"),
    ("phone", "(+49)", "(+49)"),
    ("phone", "+14155552671, +(44) 20 7946 0958", "[PHONE], [PHONE]"),
    ("phone", "0049 30 123456", "[PHONE]"),
    ("phone", "030/1234567 or 0151 23456789", "[PHONE] or [PHONE]"),
    ("phone", "06 12 34 56 78", "[PHONE]"),
    ("phone", "(415) 555-2671", "[PHONE]"),
    ("phone", "415-555-2671, 1-415-555-2671, 415.555.2671", "[PHONE], [PHONE], [PHONE]"),
    ("phone", "Tel. 1234567; phone number: 5551234567", "Tel. [PHONE]; phone number: [PHONE]"),
    ("phone", '{"phone": "5551234567"}', '{"phone": "[PHONE]"}'),
    ("phone", "phone +1 415 555 2671, tel:+14155552671.", "phone [PHONE], tel:[PHONE]."),
    ("phone", "fax+1 415 555 2671, mobile: (+14155552671)", "fax[PHONE], mobile: ([PHONE])"),
    ("secret", "password: hunter2", "password: [SECRET]"),
    ("secret", "the password is hunter2", "the password is [SECRET]"),
    ("secret", '{"client_secret": "abcdef123"}', '{"client_secret": "[SECRET]"}'),
    ("secret", "TOKEN=abc123def", "TOKEN=[SECRET]"),
    ("secret", "pwd=hunter2 Passphrase: hunter2", "pwd=[SECRET] Passphrase: [SECRET]"),
    ("secret", "apiKey: 'abc123def', aws_access_key=abc123", "apiKey: '[SECRET]', aws_access_key=[SECRET]"),
    ("secret", "postgres://me:pw@host/db", "postgres://[SECRET]@host/db"),
    ("secret", "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----!", "[SECRET]!"),
    ("secret", "-----BEGIN PRIVATE KEY-----\nMII", "[SECRET]"),
    ("secret", "ASIAIOSFODNN7EXAMPLE", "[SECRET]"),
]


@pytest.mark.parametrize(("kind", "text", "left"), REDACTED)
def test_a_kind_is_redacted_if_it_is_chosen_and_only_then(kind: str, text: str, left: str) -> None:
    assert redactor([kind])(text) == left
    others = [other for other in KINDS if other != kind]
    assert f"[{kind.upper()}]" not in redactor(others)(text)
    assert KEYS_ONLY(text) == text


NOT_REDACTED = [
    "a@b, @home, user@localhost, a@b.c",
    "4111 1111 1111 1112",  # Luhn
    "1111111111111117, 9999999999999995",  # no issuer
    "1700000000, 1700000000000, 1700000000000000, 12345678, 5551234567",
    "DE89370400440532013001",  # modulo 97
    "ZZ89370400440532013000",  # no such country
    "000-12-3456, 666-12-3456, 900-12-3456, 219-00-9999, 219-09-0000",
    "999.1.1.1, v1.2.3.4, 1.2.3, 1.2.3.4.5",
    "x[1::2], std::abs, 12:30:45, a::b, :::, 1:2:3:4:5:6:7:8:9",
    "2024-05-06 10:30, 01.02.2024 10:30, 2026-01-05T10:11:12.123456+00:00",
    "0.1234567891234, -3.14159265358979, 1,234,567.89",
    "550e8400-e29b-41d4-a716-446655440000",
    "claude-haiku-4-5-20251001, gpt-5.1-2025-11-13, call_0123456789",
    "prompt_tokens: 123456, max_tokens=4096, key: abc123, pass: 1, token: string, secret: required",
    "risk-averse-people-of-the-world-1, sk-spinner-cube-grid-thing, desk-1234567890123456789",
    "phc_abcdefghijklmnopqrstuvwxyz0123456789",
    "the bearer of these very-long-hyphenated-words, Bearer token",
    "https://example.com/a?b=c#d",
]


@pytest.mark.parametrize("text", NOT_REDACTED)
def test_lookalikes_stay(text: str) -> None:
    assert EVERY(text) == text


KEYS = [
    OPENAI,
    "sk-Ab3dEf6hIj9lMn2pQr5tUv8x",
    "sk-ant-api03-Ab3dEf6hIj9lMn2pQr5t_Uv8x-AA",
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "AQ.Ab8RN6IjklMnOpQrStUvWxYz",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_Ab3dEf6hIj9lMn2pQr5tUv8xYz1234567890",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz0123456789",
    "xoxb-123456789012-1234567890123-AbCdEfGhIjKl",
    "hf_Ab3dEf6hIj9lMn2pQr5tUv8xYz12345678",
    "sk_live_51HAb3dEf6hIj9lMn2pQr5tUv",
    "rk_test_51HAb3dEf6hIj9lMn2pQr5tUv",
    "phx_Ab3dEf6hIj9lMn2pQr5tUv8xYz1234567890",
    "phs_Ab3dEf6hIj9lMn2pQr5tUv8xYz1234567890",
    "gsk_Ab3dEf6hIj9lMn2pQr5tUv8xYz1234567890",
    "xai-Ab3dEf6hIj9lMn2pQr5tUv8xYz",
    JWT,
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "around",
    ["{}", "my key is {}, keep it", '{{"a": "{}"}}', "https://x.io/?key={}&b=1", "-_zJKQB " * 9 + "{}"],
)
def test_a_key_of_a_provider_is_always_redacted(key: str, around: str) -> None:
    assert credentials.may_hold_key(around.format(key))
    assert KEYS_ONLY(around.format(key)) == around.format("[SECRET]")
    assert EVERY(around.format(key)) == around.format("[SECRET]")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdef1234567890", "Authorization: Bearer [SECRET]"),
        ("authorization: basic dXNlcjpwYXNz", "authorization: basic [SECRET]"),
        (r"{\"authorization\": \"Ab3dEf6hIj9\"}", r"{\"authorization\": \"[SECRET]\"}"),
        ("Authorization: required", "Authorization: required"),
        ("curl -H 'Bearer abcdef.1234567890~+/=='", "curl -H 'Bearer [SECRET]'"),
        ("api-key: 0123456789abcdef0123456789abcdef", "api-key: [SECRET]"),
        ('{"api_key": "0123456789abcdef"}', '{"api_key": "[SECRET]"}'),
        ("AZURE_API_KEY=0123456789abcdef", "AZURE_API_KEY=[SECRET]"),
        ('"server_url": "https://me:pw@mcp.example/sse"', '"server_url": "[SECRET]"'),
    ],
)
def test_a_header_with_a_credential_is_always_redacted(text: str, left: str) -> None:
    assert KEYS_ONLY(text) == left


def test_own_patterns_have_their_names_and_come_after_the_kinds() -> None:
    redact = redactor(["email"], {"employee": r"E[0-9]{6}(?=@)?", "nothing": "y*"})
    assert redact("E123456@corp.example E123456 yy") == "[EMAIL] [EMPLOYEE] [NOTHING]"


@pytest.mark.parametrize("pattern", ["(a", "[", "*", "(?P<x>a)(?P<x>b)"])
def test_an_own_pattern_that_does_not_compile_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="the pattern employee is no regular expression"):
        redactor((), {"employee": pattern})


def test_a_kind_nobody_has_is_named() -> None:
    with pytest.raises(ValueError, match="names is no kind"):
        redactor(["email", "names"])


@given(st.text() | st.from_regex(r"[0-9@:.+() -]{0,60}|(sk-|eyJ|Bearer |AIza)[\w.-]{0,60}"))
def test_redacted_text_needs_no_redaction(text: str) -> None:
    once = EVERY(text)
    assert EVERY(once) == once


# --- values ---


@given(ANYTHING)
def test_any_value_keeps_its_form_if_nothing_is_redacted(value: Any) -> None:
    redact_json(value, EVERY)
    assert json.dumps(redact_json(value, lambda text: text), default=repr) == json.dumps(value, default=repr)


def test_names_of_fields_and_numbers_are_redacted_too() -> None:
    given_value = {"jane@example.com": [4111111111111111, 1700000000, True, 2.5], "joe@example.com": "x"}
    assert redact_json(given_value, EVERY) == {"[EMAIL]": ["[CARD]", 1700000000, True, 2.5], "[EMAIL] 1": "x"}


def test_values_that_are_nested_too_deeply_are_dropped() -> None:
    value: Any = "jane@example.com"
    for _ in range(5000):
        value = [{"a": value}]
    assert "jane" not in json.dumps(redact_json(value, EVERY))


@pytest.mark.parametrize("around", ["{}", "see data:image/png;base64,{} and"])
def test_data_in_base64_are_left_whole(around: str) -> None:
    data = "iVBOR+4111111111111111/0151234567890/sk-" * 40
    assert EVERY(around.format(data.replace("-", "+"))) == around.format(data.replace("-", "+"))
    assert EVERY(around.format(data) + " a@b.io").endswith("[EMAIL]")


# --- calls ---

MCP = {
    "type": "mcp",
    "server_label": "crm",
    "server_url": "https://me:pw@mcp.example/v1/0123456789abcdef0123456789abcdef/sse?token=opaque&team=5",
    "authorization": "opaque-token",
    "headers": {"X-Team-Pass": "open sesame"},
    "require_approval": "never",
}
FUNCTION = {
    "type": "function",
    "name": "look_up",
    "description": "Ask jane@example.com",
    "parameters": {"type": "object", "properties": {"headers": {"type": "string"}, "authorization": {}}},
}


def properties(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [properties_of_event] = [event["properties"] for event in events if event["event"] == name]
    return dict(properties_of_event)


def test_remote_tools_are_sent_without_their_credentials() -> None:
    view = make_view({"gen_ai.tool.definitions": json.dumps([MCP, FUNCTION])})
    tools = properties(Pipeline(families=frozenset({"ai"})).finished_events(view), "$ai_generation")[
        "$ai_tools"
    ]
    assert tools == [
        MCP
        | {
            "server_url": "https://[SECRET]@mcp.example/v1/[SECRET]/sse?token=[SECRET]&team=5",
            "authorization": "[SECRET]",
            "headers": {"X-Team-Pass": "[SECRET]"},
        },
        FUNCTION,
    ]


WORDS = "jane@example.com " + OPENAI
CHAT = {
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": WORDS}]}]),
    "gen_ai.output.messages": json.dumps(
        [
            {
                "role": "assistant",
                "parts": [{"type": "tool_call", "id": "call_1", "name": "f", "arguments": {"to": WORDS}}],
            }
        ]
    ),
    "gen_ai.request.stop_sequences": [WORDS],
    "posthog.property.note": WORDS,
    "gen_ai.evaluation.name": "kindness",
    "gen_ai.evaluation.score.value": 1.0,
    "gen_ai.evaluation.explanation": WORDS,
}
KEPT = {
    "posthog.distinct_id": "jane@example.com",
    "posthog.chat_id": "+1 415-555-2671",
    "posthog.feature": "10.0.0.1",
    "gen_ai.response.model": "gpt-5.1-2025-11-13",
    "gen_ai.response.id": "219-09-9999",
    "gen_ai.usage.input_tokens": 4111111111111111,
}
DIALECTS: dict[str, dict[str, Any]] = {
    "genai": CHAT,
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-5.1",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": WORDS,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": WORDS,
        "metadata": json.dumps({"note": WORDS}),
    },
    "openllmetry": {
        "llm.request.type": "chat",
        "gen_ai.request.model": "gpt-5.1",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": WORDS,
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": WORDS,
        "traceloop.association.properties.note": WORDS,
    },
    "vercel": {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.id": "gpt-5.1",
        "ai.prompt.messages": json.dumps([{"role": "user", "content": [{"type": "text", "text": WORDS}]}]),
        "ai.response.text": WORDS,
        "ai.telemetry.metadata.note": WORDS,
    },
}
EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})


@pytest.mark.parametrize("redacts", [True, False])
@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_and_event_is_redacted(name: str, redacts: bool) -> None:
    pipeline = Pipeline(families=EVERYTHING, redact=redactor(["email"]) if redacts else None)
    for error in (False, True):
        view = make_view(
            only=DIALECTS[name],
            status="ERROR" if error else "UNSET",
            status_message="the key was " + WORDS if error else None,
        )
        written = json.dumps([*pipeline.finished_events(view), *pipeline.started_events(view)])
        assert OPENAI not in written
        assert "[SECRET]" in written
        assert ("jane" in written) != redacts
        assert ("[EMAIL]" in written) == redacts


def test_ids_models_and_counts_stay_as_they_are() -> None:
    with_all, without = (
        Pipeline(families=EVERYTHING, redact=redact).finished_events(make_view(KEPT))
        for redact in (EVERY, None)
    )
    assert with_all == without


def test_the_length_of_a_prompt_is_that_before_redaction() -> None:
    events = Pipeline(families=EVERYTHING, redact=EVERY).finished_events(make_view(CHAT))
    assert properties(events, "llm_completion_requested")["prompt_length"] == len(WORDS)
    assert properties(events, "$ai_generation")["$ai_input"] == [
        {"role": "user", "content": "[EMAIL] [SECRET]"}
    ]


def test_a_name_in_metadata_is_redacted_and_the_id_is_not() -> None:
    view = make_view({"posthog.distinct_id": "u@example.com", "posthog.username": "jane@example.com"})
    events = Pipeline(families=EVERYTHING, redact=EVERY).finished_events(view)
    shown = properties(events, "llm_completion_success")
    assert (shown["user_id"], shown["metadata"]["username"]) == ("u@example.com", "[EMAIL]")


@pytest.mark.parametrize("api_base", ["https://me:pw@proxy.example/v1", "https://proxy.example/v1?token=pw"])
def test_the_address_of_a_provider_is_sent_without_credentials(api_base: str) -> None:
    view = make_view({"llm.request.type": "chat", "gen_ai.openai.api_base": api_base})
    shown = properties(Pipeline(families=EVERYTHING).finished_events(view), "$ai_generation")
    assert "proxy.example/v1" in shown["$ai_base_url"]
    assert "pw" not in shown["$ai_base_url"]


def test_a_text_that_is_no_address_stays() -> None:
    data = "data:image/png;base64,AAAA/" + "a1" * 300
    assert credentials.safe_url(data, path=True) == data


def test_properties_of_a_client_are_redacted_like_others() -> None:
    conversion = SpanConverter(
        Pipeline(families=frozenset({"llm_generation"}), redact=EVERY), super_properties={"note": WORDS}
    )
    [event] = conversion.finished([make_view()])
    assert event["properties"]["note"] == "[EMAIL] [SECRET]"


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_the_option_is_followed_by_way_of_arguments_and_of_the_environment(by: str) -> None:
    wanted = ["email", {"employee": "E[0-9]{6}"}]
    subject = forwarder(
        {"api_key": "phc_x", "events": "ai"} | ({"redact": wanted} if by == "argument" else {}),
        environ={"OTEL_EXPORTER_POSTHOG_REDACT": json.dumps(wanted)} if by == "environment" else {},
    )
    view = make_view({"posthog.property.note": f"E123456 {WORDS} 10.0.0.1"})
    [event] = subject._converter.finished([view])
    assert event["properties"]["note"] == "[EMPLOYEE] [EMAIL] [SECRET] 10.0.0.1"


# --- what waits on disk ---


def entries(conversion: SpanConverter, attributes: dict[str, Any]) -> list[Any]:
    packed = pack(sdk_span(attributes))
    assert packed is not None
    return conversion.entries([FinishedSpan(packed)])


PLAIN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.1",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]),
}


@pytest.mark.parametrize(
    "held",
    [
        *({"posthog.property.note": key} for key in KEYS),
        {"posthog.property.note": "Authorization: Basic dXNlcjpwYXNz"},
        {"gen_ai.tool.definitions": json.dumps([MCP])},
        {"gen_ai.tool.definitions": json.dumps([{"name": "x", "headers": {"X": "opaque"}}])},
        {"gen_ai.openai.api_base": "https://me:pw@proxy.example"},
    ],
)
def test_a_span_with_a_credential_does_not_wait_on_disk_as_it_is(held: dict[str, Any]) -> None:
    conversion = SpanConverter(Pipeline(families=EVERYTHING))
    [entry] = entries(conversion, PLAIN | held)
    assert entry.kind == "event"
    for secret in (*KEYS, "dXNlcjpwYXNz", "opaque", "open sesame", "me:pw"):
        assert secret.encode() not in entry.body


def test_a_span_without_any_waits_as_it_is_unless_something_is_redacted() -> None:
    assert entries(SpanConverter(Pipeline(families=EVERYTHING)), PLAIN)[0].kind == "span"
    assert entries(SpanConverter(Pipeline(families=EVERYTHING, redact=EVERY)), PLAIN)[0].kind.startswith(
        "event "
    )


def test_a_span_from_disk_is_redacted_by_the_process_that_sends_it() -> None:
    attributes = PLAIN | {"posthog.property.note": "jane@example.com"}
    [entry] = entries(SpanConverter(Pipeline(families=EVERYTHING)), attributes)
    sender = SpanConverter(Pipeline(families=frozenset({"ai"}), redact=EVERY))
    restored = sender.load(entry)
    assert isinstance(restored, DecodedSpan)
    written = json.dumps([*sender.events([restored])])
    assert "jane" not in written
    assert "[EMAIL]" in written


@pytest.mark.parametrize("redact", [None, ["email"]])
def test_with_durability_always_no_file_of_the_spool_holds_redacted_text(
    tmp_path: Path, redact: list[str] | None
) -> None:
    subject = forwarder(
        {"api_key": "phc_x", "spool_dir": tmp_path, "durability": "always", "redact": redact},
        environ={},
        transport=ScriptedTransport([], otherwise=lambda _posted: answer(503)),
    )
    subject.end(sdk_span(PLAIN | {"posthog.property.note": WORDS}))
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    subject.close(0.1)
    assert b"llm_completion_success" in written
    assert OPENAI.encode() not in written
    assert (b"jane" in written) == (redact is None)


# --- work ---


class Counted:
    """A pattern that counts its searches and matches, and the characters that they went through."""

    def __init__(self, pattern: re.Pattern[str], work: list[int]) -> None:
        self.pattern, self.work = pattern, work

    def _counted(self, name: str, text: str, at: int = 0, end: int = 2**60) -> re.Match[str] | None:
        match: re.Match[str] | None = getattr(self.pattern, name)(text, at, end)
        self.work[0] += 8 + (match.end() - at if match is not None else 0)
        return match

    def search(self, text: str, at: int = 0, end: int = 2**60) -> re.Match[str] | None:
        return self._counted("search", text, at, end)

    def match(self, text: str, at: int = 0, end: int = 2**60) -> re.Match[str] | None:
        return self._counted("match", text, at, end)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of characters that the patterns scanned, plus eight per search."""
    counted = [0]
    replace_ranges = credentials.replace_ranges

    def counting(text: str, near: Any, *rest: Any) -> str:
        return replace_ranges(text, Counted(near, counted), *rest)  # type: ignore[arg-type]

    for module in (credentials, personal_data, personal_numbers):
        monkeypatch.setattr(module, "replace_ranges", counting)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern) and name not in {
                "_NO_DIGIT",
                "_USERINFO",
                "_QUERY",
                "_SEGMENT",
                "_GAPS",
                "_NAME",
            }:
                monkeypatch.setattr(module, name, Counted(value, counted))
    named = {
        kind: [(word, [Counted(pattern, counted) for pattern in patterns]) for word, patterns in forms]
        for kind, forms in personal_data._NAMED.items()
    }
    monkeypatch.setattr(personal_data, "_NAMED", named)
    return counted


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_work_grows_with_the_text_and_no_faster(name: str, work: list[int]) -> None:
    spent = []
    for times in (2_000, 8_000):
        work[0] = 0
        redactor(KINDS)("! " + ADVERSARIAL[name] * times)
        spent.append(work[0])
    assert spent[1] <= 4.5 * spent[0] + 1000


def test_an_own_pattern_does_not_take_the_middle_of_an_account() -> None:
    redact = redactor(["iban"], {"employee": r"E[0-9]{6}"})
    assert redact("DE89370400440532013000 E123456") == "[IBAN] [EMPLOYEE]"


KEY_AFTER_ESCAPE = "sk-proj-abcdefghij1234567890ABCDEFGH"


@pytest.mark.parametrize("before", ["\n", "\t", "\r\n", "\u00a0", "ä\n"])
@pytest.mark.parametrize("shape", ["whole", "piece", "twice"])
def test_an_escape_of_json_hides_no_key_and_no_number(before: str, shape: str) -> None:
    text = json.dumps({"t": f"key:{before}{KEY_AFTER_ESCAPE} card:{before}4111 1111 1111 1111"})
    text = {"whole": text, "piece": f"Error code: 400 - {text}", "twice": json.dumps({"args": text})}[shape]
    redacted = redactor(["card"])(text)
    assert KEY_AFTER_ESCAPE not in redacted
    assert "4111" not in redacted
    assert "[SECRET]" in redacted
    if shape != "piece":
        json.loads(redacted)


@pytest.mark.parametrize(
    "key",
    [
        "AQ.Ab8RN6Jabcdefghijklmnopqrstuvwxyz1234",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlc2lnbmF0dXJl",
    ],
)
def test_the_look_at_json_finds_a_key_after_an_escape(key: str) -> None:
    assert may_hold_credentials(json.dumps({"x": f"key:\n{key}"}).encode())
    call = read_call(make_view({"gen_ai.operation.name": "chat", "posthog.property.x": f"key:\n{key}"}))
    assert key not in str(redact_call(call, None).context.properties)
