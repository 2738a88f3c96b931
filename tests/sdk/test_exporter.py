"""The exporter under other processors, its results, and its settings from a `posthog.Posthog` client."""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from posthog import Posthog

from otel_posthog import PostHogSpanExporter, ai_context
from otel_posthog.delivery.http.transport import Response
from otel_posthog.forwarder import forwarder
from otel_posthog.local import Inbox
from otel_posthog.sdk import exporter as exporter_module
from tests.support.spans import CHAT, PARENT_ID, SPAN_ID, START, make_view, sdk_span

SECRET = {**CHAT, "gen_ai.input.messages": "a secret"}


@contextmanager
def exporting(inbox: Inbox, **options: Any) -> Iterator[PostHogSpanExporter]:
    exporter = PostHogSpanExporter(**{"api_key": "phc_test", "endpoint": inbox.url, **options})
    yield exporter
    exporter.shutdown()


@contextmanager
def a_client(inbox: Inbox, **options: Any) -> Iterator[Posthog]:
    client = Posthog("phc_of_the_client", host=inbox.url, **options)
    yield client
    client.shutdown()


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_it_works_under_any_processor(inbox: Inbox, processor: Any) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(PostHogSpanExporter(api_key="phc_test", endpoint=inbox.url)))
    provider.get_tracer("tests").start_span("chat", attributes=CHAT).end()
    provider.shutdown()
    assert Counter(event["event"] for event in inbox.events()) == {
        "$ai_generation": 1,
        "llm_completion_requested": 1,
        "llm_completion_success": 1,
    }


def test_success_means_accepted_and_a_span_that_is_not_ours_is_no_failure(inbox: Inbox) -> None:
    with exporting(inbox) as exporter:
        assert exporter.export([sdk_span(), sdk_span({"http.route": "/"})]) is SpanExportResult.SUCCESS
        assert exporter.export([]) is SpanExportResult.SUCCESS
        assert exporter.export([sdk_span(sampled=False)]) is SpanExportResult.SUCCESS
    assert len(inbox.events("$ai_generation")) == 1


def test_the_same_span_exported_twice_is_the_same_events(inbox: Inbox) -> None:
    with exporting(inbox) as exporter:
        exporter.export([sdk_span()])
        exporter.export([sdk_span()])
    assert {event["_inbox"]["copies"] for event in inbox.events()} == {2}
    assert len(inbox.events()) == 3


def test_failure_means_not_accepted_within_the_timeout(inbox: Inbox) -> None:
    with exporting(inbox, endpoint="http://127.0.0.1:9", timeout=0.2) as exporter:
        assert exporter.export([sdk_span()]) is SpanExportResult.FAILURE


def test_after_shutdown_it_fails_and_shutdown_may_be_repeated(inbox: Inbox) -> None:
    with exporting(inbox) as exporter:
        exporter.shutdown()
        assert exporter.export([sdk_span()]) is SpanExportResult.FAILURE
    assert inbox.events() == []


def test_force_flush_waits_for_exports_under_way_and_keeps_its_time(inbox: Inbox) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(event: dict[str, Any]) -> dict[str, Any]:
        entered.set()
        leave.wait(30)
        return event

    with exporting(inbox, before_send=hold) as exporter:
        worker = threading.Thread(target=exporter.export, args=([sdk_span()],))
        worker.start()
        entered.wait(30)
        assert exporter.force_flush(10) is False
        leave.set()
        assert exporter.force_flush(30_000) is True
        worker.join()


