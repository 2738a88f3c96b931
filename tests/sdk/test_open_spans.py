"""Spans of one call, through the real SDK: the inner ones wait for the outer one, and one event comes out."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Span, StatusCode, Tracer, set_span_in_context

from otel_posthog import PostHogSpanProcessor
from otel_posthog.local import Inbox
from otel_posthog.sdk import open_spans
from otel_posthog.sdk.open_spans import FLUSH_WAIT_SECONDS, MAX_WAIT_SECONDS
from tests.support.spans import CHAT, START

MS = 1_000_000
AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "bob"}
HTTP = {"http.route": "/"}
ASKED = {**CHAT, "gen_ai.input.messages": "Hello?"}
ANSWERED = {**CHAT, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}
ONE_CALL = {"$ai_generation": 1, "llm_completion_requested": 1, "llm_completion_success": 1}


class Attached:
    """A provider with our processor, and a clock of its own for waiting spans."""

    def __init__(self, inbox: Inbox, **options: Any) -> None:
        sampler = options.pop("sampler", None)
        options = {"api_key": "phc_test", "endpoint": inbox.url, "flush_interval": 60.0, **options}
        self.processor = PostHogSpanProcessor(**options)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.now = 1000.0
        self.open = self.processor._open  # nothing else shows the waiting spans
        self.open._clock = lambda: self.now

    def begin(
        self,
        scope: str,
        attributes: dict[str, Any] | None = None,
        *,
        within: Span | None = None,
        at: int | None = None,
    ) -> Span:
        """Start a span of this scope, `at` milliseconds if that matters."""
        tracer: Tracer = self.provider.get_tracer(scope)
        context = set_span_in_context(within) if within is not None else None
        started = START + at * MS if at is not None else None
        return tracer.start_span(
            scope, context, attributes=CHAT if attributes is None else attributes, start_time=started
        )

    def flush(self) -> None:
        assert self.processor.force_flush(10_000)

    @property
    def waiting(self) -> int:
        """How many finished spans wait for another."""
        return sum(len(waiting.spans) for waiting in self.open._held.values())


Attach = Callable[..., Attached]


@pytest.fixture
def attach(inbox: Inbox) -> Iterator[Attach]:
    all_attached: list[Attached] = []

    def make(**options: Any) -> Attached:
        all_attached.append(Attached(inbox, **options))
        return all_attached[-1]

    yield make
    for attached in all_attached:
        attached.provider.shutdown()


def names(inbox: Inbox) -> dict[str, int]:
    """The events of calls: how many of each."""
    return dict(Counter(event["event"] for event in inbox.events() if event["event"] in ONE_CALL))


def all_names(inbox: Inbox) -> Counter[str]:
    return Counter(event["event"] for event in inbox.events())


def generation(inbox: Inbox) -> dict[str, Any]:
    [event] = inbox.events("$ai_generation")
    properties: dict[str, Any] = event["properties"]
    return properties


def id_of(span: Span) -> str:
    return format(span.get_span_context().span_id, "016x")


def until(at: int) -> int:
    return START + at * MS


# --- two spans, one call ---


@pytest.mark.parametrize("flush", [False, True])
def test_an_inner_span_waits_for_the_outer_one_and_one_event_is_made_of_both(
    inbox: Inbox, attach: Attach, *, flush: bool
) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    inner = at.begin("httpx", ANSWERED, within=outer)
    inner.end()
    if flush:
        at.flush()
        assert inbox.events("$ai_generation") == []
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL
    properties = generation(inbox)
    assert properties["$ai_span_id"] == id_of(outer)
    assert "Hello?" in str(properties["$ai_input"])
    assert (properties["$ai_input_tokens"], properties["$ai_output_tokens"]) == (10, 5)


@pytest.mark.parametrize("flush_at", [(), (0,), (1,), (0, 1)])
def test_three_spans_of_one_call_are_one_event(
    inbox: Inbox, attach: Attach, flush_at: tuple[int, ...]
) -> None:
    at = attach()
    spans = [at.begin("openai", ASKED)]
    spans.append(at.begin("gateway", within=spans[-1]))
    spans.append(at.begin("httpx", ANSWERED, within=spans[-1]))
    for number, span in enumerate(reversed(spans)):
        span.end()
        if number in flush_at:
            at.flush()
    at.flush()
    assert names(inbox) == ONE_CALL
    assert generation(inbox)["$ai_input_tokens"] == 10


def test_spans_of_others_between_two_of_one_call_change_nothing(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    post = at.begin("requests", HTTP, within=outer)
    inner = at.begin("httpx", ANSWERED, within=post)
    for span in (inner, post, outer):
        span.end()
        at.flush()
    assert names(inbox) == ONE_CALL


@pytest.mark.parametrize("above", [HTTP, AGENT], ids=["HTTP", "agent"])
@pytest.mark.parametrize("flush", [False, True])
def test_side_by_side_the_first_begun_ends_last(
    inbox: Inbox, attach: Attach, above: dict[str, Any], *, flush: bool
) -> None:
    at = attach()
    around = at.begin("app", above)
    first = at.begin("openai", ASKED, within=around, at=0)
    second = at.begin("httpx", ANSWERED, within=around, at=1)
    second.end(until(999))
    if flush:
        at.flush()
    first.end(until(1000))
    around.end()
    at.flush()
    assert names(inbox) == ONE_CALL
    assert generation(inbox)["$ai_span_id"] == id_of(first)
    assert generation(inbox)["$ai_input_tokens"] == 10


@pytest.mark.parametrize(
    ("above", "flush"),
    [
        pytest.param(HTTP, False, id="HTTP"),
        pytest.param(AGENT, False, id="agent"),
        pytest.param(AGENT, True, id="agent, flush"),
        pytest.param(HTTP, True, id="HTTP, flush"),
    ],
)
def test_side_by_side_the_first_begun_ends_a_little_before(
    inbox: Inbox, attach: Attach, above: dict[str, Any], *, flush: bool
) -> None:
    at = attach()
    around = at.begin("app", above)
    first = at.begin("openai", ASKED, within=around, at=0)
    second = at.begin("httpx", ANSWERED, within=around, at=1)
    first.end(until(1000))
    if flush:
        at.flush()
    second.end(until(1002))
    around.end()
    at.flush()
    assert all_names(inbox)["$ai_generation"] == 1


@pytest.mark.parametrize("flush", [False, True])
def test_an_inner_span_that_ends_after_the_outer_one_is_not_counted_again(
    inbox: Inbox, attach: Attach, *, flush: bool
) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    inner = at.begin("httpx", ANSWERED, within=outer)
    outer.end()
    if flush:
        at.flush()
    inner.end()
    at.flush()
    assert names(inbox) == ONE_CALL


def test_the_outer_span_is_announced_and_the_inner_one_is_not(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    inner = at.begin("httpx", within=outer)
    at.flush()
    [requested] = inbox.events("llm_completion_requested")
    assert requested["properties"]["$ai_span_id"] == id_of(outer)
    inner.end()
    outer.end()


def test_a_call_whose_outer_span_names_its_model_at_the_end_is_announced_once(
    inbox: Inbox, attach: Attach
) -> None:
    at = attach()
    outer = at.begin("openai", {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"})
    inner = at.begin("httpx", within=outer)
    at.flush()
    inner.end()
    outer.set_attribute("gen_ai.request.model", "gpt-5.1")
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL


def test_many_threads_have_each_call_counted_once(inbox: Inbox, attach: Attach) -> None:
    at = attach()

    def work() -> None:
        for _ in range(50):
            outer = at.begin("openai", ASKED)
            inner = at.begin("httpx", ANSWERED, within=outer)
            inner.end()
            outer.end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at.flush()
    assert names(inbox) == dict.fromkeys(ONE_CALL, 400)
    assert {event["properties"]["$ai_input_tokens"] for event in inbox.events("$ai_generation")} == {10}
    assert at.waiting == 0


def test_very_many_calls_that_end_together_are_each_counted_once(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    calls = []
    for _ in range(350):
        outer = at.begin("openai", ASKED)
        middle = at.begin("gateway", within=outer)
        calls.append((at.begin("httpx", ANSWERED, within=middle), middle, outer))
    at.flush()  # their beginnings
    for spans in calls:
        for span in spans:
            span.end()
    at.flush()
    assert names(inbox) == dict.fromkeys(ONE_CALL, 350)


# --- what does not wait ---


@pytest.mark.parametrize(
    ("scope", "outer", "inner"),
    [
        pytest.param("agents", AGENT, CHAT, id="in an agent"),
        pytest.param("openai", CHAT, CHAT, id="in a span of its own scope"),
        pytest.param("app", HTTP, CHAT, id="in a span of others"),
        pytest.param("agents", CHAT, AGENT, id="an agent"),
    ],
)
def test_a_span_that_can_have_no_twin_above_does_not_wait(
    attach: Attach, scope: str, outer: dict[str, Any], inner: dict[str, Any]
) -> None:
    at = attach()
    around = at.begin(scope, outer)
    at.begin("openai", inner, within=around).end()
    assert at.waiting == 0
    around.end()


def test_below_an_agent_a_chat_is_sent_before_the_agent_ends(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    bob = at.begin("agents", AGENT)
    at.begin("openai", within=bob).end()
    at.flush()
    assert names(inbox) == ONE_CALL
    bob.end()


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        pytest.param(
            {**CHAT, "gen_ai.request.model": "gpt-4o"},
            {**CHAT, "gen_ai.request.model": "gpt-4o-mini"},
            {"$ai_generation": 2},
            id="two models",
        ),
        pytest.param(
            CHAT,
            {**CHAT, "gen_ai.operation.name": "embeddings"},
            {"$ai_generation": 1, "$ai_embedding": 1},
            id="an embedding in a chat",
        ),
    ],
)
def test_another_call_within_is_counted_for_itself(
    inbox: Inbox, attach: Attach, outer: dict[str, Any], inner: dict[str, Any], wanted: dict[str, int]
) -> None:
    at = attach()
    around = at.begin("openai", outer)
    at.begin("httpx", inner, within=around).end()
    around.end()
    at.flush()
    assert all_names(inbox) == {
        **wanted,
        "llm_completion_requested": 2,
        "llm_completion_success": 2,
    }


@pytest.mark.parametrize(
    "flush",
    [
        False,
        True,
    ],
)
def test_each_of_several_tries_within_a_span_is_counted(inbox: Inbox, attach: Attach, *, flush: bool) -> None:
    at = attach()
    around = at.begin("litellm")
    at.begin("openai", within=around).end()
    if flush:
        at.now += FLUSH_WAIT_SECONDS
        at.flush()
    at.begin("openai", within=around).end()
    around.end()
    at.flush()
    assert all_names(inbox)["$ai_generation"] == 2


@pytest.mark.parametrize(
    "flush",
    [
        False,
        True,
    ],
)
def test_a_try_that_failed_within_a_span_of_its_own_scope_does_not_hide_the_success(
    inbox: Inbox, attach: Attach, *, flush: bool
) -> None:
    at = attach()
    outer = at.begin("openai")
    attempt = at.begin("openai", within=outer)
    attempt.set_status(StatusCode.ERROR, "slow down")
    attempt.end()
    if flush:
        at.flush()
    outer.end()
    at.flush()
    counts = all_names(inbox)
    assert (counts["llm_completion_failed"], counts["llm_completion_success"]) == (1, 1)


# --- an outer span that does not end ---


def _wait_and_end_another(at: Attached) -> None:
    at.now += MAX_WAIT_SECONDS
    at.begin("app", HTTP).end()
    at.flush()


def _flush_later(at: Attached) -> None:
    at.now += FLUSH_WAIT_SECONDS
    at.flush()


def _shut_down(at: Attached) -> None:
    at.processor.shutdown()


@pytest.mark.parametrize("go_on", [_wait_and_end_another, _flush_later, _shut_down])
def test_an_inner_span_whose_outer_one_does_not_end_is_sent_by_itself(
    inbox: Inbox, attach: Attach, go_on: Callable[[Attached], None]
) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    inner = at.begin("httpx", ANSWERED, within=outer)
    inner.end()
    go_on(at)
    assert generation(inbox)["$ai_span_id"] == id_of(inner)
    assert all_names(inbox)["llm_completion_success"] == 1
    assert at.waiting == 0


@pytest.mark.parametrize("go_on", [_wait_and_end_another, _flush_later, _shut_down])
def test_a_call_whose_outer_span_does_not_end_is_announced_once(
    inbox: Inbox, attach: Attach, go_on: Callable[[Attached], None]
) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    go_on(at)
    assert names(inbox) == ONE_CALL


@pytest.mark.parametrize("seconds", [0.0, FLUSH_WAIT_SECONDS - 0.1])
def test_a_flush_in_the_moment_of_a_call_leaves_the_inner_span_waiting(
    attach: Attach, seconds: float
) -> None:
    at = attach()
    outer = at.begin("openai")
    at.begin("httpx", within=outer).end()
    at.now += seconds
    at.flush()
    assert at.waiting == 1
    outer.end()
    assert at.waiting == 0


def test_it_does_not_wait_longer_because_others_come(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    for _ in range(4):
        at.begin("httpx", ANSWERED, within=outer).end()
        at.now += MAX_WAIT_SECONDS / 3
    assert at.waiting == 0
    at.flush()
    assert all_names(inbox)["$ai_generation"] == 4
    outer.end()


def test_an_outer_span_that_ends_after_all_is_not_counted_again(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    _flush_later(at)
    outer.end()
    at.flush()
    counts = all_names(inbox)
    assert (counts["$ai_generation"], counts["llm_completion_success"]) == (1, 1)


def test_an_outer_span_that_is_gone_is_not_waited_for(attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai")
    inner = at.begin("httpx", within=outer)
    del outer
    gc.collect()
    inner.end()
    assert at.waiting == 0


def test_what_waits_when_the_process_ends_is_sent(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai")
    inner = at.begin("httpx", within=outer)
    inner.end()
    at.processor.finish(last=True)
    assert generation(inbox)["$ai_span_id"] == id_of(inner)


def test_an_inner_span_that_ends_after_shutdown_is_counted_as_lost(attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai")
    inner = at.begin("httpx", within=outer)
    at.processor.shutdown()
    inner.end()
    assert at.processor.stats()["spans"]["dropped"] == {"after_shutdown": 1}
    outer.end()


# --- forks ---


def test_a_child_process_does_not_send_what_waits_in_its_parent(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    child = os.fork()
    if child == 0:
        at.begin("child").end()
        at.now += MAX_WAIT_SECONDS
        done = at.processor.force_flush(10_000)
        at.processor.shutdown()
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    outer.end()
    at.flush()
    arrived = {e["properties"]["$ai_span_name"]: e["properties"] for e in inbox.events("$ai_generation")}
    assert set(arrived) == {"child", "openai"}
    assert arrived["openai"]["$ai_input_tokens"] == 10


def test_a_call_of_a_child_process_within_a_span_of_its_parent_is_not_lost(
    inbox: Inbox, attach: Attach
) -> None:
    at = attach()
    outer = at.begin("openai")
    child = os.fork()
    if child == 0:
        at.begin("httpx", ANSWERED, within=outer).end()
        at.processor.shutdown()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert generation(inbox)["$ai_input_tokens"] == 10
    outer.end()


# --- durability ---


@pytest.mark.parametrize("flush", [False, True])
def test_if_every_span_is_on_disk_at_once_none_waits_and_one_call_is_counted(
    inbox: Inbox, attach: Attach, tmp_path: Path, *, flush: bool
) -> None:
    at = attach(durability="always", spool_dir=str(tmp_path))
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    assert at.waiting == 0
    assert at.processor.stats()["spool"]["entries"] >= 1
    if flush:
        at.flush()
    outer.end()
    at.flush()
    counts = all_names(inbox)
    assert (counts["$ai_generation"], counts["llm_completion_success"]) == (1, 1)


@pytest.mark.parametrize("hidden", [False, True])
def test_if_every_span_is_on_disk_at_once_a_call_is_announced_once(
    inbox: Inbox, attach: Attach, tmp_path: Path, *, hidden: bool
) -> None:
    at = attach(durability="always", spool_dir=str(tmp_path), capture_content=not hidden)
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL


# --- sampling ---


class OnlyRecords(Sampler):
    """Samples all spans but those of these names, which are only recorded."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *rest: Any,
        **options: Any,
    ) -> SamplingResult:
        decision = Decision.RECORD_ONLY if name in self.names else Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, attributes)

    def get_description(self) -> str:
        return "for tests"


