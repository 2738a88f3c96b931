"""Sampling keeps whole traces, the same in every process, and failed or expensive calls; sums are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.events import Sampling
from otel_posthog.conversion.events.sampling import draw
from otel_posthog.conversion.model_call import Evaluation, Feedback, Kind
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.spans.span_view import SpanView
from tests.support.spans import make_view

EVERYTHING = frozenset({"ai", "llm_completion", "llm_generation"})
BOOK = PriceBook()
KEPT, LEFT_OUT = "0" * 31 + "a", "0" * 31 + "1"
"""Two traces whose drawn numbers are 0.03 and 0.83."""
CHEAP = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
DEAR = {"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 1000}
"""It costs 1.26 US dollars with gpt-5.1; CHEAP costs 0.00225."""
FAILED = {"error.type": "rate_limit_exceeded"}
AGENT = {"gen_ai.operation.name": "invoke_agent"}
MEME = {"posthog.feature": "meme"}
SUCCESS = ["$ai_generation", "llm_completion_requested", "llm_completion_success", "llm_generation"]
FAILURE = ["$ai_generation", "llm_completion_requested", "llm_completion_failed", "llm_generation"]


def pipeline(rates: Mapping[str, float], keep_cost: float = 0.5, **changes: Any) -> Pipeline:
    sampling = Sampling(rates={"*": 1.0, **rates}, keep_cost=keep_cost, prices=BOOK)
    return Pipeline(**{"families": EVERYTHING, "prices": BOOK, "sampling": sampling, **changes})


TENTH = pipeline({"*": 0.1, "meme": 0.9})


def call(trace: str = LEFT_OUT, *more: Mapping[str, Any], **changes: Any) -> SpanView:
    attributes = {name: value for each in (CHEAP, *more) for name, value in each.items()}
    status = "ERROR" if "error.type" in attributes else "UNSET"
    return make_view(attributes, **{"trace_id": trace, "status": status, **changes})


def shown(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the `$sample_rate` of each event by its name."""
    return {event["event"]: event["properties"].get("$sample_rate") for event in events}