def test_without_a_key_it_is_off_and_logs_how_to_switch_it_on(caplog: pytest.LogCaptureFixture) -> None:
    exporter = PostHogSpanExporter()
    assert exporter.export([sdk_span()]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    assert ["POSTHOG_API_KEY" in record.message for record in caplog.records] == [True]


def test_a_misspelt_variable_is_logged_once_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_CAPTURE_CONTNT", "false")
    for _ in range(2):
        PostHogSpanExporter(api_key="phc_test").shutdown()
    assert caplog.messages == [
        "OTEL_EXPORTER_POSTHOG_CAPTURE_CONTNT is no option; is OTEL_EXPORTER_POSTHOG_CAPTURE_CONTENT meant?"
    ]


@pytest.mark.parametrize("events", ["ai", "llm_completion", "llm_generation"])
def test_events_chooses_the_families(inbox: Inbox, events: str) -> None:
    with exporting(inbox, events=events) as exporter:
        exporter.export([sdk_span()])
    prefix = "$ai_" if events == "ai" else events
    assert inbox.events()
    assert all(event["event"].startswith(prefix) for event in inbox.events())


def test_a_client_gives_its_key_host_and_properties(inbox: Inbox) -> None:
    with (
        a_client(
            inbox, super_properties={"region": "eu"}, before_send=lambda event: {**event, "distinct_id": "x"}
        ) as client,
        exporting(inbox, api_key=None, endpoint=None, client=client) as exporter,
    ):
        assert exporter.forwarder._config.api_key == "phc_of_the_client"
        exporter.export([sdk_span()])
    for event in inbox.events():
        assert event["properties"]["region"] == "eu"
        assert event["distinct_id"] == "x"


def test_an_argument_wins_over_the_client(inbox: Inbox) -> None:
    with a_client(inbox) as client, exporting(inbox, client=client, api_key="phc_own") as exporter:
        assert exporter.forwarder._config.api_key == "phc_own"


def test_a_clients_privacy_mode_keeps_content_in(inbox: Inbox) -> None:
    with a_client(inbox, privacy_mode=True) as client, exporting(inbox, client=client) as exporter:
        exporter.export([sdk_span(SECRET)])
    assert inbox.events()
    assert "a secret" not in str(inbox.events())


def test_a_disabled_client_sends_nothing_and_logs_nothing(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    with a_client(inbox, disabled=True) as client, exporting(inbox, api_key=None, client=client) as exporter:
        assert exporter.export([sdk_span()]) is SpanExportResult.SUCCESS
        assert inbox.events() == []
        client.disabled = False
        assert exporter.export([sdk_span()]) is SpanExportResult.SUCCESS
    assert len(inbox.events("$ai_generation")) == 1
    assert [record for record in caplog.records if record.name == "otel_posthog"] == []


def test_a_clients_historical_migration_is_the_deliverys(inbox: Inbox) -> None:
    bodies: list[dict[str, Any]] = []

    class Recorder:
        def post(self, _url: str, body: bytes, _headers: Mapping[str, str], _timeout: float) -> Response:
            bodies.append(json.loads(body))
            return Response(200, {}, b'{"status":"Ok"}')

        def close(self) -> None: ...

        def reset_after_fork(self) -> None: ...

    with a_client(inbox, historical_migration=True) as client:
        sender = forwarder({"client": client, "compression": "none"}, transport=Recorder())
        assert sender.export_spans([make_view()], [], 10)
    assert [body["historical_migration"] for body in bodies] == [True, True]
    assert {body["api_key"] for body in bodies} == {"phc_of_the_client"}


def test_before_send_may_change_and_drop(inbox: Inbox) -> None:
    def only_ai(event: dict[str, Any]) -> dict[str, Any] | None:
        if not event["event"].startswith("$ai_"):
            return None
        return {**event, "properties": {**event["properties"], "seen": True}}

    with exporting(inbox, before_send=only_ai) as exporter:
        exporter.export([sdk_span()])
        assert exporter.stats()["events"]["dropped"] == {"before_send": 2}
    [event] = inbox.events()
    assert event["properties"]["seen"] is True


@pytest.mark.parametrize("error", [RuntimeError("a secret"), SystemExit("a secret")])
def test_an_event_that_before_send_fails_on_is_not_sent_and_counted(
    inbox: Inbox, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fails(event: dict[str, Any]) -> dict[str, Any]:
        if event["event"] == "$ai_generation":
            raise error
        return event

    with exporting(inbox, before_send=fails) as exporter:
        exporter.export([sdk_span()])
        assert exporter.stats()["events"]["dropped"] == {"before_send failed": 1}
    assert inbox.events("$ai_generation") == []
    assert len(inbox.events()) == 2
    [record] = [record for record in caplog.records if record.name == "otel_posthog"]
    assert record.levelno == logging.WARNING
    assert "a secret" not in record.getMessage()


def test_own_prices_are_read_from_a_file(inbox: Inbox, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('[models."gpt-5.*"]\ninput = 100\noutput = 0\n')
    with exporting(inbox, prices=file) as exporter:
        exporter.export(
            [sdk_span({**CHAT, "gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 1})]
        )
    [event] = inbox.events("$ai_generation")
    assert event["properties"]["$ai_total_cost_usd"] == 0.1


@pytest.mark.parametrize("content", ["{", '{"models": {"m": {"imput": 1}}}', '{"prices": 1}'])
def test_a_wrong_price_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"prices: prices\.json"):
        PostHogSpanExporter(api_key="phc_x", prices=file)


def test_a_wrong_price_file_of_the_environment_is_logged_and_the_built_in_table_used(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "prices.json"
    file.write_text("{")
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_PRICES", str(file))
    with exporting(inbox) as exporter:
        exporter.export(
            [sdk_span({**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 10})]
        )
    assert inbox.events("$ai_generation")[0]["properties"]["$ai_total_cost_usd"] > 0
    assert "prices: prices.json" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_does_not_wait_for_what_its_parent_exports(inbox: Inbox) -> None:
    with exporting(inbox) as exporter:
        exporter._under_way = [0]  # as another thread of the parent would have it at the fork
        child = os.fork()
        if child == 0:  # pragma: no cover
            flushed = exporter.force_flush(10)
            sent = exporter.export([sdk_span()]) is SpanExportResult.SUCCESS
            os._exit(0 if flushed and sent else 1)
        exporter._under_way = []
        assert os.waitpid(child, 0)[1] == 0
    assert len(inbox.events("$ai_generation")) == 1


def test_costs_are_left_to_posthog_when_asked(inbox: Inbox) -> None:
    with exporting(inbox, cost="server") as exporter:
        exporter.export(
            [sdk_span({**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 10})]
        )
    assert not any("cost" in key for event in inbox.events() for key in event["properties"])


def test_an_event_that_before_send_returns_in_pieces_takes_no_other_with_it(inbox: Inbox) -> None:
    with exporting(inbox, events="ai", before_send=lambda _event: {"properties": {}}) as exporter:
        assert exporter.export([sdk_span(), sdk_span(span_id=5)]) is SpanExportResult.SUCCESS
    assert len(inbox.events("$ai_generation")) == 2


def test_a_context_that_an_exporter_alone_cannot_see_is_logged(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporter_module, "has_processor", lambda: False)
    with exporting(inbox) as exporter, ai_context(privacy_mode=True):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        for scope in ("otel_posthog.openai", "somebody.else", "somebody.else"):
            provider.get_tracer(scope).start_span("chat", attributes=CHAT).end()
    assert caplog.text.count("attach PostHogSpanProcessor() instead") == 1


@pytest.mark.parametrize("name", [None, 5, "", ["x"]])
def test_an_event_that_before_send_takes_the_name_of_costs_no_other(inbox: Inbox, name: Any) -> None:
    def hook(event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "event": name} if event["event"] == "$ai_generation" else event

    with exporting(inbox, before_send=hook) as exporter:
        exporter.export([sdk_span()])
        assert exporter.stats()["events"]["dropped"] == {"before_send failed": 1}
    assert len(inbox.events()) == 2


def test_a_parent_that_posthog_does_not_get_is_skipped_and_its_context_is_inherited(
    inbox: Inbox,
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(PostHogSpanExporter(api_key="phc_test", endpoint=inbox.url))
    )
    tracer = provider.get_tracer("tests")
    agent = {"gen_ai.operation.name": "invoke_agent"}
    server = {"enduser.id": "u_1", "posthog.feature": "tldr"}
    with (
        tracer.start_as_current_span("GET /chat", attributes=server),
        tracer.start_as_current_span("agent", attributes=agent) as outer,
        tracer.start_as_current_span("SELECT"),
        tracer.start_as_current_span("POST"),
        tracer.start_as_current_span("chat", attributes=CHAT),
    ):
        pass
    provider.shutdown()
    [call], [root] = inbox.events("$ai_generation"), inbox.events("$ai_trace")
    assert call["properties"]["$ai_parent_id"] == format(outer.get_span_context().span_id, "016x")
    assert "$ai_parent_id" not in root["properties"]
    for event in (call, root):  # only the server's span names the user
        assert (event["distinct_id"], event["properties"]["feature"]) == ("u_1", "tldr")


IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()
ILLUSTRATED = {
    **CHAT,
    "gen_ai.input.messages": json.dumps(
        [{"role": "user", "parts": [{"type": "blob", "mime_type": "image/png", "content": IMAGE}]}]
    ),
}


def shelve(data: bytes, mime_type: str | None) -> str | None:
    if len(data) > 20_000:
        raise OSError
    return f"https://media.example/{mime_type}/{len(data)}"


@pytest.mark.parametrize(
    ("media", "shown"),
    [
        ("placeholder", "[image: image/png, 10240 bytes]"),
        ("full", [{"type": "image", "image": f"data:image/png;base64,{IMAGE}"}]),
        (shelve, [{"type": "image", "image": "https://media.example/image/png/10240"}]),
    ],
)
def test_media_leave_as_the_option_asks(inbox: Inbox, media: Any, shown: Any) -> None:
    with exporting(inbox, media=media, events="ai") as exporter:
        exporter.export([sdk_span(ILLUSTRATED)])
    [event] = inbox.events()
    assert event["properties"]["$ai_input"] == [{"role": "user", "content": shown}]


def test_media_that_their_function_fails_on_are_placeholders_and_that_is_logged(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    larger = base64.b64encode(bytes(range(256)) * 120).decode()
    huge = ILLUSTRATED["gen_ai.input.messages"].replace(IMAGE, larger)
    with exporting(inbox, media=shelve, events="ai") as exporter:
        exporter.export([sdk_span({**ILLUSTRATED, "gen_ai.input.messages": huge})])
    [event] = inbox.events()
    assert event["properties"]["$ai_input"][0]["content"] == "[image: image/png, 30720 bytes]"
    assert caplog.messages == ["media: the function raised OSError: a placeholder is sent."]


def test_a_score_is_a_metric_of_what_was_judged(inbox: Inbox) -> None:
    score = {
        "gen_ai.evaluation.name": "relevance",
        "gen_ai.evaluation.score.value": 0.75,
        "gen_ai.evaluation.score.label": "good",
        "gen_ai.evaluation.explanation": "it answers the question",
    }
    with exporting(inbox, events="ai") as exporter:
        exporter.export(
            [
                sdk_span(events=(("gen_ai.evaluation.result", START, score),)),
                sdk_span(score, span_id=7, name="judge"),
                sdk_span({}, span_id=8, events=(("gen_ai.evaluation.result", START, {**score}),)),
            ]
        )
    metrics = [event for event in inbox.events() if event["event"] == "$ai_metric"]
    assert [event["properties"]["$ai_span_id"] for event in metrics] == [
        format(SPAN_ID, "016x"),
        format(PARENT_ID, "016x"),
        format(PARENT_ID, "016x"),
    ]
    for event in metrics:
        assert event["properties"]["$ai_metric_name"] == "relevance"
        assert event["properties"]["$ai_metric_value"] == 0.75
        assert event["properties"]["$ai_metric_explanation"] == "it answers the question"
    assert len({event["uuid"] for event in metrics}) == 3
    assert len([event for event in inbox.events() if event["event"] == "$ai_generation"]) == 1