def test_an_inner_span_that_is_not_sampled_takes_no_part(inbox: Inbox, attach: Attach) -> None:
    at = attach(sampler=OnlyRecords("httpx"))
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    assert at.waiting == 0
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL
    assert "$ai_input_tokens" not in generation(inbox)


def test_an_inner_span_does_not_go_with_an_outer_one_that_is_not_sampled(
    inbox: Inbox, attach: Attach
) -> None:
    at = attach(sampler=OnlyRecords("openai"))
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL
    assert generation(inbox)["$ai_input_tokens"] == 10


def test_a_call_does_not_hang_from_a_span_that_is_not_sampled(inbox: Inbox, attach: Attach) -> None:
    at = attach(sampler=OnlyRecords("agents"))
    bob = at.begin("agents", AGENT)
    at.begin("openai", within=bob).end()
    bob.end()
    at.flush()
    assert generation(inbox)["$ai_parent_id"] == generation(inbox)["$ai_trace_id"]


def test_if_nothing_is_sampled_nothing_waits(inbox: Inbox, attach: Attach) -> None:
    at = attach(sampler=OnlyRecords("openai", "httpx"))
    outer = at.begin("openai", ASKED)
    at.begin("httpx", ANSWERED, within=outer).end()
    assert at.waiting == 0
    outer.end()
    at.flush()
    assert inbox.events() == []


