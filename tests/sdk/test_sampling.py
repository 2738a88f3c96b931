"""Sampling by every way in: processor, exporter, disk, files and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from otel_posthog import (
    PostHogSpanExporter,
    PostHogSpanProcessor,
    ai_context,
    capture_feedback,
    capture_metric,
)
from otel_posthog.cli.replay import replay
from otel_posthog.forwarder import forwarder
from otel_posthog.local import Inbox
from tests.support.spans import CHAT, otlp_request, sdk_span

KEPT, LEFT_OUT = "0" * 31 + "a", "0" * 31 + "1"
"""Names of traces of which the number drawn is 0.03 and 0.83."""

Make = Callable[..., tuple[Any, PostHogSpanProcessor]]


@pytest.fixture
def attach(attach: Make) -> Make:
    """Makes a tracer with our processor that keeps a tenth."""
    return lambda **options: attach(**{"sample_rate": 0.1, **options})


def rates(inbox: Inbox) -> dict[str, Any]:
    return {event["event"]: event["properties"].get("$sample_rate") for event in inbox.events()}


def ask(tracer: Any, trace: str, *, fails: bool = False, **context: Any) -> None:
    with ai_context(trace_id=trace, **context):
        span = tracer.start_span("chat", attributes=CHAT)
    if fails:
        span.set_attribute("error.type", "timeout")
        span.set_status(StatusCode.ERROR)
    span.end()


KEPT_WHOLE = {"$ai_generation": 0.1, "llm_completion_requested": 0.1, "llm_completion_success": 0.1}


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "always"])
@pytest.mark.parametrize("hooked", [False, True], ids=["as spans", "as events"])
def test_whole_traces_are_kept_and_the_rest_is_counted(
    inbox: Inbox, attach: Make, tmp_path: Path, on_disk: bool, hooked: bool
) -> None:
    options: dict[str, Any] = {"spool_dir": tmp_path, "durability": "always"} if on_disk else {}
    tracer, processor = attach(**options, **({"before_send": lambda event: event} if hooked else {}))
    ask(tracer, LEFT_OUT)
    assert processor.force_flush()
    assert rates(inbox) == {}
    assert processor.stats()["events"]["dropped"] == {"sample_rate": 3}
    ask(tracer, KEPT)
    assert processor.force_flush()
    assert rates(inbox) == KEPT_WHOLE
    assert processor.stats()["events"]["dropped"] == {"sample_rate": 3}


def test_nothing_is_logged_about_spans_left_out(attach: Make, caplog: pytest.LogCaptureFixture) -> None:
    tracer, processor = attach()
    ask(tracer, LEFT_OUT)
    assert processor.force_flush()
    assert caplog.records == []


@pytest.mark.parametrize("trace", [KEPT, LEFT_OUT])
def test_the_start_of_a_call_under_way_is_sent_if_its_trace_is_kept(
    inbox: Inbox, attach: Make, trace: str
) -> None:
    tracer, processor = attach()
    with ai_context(trace_id=trace):
        span = tracer.start_span("chat", attributes=CHAT)
    assert processor.force_flush()
    assert rates(inbox) == ({"llm_completion_requested": 0.1} if trace == KEPT else {})
    span.end()


def test_a_failed_call_of_a_trace_that_is_not_kept_comes_whole(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach()
    with ai_context(trace_id=LEFT_OUT):
        span = tracer.start_span("chat", attributes=CHAT)
    assert processor.force_flush()
    assert rates(inbox) == {}
    span.set_attribute("error.type", "timeout")
    span.set_status(StatusCode.ERROR)
    span.end()
    assert processor.force_flush()
    names = ("$ai_generation", "llm_completion_requested", "llm_completion_failed")
    assert rates(inbox) == dict.fromkeys(names, 1.0)
    assert processor.stats()["events"]["dropped"] == {}


def test_a_feature_has_a_rate_of_its_own(inbox: Inbox, attach: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_POSTHOG_SAMPLE_RATE", "0, meme = 0.9")
    tracer, processor = attach(sample_rate=None)
    ask(tracer, LEFT_OUT, feature="meme")
    ask(tracer, KEPT, feature="smart_reply")
    assert processor.force_flush()
    assert rates(inbox) == dict.fromkeys(KEPT_WHOLE, 0.9)


def test_an_exporter_alone_keeps_the_same(inbox: Inbox) -> None:
    exporter = PostHogSpanExporter(api_key="phc_test", endpoint=inbox.url, sample_rate=0.1)
    exporter.export([sdk_span({**CHAT, "posthog.trace_id": name}) for name in (LEFT_OUT, KEPT)])
    exporter.shutdown()
    assert rates(inbox) == KEPT_WHOLE


def test_so_does_the_replay_of_a_file(inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "spans.binpb"
    spans = [
        sdk_span({**CHAT, "posthog.trace_id": name}, span_id=at + 1)
        for at, name in enumerate((LEFT_OUT, KEPT))
    ]
    file.write_bytes(otlp_request(*spans).SerializeToString())
    for name, value in {"API_KEY": "phc_test", "ENDPOINT": inbox.url, "SAMPLE_RATE": "0.1"}.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_POSTHOG_{name}", value)
    assert replay([str(file)], None, lambda _: None)
    assert rates(inbox) == KEPT_WHOLE


def test_what_waits_on_disk_is_sampled_as_the_process_that_wrote_it_would(
    inbox: Inbox, tmp_path: Path
) -> None:
    """One process keeps a tenth, or all; the next one, which sends it, has it otherwise."""
    tenth: dict[str, Any] = {"sample_rate": 0.1}
    writers: dict[str, dict[str, Any]] = {"sampled": tenth, "whole": {}}
    cases: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, int]]] = [
        ("sampled", {}, {}, {"sample_rate": 3}),
        ("whole", tenth, dict.fromkeys(KEPT_WHOLE), {}),
    ]
    for written, reader, expected, dropped in cases:
        nowhere = {"api_key": "phc_test", "endpoint": "http://127.0.0.1:9", "spool_dir": tmp_path / written}
        first = forwarder({**nowhere, "durability": "always", **writers[written]})
        first.end(sdk_span({**CHAT, "posthog.trace_id": LEFT_OUT}, parent=False))
        first.close(0.0)
        second = forwarder({**nowhere, "endpoint": inbox.url, **reader})
        assert second.flush(20.0)
        second.close(1.0)
        assert rates(inbox) == expected
        assert second.stats()["events"]["dropped"] == dropped


def test_scores_follow_their_trace_and_feedback_of_a_person_is_kept(inbox: Inbox, attach: Make) -> None:
    _, processor = attach()
    assert capture_metric("tone", "kind", trace_id=KEPT)
    assert capture_metric("relevance", 0.5, trace_id=LEFT_OUT)
    assert capture_feedback("Spot on", trace_id=LEFT_OUT)
    assert processor.force_flush()
    [metric] = inbox.events("$ai_metric")
    assert metric["properties"]["$ai_metric_name"] == "tone"
    assert rates(inbox) == {"$ai_metric": 0.1, "$ai_feedback": 1.0}
    assert processor.stats()["events"]["dropped"] == {"sample_rate": 1}


def test_off_nothing_is_decided_and_no_rate_is_sent(inbox: Inbox, attach: Make) -> None:
    tracer, processor = attach(sample_rate={"*": 1, "meme": 1.0})
    assert processor.forwarder._pipeline.sampling is None
    ask(tracer, LEFT_OUT)
    assert processor.force_flush()
    assert rates(inbox) == dict.fromkeys(KEPT_WHOLE)
