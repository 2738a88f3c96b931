"""`otel-posthog replay` against a real spool, real files and a PostHog on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog import cli
from otel_posthog.cli import replay as replay_module
from otel_posthog.delivery import Entry, destination_of
from otel_posthog.delivery.spool.entries import DeadLetter
from otel_posthog.delivery.spool.spool import Spool
from otel_posthog.local import Inbox
from tests.delivery.capture_server import Answer, capture_server
from tests.support.logs import golden_logs, log_record, logs_request
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, PARENT_ID, SPAN_ID, TRACE_ID, otlp_request, sdk_span

KEY = "phc_test"


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with Inbox() as found:
        monkeypatch.setenv("POSTHOG_API_KEY", KEY)
        monkeypatch.setenv("POSTHOG_HOST", found.url)
        yield found


def event(name: str, number: int) -> bytes:
    made = {
        "event": name,
        "uuid": f"00000000-0000-4000-8000-{number:012}",
        "distinct_id": "u",
        "timestamp": "2026-11-21T00:00:00+00:00",
        "properties": {"$ai_trace_id": "t", "number": number},
    }
    return json.dumps(made).encode()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    made = Spool(tmp_path / "spool", destination_of(KEY), max_bytes=10**8, lease_seconds=60)
    other = Spool(tmp_path / "spool", destination_of("phc_other"), max_bytes=10**8, lease_seconds=60)
    made.put([Entry("event", event("$ai_generation", 1), 1795219200.0)])
    made.acknowledge((), dead=[DeadLetter(event("llm_completion_failed", 2), 1795219200.0, "invalid")])
    other.put([Entry("event", event("$ai_span", 3), 1795219200.0)])
    for each in (made, other):
        each.leave()
        each.close()
    return tmp_path / "spool"


def run(*words: object) -> int:
    return cli.main(["replay", *map(str, words)])


def test_list_tells_what_waits_and_what_was_refused(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--spool-dir", spool) == 0
    refused, mine, other, last = capsys.readouterr().out.splitlines()
    assert refused.split()[0] == "d1"
    assert "llm_completion_failed" in refused
    assert "refused: invalid" in refused
    assert "$ai_generation" in mine
    assert "waiting" in mine
    assert "2026-11-21 00:00:00Z" in mine
    assert destination_of("phc_other") in other
    assert last == f"3 in {spool}"


def test_nothing_said_is_list_and_the_environment_tells_where(
    spool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_SPOOL_DIR", str(spool))
    assert run() == 0
    assert capsys.readouterr().out.endswith(f"3 in {spool}\n")


def test_show_gives_all_of_one(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "d1", "w1", "--spool-dir", spool) == 0
    dead, waiting = map(json.loads, capsys.readouterr().out.splitlines())
    assert (dead["event"], waiting["event"]) == ("llm_completion_failed", "$ai_generation")


@pytest.mark.parametrize("words", [["resend"], ["resend", "all"], ["resend", "d1"]])
def test_resend_sends_what_waits_and_what_was_refused(spool: Path, inbox: Inbox, words: list[str]) -> None:
    assert run(*words, "--spool-dir", spool) == 0
    assert sorted(each["event"] for each in inbox.events()) == ["$ai_generation", "llm_completion_failed"]
    assert run("list", "--spool-dir", spool) == 0


def test_the_environment_tells_resend_where(
    spool: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_SPOOL_DIR", str(spool))
    assert run("resend") == 0
    assert len(inbox.events()) == 2


def test_what_waits_for_a_wrong_key_can_be_had_by_the_right_one(
    spool: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    other = destination_of("phc_other")
    assert run("resend", "--spool-dir", spool) == 0
    hint = f"Project {other}, which has another key: 1 waiting; `otel-posthog replay adopt {other}`"
    assert hint in capsys.readouterr().out
    assert run("adopt", other, "--spool-dir", spool) == 0
    assert run("resend", "--spool-dir", spool) == 0
    assert len(inbox.events("$ai_span")) == 1


def test_where_all_waits_under_other_keys_it_is_said_and_nothing_is_done(
    spool: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_third")
    assert run("resend", "--spool-dir", spool) == 1
    nothing, *others = capsys.readouterr().out.splitlines()
    assert nothing == f"Nothing waits for project {destination_of('phc_third')}, whose key is set."
    assert sorted(others) == sorted(
        f"Project {project}, which has another key: {count};"
        f" `otel-posthog replay adopt {project}` moves them to this one."
        for project, count in (
            (destination_of(KEY), "1 waiting, 1 refused"),
            (destination_of("phc_other"), "1 waiting"),
        )
    )
    assert inbox.events() == []


def test_in_an_empty_spool_there_is_nothing_to_do(
    spool: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("purge", "w1", "w2", "d1", "--spool-dir", spool) == 0
    assert run("resend", "--spool-dir", spool) == 0
    assert ", whose key is set." in capsys.readouterr().out


def test_a_file_is_sent_only_when_posthog_has_it(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spans"
    file.write_bytes(request(3).SerializeToString())
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_SPOOL_DIR", str(tmp_path / "spool"))
    with capture_server() as server:
        server.faults += [Answer(401)]
        monkeypatch.setenv("POSTHOG_HOST", server.url)
        assert run(file) == 1
    assert "can be sent again" in capsys.readouterr().out
    assert not (tmp_path / "spool").exists()


def test_of_a_file_that_cannot_be_sent_nothing_is_called_lost(
    tmp_path: Path,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "spans"
    file.write_bytes(request(3).SerializeToString())
    monkeypatch.setenv("POSTHOG_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(replay_module, "_SECONDS", 0.2)
    assert run(file) == 1
    assert capsys.readouterr().out.endswith("not all sent; the file is as it was and can be sent again.\n")
    assert "lost" not in caplog.text


def test_resend_is_not_done_where_nobody_takes_it(
    spool: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTHOG_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_TIMEOUT", "0.2")
    assert run("resend", "--spool-dir", spool) == 1
    assert "0 of 2 that waited are sent; 2 wait" in capsys.readouterr().out


def test_purge_deletes_what_is_named_or_all_that_was_refused(
    spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("purge", "all", "--spool-dir", spool) == 0
    deleted, waiting = capsys.readouterr().out.splitlines()
    assert deleted == "1 deleted."
    assert waiting.startswith("`purge all` deletes refused events only; 2 still waiting")
    assert run("purge", "w1", "w2", "--spool-dir", spool) == 0
    assert run("purge", "all", "--spool-dir", spool) == 0
    assert run("list", "--spool-dir", spool) == 0
    assert capsys.readouterr().out.splitlines() == ["2 deleted.", "0 deleted.", f"Nothing waits in {spool}."]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list"], "--spool-dir"),
        (["list", "--spool-dir", "nowhere"], "there is no spool in nowhere"),
        (["show", "--spool-dir", "SPOOL"], "name what to show"),
        (["show", "x1", "--spool-dir", "SPOOL"], "x1 is no name such as w12"),
        (["show", "w99", "--spool-dir", "SPOOL"], "there is no w99"),
        (["purge", "--spool-dir", "SPOOL"], "purge all"),
        (["nothing.json"], "nothing.json is neither a file nor one of list, show, resend, adopt, purge"),
        (["resend", "--spool-dir", "SPOOL"], "POSTHOG_API_KEY"),
        (["resend", "d99", "--spool-dir", "SPOOL"], "there is no d99"),
        (["resend", "w1", "--spool-dir", "SPOOL"], "without names"),
        (["adopt", "nobody", "--spool-dir", "SPOOL"], "name the project"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], said: str, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(str(spool) if word == "SPOOL" else word for word in words)) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def request(count: int) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    spans = made.resource_spans.add().scope_spans.add().spans
    for number in range(count):
        span = spans.add(
            name="chat", trace_id=bytes([1] * 16), span_id=number.to_bytes(8, "big", signed=False) or b""
        )
        span.start_time_unix_nano, span.end_time_unix_nano = (
            1_795_219_200_000_000_000,
            1_795_219_201_000_000_000,
        )
        for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "gpt-5.1")):
            span.attributes.add(key=key).value.string_value = value
    return made


@pytest.mark.parametrize("kind", ["json", "protobuf"])
def test_files_of_spans_are_sent(
    kind: str, tmp_path: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spans"
    made = request(3)
    file.write_bytes(
        json.dumps(otlp_json(made)).encode() + b"\n" if kind == "json" else made.SerializeToString()
    )
    assert run(file) == 0
    assert run(file) == 0
    assert f"{file}: 3 spans of model calls, agents and tools sent." in capsys.readouterr().out
    assert len(inbox.events("$ai_generation")) == 3, "the same uuids both times"


@pytest.mark.parametrize("kind", ["json", "protobuf", "messages"])
def test_files_of_log_records_are_sent(
    kind: str, tmp_path: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    made = golden_logs("claude-code")
    body = made.SerializeToString()
    forms = {
        "json": json.dumps(otlp_json(made)).encode() + b"\n",
        "protobuf": body,
        "messages": len(body).to_bytes(4, "big") + body,
    }
    file = tmp_path / "logs"
    file.write_bytes(forms[kind])
    assert run(file) == 0
    assert run(file) == 0
    assert f"{file}: 5 spans of model calls, agents and tools sent." in capsys.readouterr().out
    assert len(inbox.events("$ai_generation")) == 3, "the same uuids both times"


def test_content_in_a_file_joins_its_span_wherever_both_are(tmp_path: Path, inbox: Inbox) -> None:
    message = log_record(
        {}, event="gen_ai.user.message", body={"content": "hello"}, trace_id=TRACE_ID, span_id=SPAN_ID
    )
    file = tmp_path / "both"
    documents = [otlp_json(otlp_request(sdk_span(CHAT))), otlp_json(logs_request(message, scope="any"))]
    file.write_bytes(b"".join(json.dumps(document).encode() + b"\n" for document in documents))
    assert run(file) == 0
    (event,) = inbox.events("$ai_generation")
    assert event["properties"]["$ai_input"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("kind", ["json", "protobuf"])
def test_the_span_of_a_server_hands_down_its_context_in_a_file(
    kind: str, tmp_path: Path, inbox: Inbox
) -> None:
    server = sdk_span({"http.route": "/", "user.id": "u_1"}, parent=False, span_id=PARENT_ID)
    made = otlp_request(sdk_span(), server)
    file = tmp_path / "spans"
    file.write_bytes(json.dumps(otlp_json(made)).encode() if kind == "json" else made.SerializeToString())
    assert run(file) == 0
    [call] = inbox.events("$ai_generation")
    assert call["distinct_id"] == "u_1"
    assert call["properties"]["$ai_parent_id"] == call["properties"]["$ai_trace_id"]


def test_a_server_span_that_comes_last_keeps_all_calls_below_it_private(
    tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "_TOGETHER", 2)
    server = {"http.route": "/", "user.id": "u_1", "posthog.privacy_mode": True}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"}
    asked = {**CHAT, "gen_ai.input.messages": '[{"role": "user", "content": "a secret"}]'}
    spans = [sdk_span(asked, span_id=number, parent_id=7) for number in range(20, 25)]
    spans += [sdk_span(agent, span_id=7), sdk_span(server, parent=False, span_id=PARENT_ID)]
    file = tmp_path / "spans"
    file.write_bytes(otlp_request(*spans).SerializeToString())
    assert run(file) == 0
    calls = inbox.events("$ai_generation")
    assert len(calls) == 5
    for call in calls:
        assert call["distinct_id"] == "u_1"
        assert "secret" not in str(call)
        assert call["properties"]["$ai_parent_id"] == format(7, "016x")
    [head] = inbox.events("$ai_trace")
    assert head["properties"]["$ai_span_id"] == format(7, "016x")


def test_what_cannot_be_read_of_a_file_is_said_and_the_rest_is_sent(
    tmp_path: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "spans.jsonl"
    line = json.dumps(otlp_json(request(2)))
    file.write_text(f'{line}\n{{"resourceSpans": \n{line}\n')
    assert run(file) == 1
    assert "line 2" in capsys.readouterr().out
    assert len(inbox.events("$ai_generation")) == 2


def test_a_file_that_holds_no_spans_is_one_sentence(
    tmp_path: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    assert run(file) == 1
    assert str(file) in capsys.readouterr().err