# --- bounds ---


def _remembered(at: Attached) -> int:
    return len(at.open._ai) + len(at.open._above) + sum(map(len, at.open._beside.values()))


def test_spans_that_ended_are_forgotten(attach: Attach) -> None:
    at = attach()
    around = at.begin("agents", AGENT)
    for _ in range(100):
        outer = at.begin("openai", within=around)
        at.begin("httpx", within=outer).end()
        outer.end()
    around.end()
    assert _remembered(at) == 0
    assert at.open._beside == {}


@pytest.mark.parametrize(
    "together",
    [
        False,
        True,
    ],
)
def test_spans_that_never_end_do_not_fill_the_memory(
    attach: Attach, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    monkeypatch.setattr(open_spans, "MAX_OPEN_SPANS", 10)
    at = attach()
    around = at.begin("agents", AGENT)
    for _ in range(100):
        if not together:
            around = at.begin("agents", AGENT)
        at.begin("openai", within=around)
    assert _remembered(at) <= 30


def test_a_span_that_never_ends_is_not_kept_alive(attach: Attach) -> None:
    at = attach(events="ai")
    span: Any = at.begin("openai")
    kept = weakref.ref(span)
    del span
    at.flush()
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(
    "outer_spans",
    [
        1,
        100,
    ],
)
def test_a_bounded_number_of_finished_spans_waits(
    inbox: Inbox, attach: Attach, monkeypatch: pytest.MonkeyPatch, outer_spans: int
) -> None:
    monkeypatch.setattr(open_spans, "MAX_WAITING_BYTES", 10_000)
    at = attach()
    around = [at.begin("openai") for _ in range(outer_spans)]
    for number in range(100):
        at.begin("httpx", ANSWERED, within=around[number % outer_spans]).end()
    assert at.waiting <= 20
    at.processor.shutdown()
    assert all_names(inbox)["$ai_generation"] == 100


def test_a_call_whose_outer_span_names_its_model_after_the_start_is_announced_when_it_begins(
    inbox: Inbox, attach: Attach
) -> None:
    at = attach()
    outer = at.begin("adk", {"gen_ai.operation.name": "chat"})
    inner = at.begin("otel_posthog.openai", within=outer)
    outer.set_attribute("gen_ai.request.model", "gpt-5.1")
    at.flush()
    assert len(inbox.events("llm_completion_requested")) == 1
    inner.end()
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL


def test_a_call_whose_outer_span_begins_under_another_model_is_announced_once(
    inbox: Inbox, attach: Attach
) -> None:
    at = attach()
    outer = at.begin("pydantic-ai", {**CHAT, "gen_ai.request.model": "fallback:a,b"})
    inner = at.begin("otel_posthog.openai", ANSWERED, within=outer)
    at.flush()
    assert len(inbox.events("llm_completion_requested")) == 1
    outer.set_attribute("gen_ai.request.model", CHAT["gen_ai.request.model"])
    inner.end()
    outer.end()
    at.flush()
    assert names(inbox) == ONE_CALL


def test_a_call_within_a_span_of_another_call_is_announced_at_its_end(inbox: Inbox, attach: Attach) -> None:
    at = attach()
    outer = at.begin("router", {**CHAT, "gen_ai.request.model": "router-1"})
    inner = at.begin("otel_posthog.openai", ANSWERED, within=outer)
    at.flush()
    inner.end()
    outer.end()
    at.flush()
    assert names(inbox)["llm_completion_requested"] == 2
    assert names(inbox)["$ai_generation"] == 2


@pytest.mark.parametrize(
    "scope", ["openinference.instrumentation.langchain", "@arizeai/openinference-instrumentation-x"]
)
def test_a_slow_trace_of_spans_that_show_their_kind_at_the_end_is_one_tree(
    inbox: Inbox, attach: Attach, scope: str
) -> None:
    at = attach()
    agent = at.begin(scope, {})
    node = at.begin(scope, {}, within=agent)
    call = at.begin("otel_posthog.openai", ANSWERED, within=node)
    call.end()
    at.flush()
    node.set_attributes({"openinference.span.kind": "CHAIN"})
    node.end()
    at.flush()
    agent.set_attributes({"openinference.span.kind": "AGENT"})
    agent.end()
    at.flush()
    parents = {
        event["properties"]["$ai_span_id"]: event["properties"].get("$ai_parent_id")
        for event in inbox.events()
        if event["event"].startswith("$ai_")
    }
    assert parents[id_of(call)] == id_of(node)
    assert parents[id_of(node)] == id_of(agent)
    assert [event["properties"]["$ai_span_id"] for event in inbox.events("$ai_trace")] == [id_of(agent)]
