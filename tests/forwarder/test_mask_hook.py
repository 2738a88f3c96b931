"""The application's mask sees each field on its way out, and what it does not answer for stays inside."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind
from otel_posthog.conversion.spans.otlp_protobuf import views_of_request
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.forwarder.mask_hook import MOST_STUCK, MaskHook
from tests.conversion.privacy.test_privacy import Wire, on_disk, running
from tests.delivery.support import Clock
from tests.support.spans import CHAT, START, make_view, otlp_request, sdk_span

Event = dict[str, Any]

SAID = "Planted words nobody may read"
TOLD = {
    **CHAT,
    "gen_ai.input.messages": json.dumps([{"role": "user", "content": SAID}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": SAID}]),
    "posthog.property.plan": SAID,
    "langfuse.trace.name": SAID,
    "posthog.feature": "smart_reply",
}


def event(**properties: Any) -> Event:
    return {"event": "$ai_generation", "uuid": "u", "properties": {"$ai_model": "m", **properties}}


def masked(mask: Callable[..., Any], given: Event, **options: Any) -> tuple[Event, dict[str, int]]:
    masking = MaskHook(mask, **options)
    return masking(given), masking.stats()


def test_the_answer_stands_in_place_of_the_value() -> None:
    given = event(**{"$ai_input": [{"role": "user", "content": "hello"}], "plan": "free"})
    made, dropped = masked(lambda value, path, _: f"{path}: {len(value)}", given)
    assert made["properties"] == {"$ai_model": "m", "$ai_input": "$ai_input: 1", "plan": "plan: 4"}
    assert given["properties"]["plan"] == "free"
    assert dropped == {}


def test_none_leaves_the_field_out_and_is_no_failure() -> None:
    made, dropped = masked(lambda *_: None, event(plan="free"))
    assert made["properties"] == {"$ai_model": "m"}
    assert dropped == {}


def test_fields_within_metadata_are_masked_one_by_one() -> None:
    given: Event = {
        "event": "llm_completion_success",
        "properties": {"model": "m", "metadata": {"operation": "chat", "plan": "free", "team": "red"}},
    }

    def without_plan(value: Any, path: str, _: Event) -> Any:
        return None if path == "metadata.plan" else value.upper()

    made, _ = masked(without_plan, given)
    assert made["properties"] == {"model": "m", "metadata": {"operation": "chat", "team": "RED"}}
    assert given["properties"]["metadata"]["plan"] == "free"


def test_the_mask_gets_the_event_and_changing_it_changes_nothing() -> None:
    def mask(_value: Any, path: str, given: Event) -> Any:
        told = given["properties"]["$ai_model"]
        given["properties"].clear()
        given["properties"]["$ai_model"] = told
        return f"{given['event']} {told}"

    made, _ = masked(mask, event(plan="free", team="red"))
    assert made["properties"]["plan"] == made["properties"]["team"] == "$ai_generation m"


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, KeyboardInterrupt])
def test_a_field_on_which_the_mask_raises_is_left_out_and_its_neighbours_are_not(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def mask(value: Any, path: str, _: Event) -> Any:
        if path == "plan":
            raise error(SAID)
        return value

    masking = MaskHook(mask)
    for _ in range(2):
        made = masking(event(plan=SAID, team="red"))
        assert made["properties"] == {"$ai_model": "m", "team": "red"}
    assert masking.stats() == {"failed": 2}
    [record] = caplog.records
    assert error.__name__ in record.getMessage()
    assert SAID not in caplog.text


def test_a_field_for_which_the_mask_takes_too_long_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def mask(value: Any, path: str, _: Event) -> Any:
        clock.seconds += 1.5 if path == "plan" else 0.9
        return value

    made, dropped = masked(mask, event(plan=SAID, team="red", town="Rome"), clock=clock)
    assert made["properties"] == {"$ai_model": "m", "team": "red", "town": "Rome"}
    assert dropped == {"too_slow": 1}
    assert "more than 1.0 s" in caplog.text
    assert SAID not in caplog.text


class Stuck:
    """A mask that does not return for `SAID` until the test is over, and the patience of who waits."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.asked = 0
        self.given_up_on = 0

    def __call__(self, value: Any, _path: str, _event: Event) -> Any:
        if value == SAID:
            self.asked += 1
            self.over.wait()
        return value

    def wait(self, done: Any, _seconds: float) -> bool:
        """Whether the lock was let go; time is up when the mask is stuck once more."""
        while not done.acquire(timeout=0.001):
            if self.asked > self.given_up_on:
                return False
        return True


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    found = Stuck()
    yield found
    found.over.set()