def counted(pipeline: Pipeline, *views: SpanView) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Return the events, and the number of dropped ones by reason."""
    dropped: Counter[str] = Counter()
    return pipeline.events([pipeline.read(view) for view in views], dropped=dropped), dropped


# --- the number that stands for a trace ---


@pytest.mark.parametrize(
    ("trace", "number"),
    [
        (KEPT, 0.0284),
        (LEFT_OUT, 0.8297),
        ("support-ticket-17", 0.4303),
        ("W\u00fcrfel\ud800", 0.4924),
        ("", 0.8932),
    ],
)
def test_a_trace_is_drawn_alike_in_every_process_and_version(trace: str, number: float) -> None:
    assert draw(trace) == pytest.approx(number, abs=1e-4)


def test_traces_are_drawn_evenly() -> None:
    tenths = Counter(int(draw(format(number, "032x")) * 10) for number in range(10_000))
    assert [*sorted(tenths)] == [*range(10)]
    assert all(900 < count < 1100 for count in tenths.values())


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_rate_keeps_a_subset_of_a_higher_one(trace: str, one: float, other: float) -> None:
    view = make_view(attributes={"posthog.trace_id": trace} if trace.strip() else {})
    lower, higher = (pipeline({"*": rate}) for rate in sorted((one, other)))
    assert {*shown(lower.finished_events(view))} <= {*shown(higher.finished_events(view))}
    assert shown(pipeline({"*": 0.0}).finished_events(view)) == {}
    assert [*shown(pipeline({"*": 1.0}).finished_events(view))] == SUCCESS


# --- what is kept ---

WHOLE: list[tuple[str, SpanView, dict[str, Any]]] = [
    ("a call of a trace that is kept", call(KEPT), dict.fromkeys(SUCCESS, 0.1)),
    ("a call of one that is not", call(), {}),
    ("one of a feature with a rate of its own", call(LEFT_OUT, MEME), dict.fromkeys(SUCCESS, 0.9)),
    ("one that failed", call(LEFT_OUT, FAILED), dict.fromkeys(FAILURE, 1.0)),
    ("one that failed in a trace that is kept", call(KEPT, FAILED), dict.fromkeys(FAILURE, 1.0)),
    ("one that cost much", call(LEFT_OUT, DEAR), dict.fromkeys(SUCCESS, 1.0)),
    (
        "one that a gateway says cost much",
        call(LEFT_OUT, {"gen_ai.usage.cost": 0.51}),
        dict.fromkeys(SUCCESS, 1.0),
    ),
    ("one that cost just the limit", call(LEFT_OUT, {"gen_ai.usage.cost": 0.5}), {}),
    ("an agent of a trace that is kept", call(KEPT, AGENT), {"$ai_trace": 0.1}),
    ("an agent of one that is not", call(LEFT_OUT, AGENT), {}),
    ("an agent that failed", call(LEFT_OUT, AGENT, FAILED), {"$ai_trace": 1.0}),
    (
        "a trace by the application's own name",
        call(LEFT_OUT, {"posthog.trace_id": KEPT}),
        dict.fromkeys(SUCCESS, 0.1),
    ),
]


@pytest.mark.parametrize(("view", "expected"), [pytest.param(v, e, id=name) for name, v, e in WHOLE])
def test_a_call_has_all_its_events_or_none(view: SpanView, expected: dict[str, Any]) -> None:
    assert shown(TENTH.finished_events(view)) == expected


@pytest.mark.parametrize("families", [["ai"], ["llm_completion"], ["llm_generation"], EVERYTHING])
@pytest.mark.parametrize("view", [call(), call(LEFT_OUT, AGENT)], ids=["call", "agent"])
def test_dropped_events_are_counted_one_by_one(families: Any, view: SpanView) -> None:
    chosen = frozenset(families)
    whole = Pipeline(families=chosen, prices=BOOK).finished_events(view)
    events, dropped = counted(pipeline({"*": 0.1}, families=chosen), view)
    assert (events, dropped["sample_rate"]) == ([], len(whole))


def test_the_rest_of_an_event_is_as_without_sampling() -> None:
    whole = Pipeline(families=EVERYTHING, prices=BOOK).finished_events(call(KEPT))
    for event in (sampled := TENTH.finished_events(call(KEPT))):
        del event["properties"]["$sample_rate"]
    assert sampled == whole


def test_without_sampling_no_event_tells_a_rate() -> None:
    assert {*shown(Pipeline(families=EVERYTHING, prices=BOOK).finished_events(call())).values()} == {None}


def test_an_expensive_call_is_kept_even_if_posthog_works_out_the_costs() -> None:
    server = pipeline({"*": 0.1}, prices=None)
    assert shown(server.finished_events(call())) == {}
    events = server.finished_events(call(LEFT_OUT, DEAR))
    assert shown(events) == dict.fromkeys(SUCCESS, 1.0)
    assert not any("cost" in name for event in events for name in event["properties"])


# --- the start of a call ---


def test_a_start_is_announced_at_once_only_in_a_trace_that_is_kept() -> None:
    assert shown(TENTH.started_events(call(KEPT))) == {"llm_completion_requested": 0.1}
    assert TENTH.started_events(call()) == []
    assert shown(TENTH.started_events(call(LEFT_OUT, MEME))) == {"llm_completion_requested": 0.9}


def test_a_failure_in_a_trace_that_is_not_kept_brings_its_start_along() -> None:
    failed = call(LEFT_OUT, FAILED)
    assert TENTH.started_events(failed) == []
    assert shown(TENTH.finished_events(failed)) == dict.fromkeys(FAILURE, 1.0)


def test_a_failure_that_was_announced_is_announced_again_as_one_that_is_always_kept() -> None:
    failed = call(KEPT, FAILED)
    [first] = TENTH.started_events(failed)
    again = [
        event
        for event in TENTH.finished_events(failed, announced={failed.span_id})
        if event["event"] == first["event"]
    ]
    assert [(each["uuid"], each["timestamp"]) for each in again] == [(first["uuid"], first["timestamp"])]
    assert shown([first]) == {"llm_completion_requested": 0.1}
    assert shown(again) == {"llm_completion_requested": 1.0}


def test_an_announced_call_of_a_trace_that_is_kept_is_not_announced_again() -> None:
    view = call(KEPT)
    assert [*shown(TENTH.finished_events(view, announced={view.span_id}))] == [
        name for name in SUCCESS if name != "llm_completion_requested"
    ]


def test_no_span_announces_for_another_in_a_trace_that_is_not_kept() -> None:
    for trace, expected in ((KEPT, True), (LEFT_OUT, False)):
        outer = call(trace, span_id="a" * 16, scope="opentelemetry.instrumentation.openai")
        inner = call(trace, span_id="b" * 16, parent_id="a" * 16)
        assert TENTH.is_announced_by(inner, outer) is expected


# --- scores ---


@pytest.mark.parametrize(
    ("trace", "kind", "expected", "left_out"),
    [
        (KEPT, Kind.EVALUATION, {"$ai_metric": 0.1, "$ai_feedback": 1.0}, 0),
        (LEFT_OUT, Kind.EVALUATION, {"$ai_feedback": 1.0}, 1),
        (LEFT_OUT, Kind.GENERATION, {"$ai_feedback": 1.0}, 5),
    ],
)
def test_scores_are_sampled_with_their_trace_and_feedback_is_kept(
    trace: str, kind: Kind, expected: dict[str, Any], left_out: int
) -> None:
    judged = TENTH.read(call(trace))._replace(kind=kind)
    judged = judged._replace(evaluations=[Evaluation("tone", 0.5), Feedback("Spot on")])
    dropped: Counter[str] = Counter()
    assert shown(TENTH.events([judged], dropped=dropped)) == expected
    assert dropped["sample_rate"] == left_out


def test_feedback_has_the_same_uuid_with_and_without_scores() -> None:
    judged = TENTH.read(call())._replace(evaluations=[Evaluation("tone", 0.5), Feedback("Spot on")])
    [alone] = TENTH.score_events(judged)
    assert alone["uuid"] in {event["uuid"] for event in Pipeline(families=EVERYTHING).score_events(judged)}


# --- on disk ---


def test_a_recipe_carries_the_sampling() -> None:
    restored = Pipeline(families=EVERYTHING).with_recipe(TENTH.recipe())
    assert restored.recipe() == TENTH.recipe()
    for view in (call(), call(KEPT), call(LEFT_OUT, MEME), call(LEFT_OUT, DEAR)):
        assert restored.finished_events(view) == TENTH.finished_events(view)


def test_a_recipe_of_before_there_was_sampling_keeps_everything() -> None:
    old = Pipeline(families=EVERYTHING, prices=BOOK).recipe()
    assert b"sampl" not in old
    assert len(TENTH.with_recipe(old).finished_events(call())) == len(SUCCESS)


@pytest.mark.parametrize("rates", ["{}", '{"*":"x"}', "[]", "1"])
def test_a_recipe_that_is_none_is_refused(rates: str) -> None:
    recipe = TENTH.recipe().decode()
    before, _, after = recipe.partition('"rates":')
    broken = f'{before}"rates":{rates}{after[after.index("}") + 1 :]}'.encode()
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError)):
        TENTH.with_recipe(broken)


# --- sums ---


def test_sums_over_the_inverse_rate_are_right() -> None:
    """Return 4,000 traces: one call each below an agent; some fail, are expensive or have a feature."""
    rates = pipeline({"*": 0.1, "meme": 0.5})
    whole = Pipeline(families=EVERYTHING, prices=BOOK)
    truth: Counter[str] = Counter()
    cost = 0.0
    kept: dict[str, dict[str, Any]] = {}
    for number in range(4000):
        trace = format(0x5EED0000 + number, "032x")
        what = ({}, FAILED, DEAR, {}, {})[number % 5] if number % 4 == 0 else {}
        views = (
            call(trace, AGENT, span_id="a" * 16),
            call(trace, what, MEME if number % 3 == 0 else {}, span_id="b" * 16, parent_id="a" * 16),
        )
        announced = rates.started_events(views[1])
        announced_ids = {views[1].span_id} if announced else set()
        for event in [*announced, *rates.finished_events(*views, announced=announced_ids)]:
            kept[event["uuid"]] = event  # the later of two with one uuid stays
        for event in whole.finished_events(*views):
            truth[event["event"]] += 1
            cost += event["properties"].get("$ai_total_cost_usd", 0.0)
    sums: dict[str, float] = dict.fromkeys(truth, 0.0)
    cost_sum = 0.0
    for event in kept.values():
        weight = 1 / event["properties"]["$sample_rate"]
        sums[event["event"]] += weight
        cost_sum += weight * event["properties"].get("$ai_total_cost_usd", 0.0)
    assert sums["llm_completion_failed"] == truth["llm_completion_failed"] == 200
    for name, count in truth.items():  # the deviation to be expected is 4 to 5 per cent
        assert sums[name] == pytest.approx(count, rel=0.1), name
    assert cost_sum == pytest.approx(cost, rel=0.01)
    assert len(kept) < 0.35 * sum(truth.values())
