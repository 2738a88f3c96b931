"""The application's mask sees each field before it leaves; a field without a result stays inside."""

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

SECRET = "Planted words nobody may read"
ATTRIBUTES = {
    **CHAT,
    "gen_ai.input.messages": json.dumps([{"role": "user", "content": SECRET}]),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": SECRET}]),
    "posthog.property.plan": SECRET,
    "langfuse.trace.name": SECRET,
    "posthog.feature": "smart_reply",
}


def event(**properties: Any) -> Event:
    return {"event": "$ai_generation", "uuid": "u", "properties": {"$ai_model": "m", **properties}}


def masked(mask: Callable[..., Any], original: Event, **options: Any) -> tuple[Event, dict[str, int]]:
    masking = MaskHook(mask, **options)
    return masking(original), masking.stats()


def test_the_result_replaces_the_value() -> None:
    original = event(**{"$ai_input": [{"role": "user", "content": "hello"}], "plan": "free"})
    left, dropped = masked(lambda value, path, _: f"{path}: {len(value)}", original)
    assert left["properties"] == {"$ai_model": "m", "$ai_input": "$ai_input: 1", "plan": "plan: 4"}
    assert original["properties"]["plan"] == "free"
    assert dropped == {}


def test_none_leaves_the_field_out_and_is_no_failure() -> None:
    left, dropped = masked(lambda *_: None, event(plan="free"))
    assert left["properties"] == {"$ai_model": "m"}
    assert dropped == {}


def test_fields_within_metadata_are_masked_one_by_one() -> None:
    original: Event = {
        "event": "llm_completion_success",
        "properties": {"model": "m", "metadata": {"operation": "chat", "plan": "free", "team": "red"}},
    }

    def without_plan(value: Any, path: str, _: Event) -> Any:
        return None if path == "metadata.plan" else value.upper()

    left, _ = masked(without_plan, original)
    assert left["properties"] == {"model": "m", "metadata": {"operation": "chat", "team": "RED"}}
    assert original["properties"]["metadata"]["plan"] == "free"