def test_a_mask_that_never_returns_costs_its_field_and_nothing_else(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(done: Any, seconds: float) -> bool:
        in_time = stuck.wait(done, seconds)
        waited.append(in_time)
        if waited == [False, False]:  # the field before it was answered between the two
            stuck.given_up_on = 1
        return in_time

    waited: list[bool] = []
    masking = MaskHook(stuck, wait=wait)
    made = masking(event(team="red", plan=SAID, town="Rome"))
    assert made["properties"] == {"$ai_model": "m", "team": "red", "town": "Rome"}
    assert masking.stats() == {"too_slow": 1}
    assert len(caplog.records) == 1


def test_a_mask_that_never_returns_again_and_again_is_not_asked_any_more_until_it_does(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    masking = MaskHook(stuck, wait=stuck.wait)
    for _ in range(MOST_STUCK + 3):
        assert masking(event(plan=SAID))["properties"] == {"$ai_model": "m"}
        stuck.given_up_on = stuck.asked
    assert stuck.asked == MOST_STUCK
    assert masking.stats() == {"too_slow": MOST_STUCK, "not_asked": 3}
    stuck.over.set()
    while masking(event(plan="free"))["properties"].get("plan") != "free":
        pass  # they are on their way back
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_where_no_thread_can_be_started_fields_are_left_out() -> None:
    def start(_run: Callable[[], None]) -> None:
        raise RuntimeError

    made, dropped = masked(lambda value, *_: value, event(plan=SAID), start=start)
    assert made["properties"] == {"$ai_model": "m"}
    assert dropped == {"not_asked": 1}


def test_one_thread_asks_for_all_events_and_ends_with_the_masking() -> None:
    threads: list[threading.Thread] = []
    ended = threading.Event()

    def start(run: Callable[[], None]) -> None:
        def until_the_end() -> None:
            run()
            ended.set()

        threads.append(threading.Thread(target=until_the_end, daemon=True))
        threads[-1].start()

    masking = MaskHook(lambda value, *_: value, start=start)
    for _ in range(20):
        masking(event(plan="free"))
    assert len(threads) == 1
    del masking
    assert ended.wait(10)


def test_threads_mask_at_the_same_time_and_each_gets_its_own() -> None:
    both = threading.Barrier(4)

    def mask(value: Any, _path: str, _: Event) -> Any:
        both.wait(10)
        return value

    masking = MaskHook(mask, seconds=20.0)
    found: dict[int, Any] = {}

    def run(number: int) -> None:
        found[number] = masking(event(plan=number))["properties"]["plan"]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == {number: number for number in range(4)}


def test_after_a_fork_the_child_asks_on_threads_of_its_own() -> None:
    masking = MaskHook(lambda value, *_: value)
    masking(event(plan="free"))
    masking.reset_after_fork()
    assert masking(event(plan="free"))["properties"]["plan"] == "free"
    assert masking.stats() == {}


# --- every way out -----------------------------------------------------------------------------------


def hide(value: Any, path: str, _: Event) -> Any:
    return f"hidden {path}" if SAID in str(value) else value


@pytest.mark.parametrize("way", ["processor", "exporter", "otlp", "spool of another process"])
def test_a_mask_sees_what_leaves_on_every_way(way: str, tmp_path: Path) -> None:
    span = sdk_span(
        TOLD,
        message=SAID,
        status=StatusCode.ERROR,
        events=(("exception", START, {"exception.message": SAID}),),
    )
    if way == "spool of another process":
        with running(Wire(up=False), spool_dir=tmp_path, durability="always") as other:
            other.end(span)
        assert SAID.encode() in on_disk(tmp_path)
    wire = Wire()
    with running(wire, mask=hide, spool_dir=tmp_path) as made:
        if way == "exporter":
            assert made.export_spans([_view(span)], [], 60)
        elif way == "otlp":
            read = [view for view in views_of_request(otlp_request(span)) if isinstance(view, SpanView)]
            assert made.export_spans(read, [], 60)
        else:
            if way == "processor":
                made.end(span)
            assert made.flush(60)
    sent = b"".join(wire.bytes)
    for path in (
        "$ai_input",
        "$ai_output_choices",
        "$ai_error",
        "error_message",
        "plan",
        "metadata.trace_name",
    ):
        assert f'"hidden {path}"'.encode() in sent
    assert SAID.encode() not in sent


def _view(span: Any) -> SpanView:
    view = view_of_sdk_span(span)
    assert view is not None
    return view


@pytest.mark.parametrize("durability", ["always", "overflow"])
def test_nothing_unmasked_is_on_disk(durability: str, tmp_path: Path) -> None:
    with running(Wire(up=False), mask=hide, spool_dir=tmp_path, durability=durability) as made:
        made.end(sdk_span(TOLD))
        while_running = on_disk(tmp_path)
    after = on_disk(tmp_path)
    assert b"hidden $ai_input" in after
    assert SAID.encode() not in while_running + after


def test_scores_and_feedback_are_masked() -> None:
    wire = Wire()
    with running(wire, mask=hide) as made:
        call = made._pipeline.read(make_view())
        made.score(
            call._replace(
                kind=Kind.EVALUATION, evaluations=[Feedback(SAID), Evaluation("n", label=SAID, own=True)]
            )
        )
        assert made.flush(60)
    assert b"hidden $ai_feedback_text" in b"".join(wire.bytes)
    assert SAID.encode() not in b"".join(wire.bytes)


def test_a_mask_sees_what_before_send_and_the_client_put_there() -> None:
    def add(found: Event) -> Event:
        return {**found, "properties": {**found["properties"], "added": SAID}}

    wire = Wire()
    with running(wire, mask=hide, before_send=add) as made:
        made.end(sdk_span())
        assert made.flush(60)
    assert b"hidden added" in b"".join(wire.bytes)
    assert SAID.encode() not in b"".join(wire.bytes)


def test_a_mask_that_always_fails_costs_content_and_no_event() -> None:
    def mask(*_: Any) -> Any:
        raise ValueError(SAID)

    wire = Wire()
    with running(wire, mask=mask) as made:
        made.end(sdk_span(TOLD))
        assert made.flush(60)
        assert made.stats()["fields"]["dropped"] == {"failed": 12}
        assert sum(made.stats()["events"]["delivered"].values()) == 4
    assert SAID.encode() not in b"".join(wire.bytes)


def test_a_mask_may_be_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "of_the_application", hide, raising=False)
    wire = Wire()
    with running(wire, mask=f"{__name__}:of_the_application") as made:
        made.end(sdk_span(TOLD))
        assert made.flush(60)
    assert b"hidden $ai_input" in b"".join(wire.bytes)


def test_a_mask_sees_what_before_send_put_beside_the_properties() -> None:
    def add(found: Event) -> Event:
        return {**found, "$set": {"name": SAID}, "note": SAID}

    wire = Wire()
    with running(wire, mask=hide, before_send=add) as made:
        made.end(sdk_span())
        assert made.flush(60)
    assert b'"$set":"hidden $set"' in b"".join(wire.bytes)
    assert SAID.encode() not in b"".join(wire.bytes)