def test_the_mask_gets_the_event_and_changing_it_changes_nothing() -> None:
    def mask(_value: Any, path: str, original: Event) -> Any:
        model = original["properties"]["$ai_model"]
        original["properties"].clear()
        original["properties"]["$ai_model"] = model
        return f"{original['event']} {model}"

    left, _ = masked(mask, event(plan="free", team="red"))
    assert left["properties"]["plan"] == left["properties"]["team"] == "$ai_generation m"


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, KeyboardInterrupt])
def test_a_field_on_which_the_mask_raises_is_left_out_and_its_neighbours_are_not(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def mask(value: Any, path: str, _: Event) -> Any:
        if path == "plan":
            raise error(SECRET)
        return value

    masking = MaskHook(mask)
    for _ in range(2):
        left = masking(event(plan=SECRET, team="red"))
        assert left["properties"] == {"$ai_model": "m", "team": "red"}
    assert masking.stats() == {"failed": 2}
    [record] = caplog.records
    assert error.__name__ in record.getMessage()
    assert SECRET not in caplog.text


def test_a_field_for_which_the_mask_takes_too_long_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def mask(value: Any, path: str, _: Event) -> Any:
        clock.seconds += 1.5 if path == "plan" else 0.9
        return value

    left, dropped = masked(mask, event(plan=SECRET, team="red", town="Rome"), clock=clock)
    assert left["properties"] == {"$ai_model": "m", "team": "red", "town": "Rome"}
    assert dropped == {"too_slow": 1}
    assert "more than 1.0 s" in caplog.text
    assert SECRET not in caplog.text


class Stuck:
    """A mask that does not return for `SECRET` until the test is over, and the patience of its caller."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.stuck_calls = 0
        self.given_up_on = 0

    def __call__(self, value: Any, _path: str, _event: Event) -> Any:
        if value == SECRET:
            self.stuck_calls += 1
            self.over.wait()
        return value

    def wait(self, done: Any, _seconds: float) -> bool:
        """Whether the lock was released; time is up when the mask is stuck once more."""
        while not done.acquire(timeout=0.001):
            if self.stuck_calls > self.given_up_on:
                return False
        return True


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    mask = Stuck()
    yield mask
    mask.over.set()


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
    left = masking(event(team="red", plan=SECRET, town="Rome"))
    assert left["properties"] == {"$ai_model": "m", "team": "red", "town": "Rome"}
    assert masking.stats() == {"too_slow": 1}
    assert len(caplog.records) == 1


def test_a_mask_that_never_returns_again_and_again_is_not_called_again_until_it_does(
    stuck: Stuck, caplog: pytest.LogCaptureFixture
) -> None:
    masking = MaskHook(stuck, wait=stuck.wait)
    for _ in range(MOST_STUCK + 3):
        assert masking(event(plan=SECRET))["properties"] == {"$ai_model": "m"}
        stuck.given_up_on = stuck.stuck_calls
    assert stuck.stuck_calls == MOST_STUCK
    assert masking.stats() == {"too_slow": MOST_STUCK, "not_asked": 3}
    stuck.over.set()
    while masking(event(plan="free"))["properties"].get("plan") != "free":
        pass  # they are on their way back
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_fields_are_left_out_if_no_thread_can_be_started() -> None:
    def start(_run: Callable[[], None]) -> None:
        raise RuntimeError

    left, dropped = masked(lambda value, *_: value, event(plan=SECRET), start=start)
    assert left["properties"] == {"$ai_model": "m"}
    assert dropped == {"not_asked": 1}


def test_one_thread_masks_all_events_and_ends_with_the_hook() -> None:
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
    masked_by_number: dict[int, Any] = {}

    def run(number: int) -> None:
        masked_by_number[number] = masking(event(plan=number))["properties"]["plan"]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert masked_by_number == {number: number for number in range(4)}


def test_after_a_fork_the_child_masks_on_threads_of_its_own() -> None:
    masking = MaskHook(lambda value, *_: value)
    masking(event(plan="free"))
    masking.reset_after_fork()
    assert masking(event(plan="free"))["properties"]["plan"] == "free"
    assert masking.stats() == {}


# --- every way out -----------------------------------------------------------------------------------


def hide(value: Any, path: str, _: Event) -> Any:
    return f"hidden {path}" if SECRET in str(value) else value


@pytest.mark.parametrize("way", ["processor", "exporter", "otlp", "spool of another process"])
def test_a_mask_sees_every_field_on_every_route_out(way: str, tmp_path: Path) -> None:
    span = sdk_span(
        ATTRIBUTES,
        message=SECRET,
        status=StatusCode.ERROR,
        events=(("exception", START, {"exception.message": SECRET}),),
    )
    if way == "spool of another process":
        with running(Wire(up=False), spool_dir=tmp_path, durability="always") as other:
            other.end(span)
        assert SECRET.encode() in on_disk(tmp_path)
    wire = Wire()
    with running(wire, mask=hide, spool_dir=tmp_path) as forwarder:
        if way == "exporter":
            assert forwarder.export_spans([_view(span)], [], 60)
        elif way == "otlp":
            read = [view for view in views_of_request(otlp_request(span)) if isinstance(view, SpanView)]
            assert forwarder.export_spans(read, [], 60)
        else:
            if way == "processor":
                forwarder.end(span)
            assert forwarder.flush(60)
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
    assert SECRET.encode() not in sent


def _view(span: Any) -> SpanView:
    view = view_of_sdk_span(span)
    assert view is not None
    return view


@pytest.mark.parametrize("durability", ["always", "overflow"])
def test_nothing_unmasked_is_on_disk(durability: str, tmp_path: Path) -> None:
    with running(Wire(up=False), mask=hide, spool_dir=tmp_path, durability=durability) as forwarder:
        forwarder.end(sdk_span(ATTRIBUTES))
        while_running = on_disk(tmp_path)
    after = on_disk(tmp_path)
    assert b"hidden $ai_input" in after
    assert SECRET.encode() not in while_running + after


def test_scores_and_feedback_are_masked() -> None:
    wire = Wire()
    with running(wire, mask=hide) as forwarder:
        call = forwarder._pipeline.read(make_view())
        forwarder.score(
            call._replace(
                kind=Kind.EVALUATION, evaluations=[Feedback(SECRET), Evaluation("n", label=SECRET, own=True)]
            )
        )
        assert forwarder.flush(60)
    assert b"hidden $ai_feedback_text" in b"".join(wire.bytes)
    assert SECRET.encode() not in b"".join(wire.bytes)


def test_a_mask_sees_values_of_before_send_and_of_the_client() -> None:
    def add(event: Event) -> Event:
        return {**event, "properties": {**event["properties"], "added": SECRET}}

    wire = Wire()
    with running(wire, mask=hide, before_send=add) as forwarder:
        forwarder.end(sdk_span())
        assert forwarder.flush(60)
    assert b"hidden added" in b"".join(wire.bytes)
    assert SECRET.encode() not in b"".join(wire.bytes)


def test_a_mask_that_always_fails_costs_content_and_no_event() -> None:
    def mask(*_: Any) -> Any:
        raise ValueError(SECRET)

    wire = Wire()
    with running(wire, mask=mask) as forwarder:
        forwarder.end(sdk_span(ATTRIBUTES))
        assert forwarder.flush(60)
        assert forwarder.stats()["fields"]["dropped"] == {"failed": 12}
        assert sum(forwarder.stats()["events"]["delivered"].values()) == 4
    assert SECRET.encode() not in b"".join(wire.bytes)


def test_a_mask_may_be_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "of_the_application", hide, raising=False)
    wire = Wire()
    with running(wire, mask=f"{__name__}:of_the_application") as forwarder:
        forwarder.end(sdk_span(ATTRIBUTES))
        assert forwarder.flush(60)
    assert b"hidden $ai_input" in b"".join(wire.bytes)


def test_a_mask_sees_values_that_before_send_put_beside_the_properties() -> None:
    def add(event: Event) -> Event:
        return {**event, "$set": {"name": SECRET}, "note": SECRET}

    wire = Wire()
    with running(wire, mask=hide, before_send=add) as forwarder:
        forwarder.end(sdk_span())
        assert forwarder.flush(60)
    assert b'"$set":"hidden $set"' in b"".join(wire.bytes)
    assert SECRET.encode() not in b"".join(wire.bytes)
