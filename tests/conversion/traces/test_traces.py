"""Each call becomes one generation, however many spans show it and in whatever order they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_posthog.conversion.model_call import CallContext, CallError, Evaluation, Kind, ModelCall, Usage
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.traces import Parents, SpanHistory, merge, resolve, trace_root
from otel_posthog.conversion.traces import history as history_module
from otel_posthog.conversion.traces.trace_root import MAX_TEXT
from tests.support.spans import START, TRACE_ID, make_view

TRACE = format(TRACE_ID, "032x")
MS = 1_000_000
PIPELINE = Pipeline(families=frozenset({"ai", "llm_completion"}), prices=PriceBook())
FAILED = CallError("RateLimitError", "slow down", 429)

Batches = list[list[ModelCall]]
Arranged = Callable[[Sequence[ModelCall]], Batches]


def call(
    span_id: str,
    parent: str | None = "app",
    *,
    scope: str = "openai",
    at: int = 0,
    until: int = 1000,
    model: str | None = "gpt-5.1",
    **changes: Any,
) -> ModelCall:
    """Return a chat from `at` until `until`, in milliseconds."""
    base = ModelCall(
        Kind.GENERATION, "chat", "chat", TRACE, span_id, parent, START + at * MS, START + until * MS
    )
    return base._replace(**{"scope": scope, "request_model": model, **changes})


def agent(span_id: str, parent: str | None = None, **changes: Any) -> ModelCall:
    """Return an agent around the other spans."""
    options = {"scope": "agents", "at": -100, "until": 9000, "model": None, "kind": Kind.AGENT, **changes}
    return call(span_id, parent, **options)


def message(*texts: str, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "parts": [{"type": "text", "content": text}]} for text in texts]


def under(place: str) -> CallContext:
    """Return the context that the processor gives a span below `place`."""
    return CallContext(parent_id=place)


def in_batches(batches: Batches, **options: Any) -> list[ModelCall]:
    history = SpanHistory()
    return [each for batch in batches for each in resolve(batch, history, **options)]


def counted(calls: Sequence[ModelCall]) -> list[str]:
    return sorted(each.span_id for each in calls if each.kind.is_model_call)


def place_of(calls: Sequence[ModelCall], span_id: str) -> str | None:
    return next(each.context.parent_id for each in calls if each.span_id == span_id)


def arrangements(number: int) -> Iterator[tuple[str, Arranged]]:
    """Yield all ways in which spans may arrive: each order, cut into batches anywhere."""
    for order in permutations(range(number)):
        for cuts in range(2 ** (number - 1)):
            groups = [[order[0]]]
            for position, which in enumerate(order[1:]):
                if cuts >> position & 1:
                    groups.append([which])
                else:
                    groups[-1].append(which)

            def arranged(calls: Sequence[ModelCall], groups: list[list[int]] = groups) -> Batches:
                return [[calls[which] for which in group] for group in groups]

            yield "|".join("".join("abc"[which] for which in group) for group in groups), arranged


def in_all_arrangements(
    table: Mapping[str, list[ModelCall]], number: int, broken: Mapping[str, str] | None = None
) -> list[Any]:
    """Return each row in each arrangement; `broken` gives the reason if one is known to fail."""
    broken = broken or {}
    return [
        pytest.param(
            spans,
            arranged,
            id=f"{name}-{way}",
            marks=[pytest.mark.xfail(reason=broken[f"{name}-{way}"], strict=True)]
            if f"{name}-{way}" in broken
            else [],
        )
        for name, spans in table.items()
        for way, arranged in arrangements(number)
    ]


TWO = dict(arrangements(2))
THREE = dict(arrangements(3))


# --- which spans show one call ---


TWINS = {
    "nested": [call("a"), call("b", "a", scope="httpx", at=1, until=999)],
    "nested, begun long after": [call("a"), call("b", "a", scope="httpx", at=500, until=999)],
    "nested, ended a little later": [call("a"), call("b", "a", scope="httpx", at=1, until=1200)],
    "nested, of one scope": [call("a"), call("b", "a", at=1, until=999)],
    "nested, both failed": [call("a", error=FAILED), call("b", "a", at=1, until=999, error=FAILED)],
    "roots within": [call("a", None), call("b", "a", scope="httpx", at=1, until=999)],
    "side by side": [call("a"), call("b", scope="httpx", at=1, until=999)],
    "side by side, ended a little later": [call("a"), call("b", scope="httpx", at=1, until=1004)],
    "side by side, one answer": [
        call("a", response_id="r1"),
        call("b", scope="httpx", at=400, until=1900, response_id="r1"),
    ],
    "embeddings": [
        call("a", kind=Kind.EMBEDDING),
        call("b", "a", scope="httpx", at=1, until=999, kind=Kind.EMBEDDING),
    ],
    "no model named": [call("a", model=None), call("b", "a", scope="httpx", at=1, until=999)],
    "with who serves it": [
        call("a", model="openai/gpt-5.1"),
        call("b", "a", scope="httpx", at=1, until=999),
    ],
    "with a date": [
        call("a", model="gpt-5.1-2025-11-13"),
        call("b", "a", scope="httpx", at=1, until=999, model="GPT-5.1"),
    ],
    "a deployment's name, one answer": [
        call("a", model="my-deployment", response_id="r1"),
        call("b", "a", scope="httpx", at=1, until=999, response_id="r1"),
    ],
    "a deployment's name, the same tokens": [
        call("a", model="my-deployment", usage=Usage(10, 5)),
        call("b", "a", scope="httpx", at=1, until=999, usage=Usage(10, 5)),
    ],
    "below the trace, as our processor says": [
        call("a", "http", context=under(TRACE)),
        call("b", "a", scope="httpx", at=1, until=999, context=under("a")),
    ],
    "side by side below the trace, as our processor says": [
        call("a", "http", context=under(TRACE)),
        call("b", "http", scope="httpx", at=1, until=999, context=under(TRACE)),
    ],
}


@pytest.mark.parametrize(
    ("twins", "arranged"),
    in_all_arrangements(TWINS, 2),
)
def test_a_call_that_two_spans_show_is_counted_once(twins: list[ModelCall], arranged: Arranged) -> None:
    assert len(counted(in_batches(arranged(twins)))) == 1


@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_in_one_batch_one_event_remains_of_two_spans(twins: list[ModelCall]) -> None:
    [merged] = resolve(twins)
    assert merged.span_id == "a"


@pytest.mark.parametrize("way", ["a|b", "b|a"])
def test_in_two_batches_the_one_that_comes_later_is_structure(way: str) -> None:
    calls = in_batches(TWO[way](TWINS["nested"]))
    assert [each.kind for each in calls] == [Kind.GENERATION, Kind.SPAN]


THREE_SPANS = {
    "nested": [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=999),
        call("c", "b", scope="gateway", at=2, until=998),
    ],
    "side by side": [
        call("a"),
        call("b", scope="httpx", at=1, until=999),
        call("c", scope="gateway", at=2, until=998),
    ],
    "two beside each other in one": [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=999),
        call("c", "a", scope="gateway", at=2, until=998),
    ],
    "one in one of two beside each other": [
        call("a"),
        call("b", scope="httpx", at=1, until=999),
        call("c", "b", scope="gateway", at=2, until=998),
    ],
}


TWO_LEVELS = "a limit: that one is within the other is known only when the one between has come"


@pytest.mark.parametrize(
    ("spans", "arranged"),
    in_all_arrangements(
        THREE_SPANS,
        3,
        {
            f"{name}-{way}": TWO_LEVELS
            for name in ("nested", "one in one of two beside each other")
            for way in ("ac|b", "a|c|b", "ca|b", "c|a|b")
        },
    ),
)
def test_a_call_that_three_spans_show_is_counted_once(spans: list[ModelCall], arranged: Arranged) -> None:
    assert len(counted(in_batches(arranged(spans)))) == 1


APART = {
    "a smaller model in a larger one's": [
        call("a", model="gpt-4o"),
        call("b", "a", scope="httpx", at=1, until=999, model="gpt-4o-mini"),
    ],
    "an embedding in a chat": [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=999, kind=Kind.EMBEDDING),
    ],
    "one after the other, a test server's id": [
        call("a", response_id="chatcmpl-test"),
        call("b", scope="httpx", at=1000, until=2000, response_id="chatcmpl-test"),
    ],
    "one after the other, a test server's id, one scope": [
        call("a", response_id="chatcmpl-test"),
        call("b", at=1000, until=2000, response_id="chatcmpl-test"),
    ],
    "in parallel, of one scope": [call("a"), call("b", at=1, until=999)],
    "in parallel, of one scope, a test server's id": [
        call("a", response_id="chatcmpl-test"),
        call("b", at=1, until=999, response_id="chatcmpl-test"),
    ],
    "a try that failed, of one scope": [call("a"), call("b", "a", at=1, until=400, error=FAILED)],
    "other answers, nested": [
        call("a", response_id="r1"),
        call("b", "a", scope="httpx", at=1, until=999, response_id="r2"),
    ],
    "other answers, side by side": [
        call("a", response_id="r1"),
        call("b", scope="httpx", at=1, until=999, response_id="r2"),
    ],
    "begun later": [call("a"), call("b", scope="httpx", at=51, until=999)],
    "ended later": [call("a"), call("b", scope="httpx", at=1, until=1006)],
    "below other spans": [call("a", "app"), call("b", "other", scope="httpx", at=1, until=999)],
    "one answer of a cache to two services": [
        call("a", None, response_id="r1", resource={"service.name": "web"}),
        call(
            "b",
            None,
            scope="httpx",
            at=1,
            until=999,
            response_id="r1",
            trace_id="f" * 32,
            resource={"service.name": "worker"},
        ),
    ],
    "in two traces": [
        call("a", None),
        call("b", None, scope="httpx", at=1, until=999, trace_id="f" * 32),
    ],
    "an agent between": [
        call("a"),
        call("b", "bob", scope="httpx", at=1, until=999),
        agent("bob", "a"),
    ],
}


@pytest.mark.parametrize(
    ("spans", "arranged"),
    in_all_arrangements(APART, 2),
)
def test_two_calls_are_counted_twice(spans: list[ModelCall], arranged: Arranged) -> None:
    batches = arranged(spans)
    batches[0] += spans[2:]
    assert counted(in_batches(batches)) == ["a", "b"]


ROOTS = {
    "roots": [
        call("a", None, response_id="r1"),
        call("b", None, scope="httpx", at=1, until=999, response_id="r1", trace_id="f" * 32),
    ],
    "roots, of which one does not know its service": [
        call("a", None, response_id="r1", resource={"service.name": "web"}),
        call(
            "b",
            None,
            scope="httpx",
            at=1,
            until=999,
            response_id="r1",
            trace_id="f" * 32,
            resource={"service.name": "unknown_service:python"},
        ),
    ],
}


@pytest.mark.parametrize(
    ("twins", "arranged"),
    in_all_arrangements(ROOTS, 2),
)
def test_roots_of_two_traces_that_name_one_answer_are_one_call(
    twins: list[ModelCall], arranged: Arranged
) -> None:
    assert len(counted(in_batches(arranged(twins)))) == 1


@pytest.mark.parametrize(
    "arranged",
    [
        pytest.param(arranged, id=way)
        for way, arranged in THREE.items()
        if "a" in way.rpartition("|")[2]  # it ends after those within it
    ],
)
def test_a_span_around_several_calls_is_structure(arranged: Arranged) -> None:
    spans = [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=400),
        call("c", "a", scope="httpx", at=401, until=900),
    ]
    calls = in_batches(arranged(spans))
    assert counted(calls) == ["b", "c"]
    assert {each.span_id: each.kind for each in calls}["a"] is Kind.SPAN


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"at": 2, "until": 998, "response_id": "r2"}, id="another answer"),
        pytest.param({"at": 500, "until": 998}, id="one after the other"),
    ],
)
def test_a_span_around_two_calls_of_two_scopes_is_structure(second: dict[str, Any]) -> None:
    spans = [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=499, response_id="r1"),
        call("c", "a", scope="gateway", **second),
    ]
    assert counted(resolve(spans)) == ["b", "c"]


def test_a_span_around_a_failed_try_and_a_good_one_is_structure() -> None:
    spans = [
        call("a"),
        call("b", "a", scope="httpx", at=1, until=400, error=FAILED),
        call("c", "a", scope="httpx", at=401, until=999),
    ]
    assert counted(resolve(spans)) == ["b", "c"]


def test_two_parallel_calls_that_two_instrumentors_saw_are_two() -> None:
    spans = [
        call("a", response_id="r1"),
        call("b", scope="httpx", at=1, until=999, response_id="r1"),
        call("c", at=2, until=998, response_id="r2"),
        call("d", scope="httpx", at=3, until=997, response_id="r2"),
    ]
    for order in permutations(spans):
        assert counted(resolve(order)) == ["a", "c"]


def test_the_span_that_remains_is_the_outermost_ones_place_and_time() -> None:
    outer, inner = TWINS["nested"]
    [merged] = resolve([inner, outer])
    assert (merged.span_id, merged.parent_id, merged.scope) == ("a", "app", "openai")
    assert (merged.start_ns, merged.end_ns) == (outer.start_ns, outer.end_ns)


@pytest.mark.parametrize("way", ["ab", "ba", "a|b"])
def test_the_end_of_a_stream_belongs_to_its_request(way: str) -> None:
    request = call("a", None, scope="logfire", until=100, may_go_on=True)
    end = call("b", None, scope="logfire", at=900, until=900, usage=Usage(10, 5), output=message("Hello"))
    end = end._replace(ended_after=0.8, trace_id="f" * 32)
    assert counted(in_batches(TWO[way]([request, end]))) == ["a"]
    [whole] = resolve([request, end])
    assert (whole.stream, whole.end_ns, whole.usage.input) == (True, end.end_ns, 10)


def test_the_end_of_a_stream_that_is_sent_again_is_not_counted_the_second_time() -> None:
    request = call("a", None, scope="logfire", until=100, may_go_on=True)
    end = call("b", None, scope="logfire", at=900, until=900, ended_after=0.8)
    assert counted(in_batches([[request], [end], [end]])) == ["a"]


def test_a_request_that_is_sent_again_expects_one_end() -> None:
    request = call("a", None, scope="logfire", until=100, may_go_on=True)
    end = call("b", None, scope="logfire", at=900, until=900, ended_after=0.8)
    alone = call("c", None, scope="logfire", at=950, until=950, ended_after=0.1)
    assert counted(in_batches([[request], [request], [end], [alone]])) == ["a", "a", "c"]


@st.composite
def _some_batches(draw: st.DrawFn) -> Batches:
    """Draw spans of a trace, of any kind and nesting, in batches."""
    calls: list[ModelCall] = []
    for number in range(draw(st.integers(2, 5))):
        parent = draw(st.sampled_from([None, "app", *(each.span_id for each in calls)]))
        changes: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {},
                    {"ended_after": 0.8},
                    {"may_go_on": True},
                    {"kind": Kind.AGENT},
                    {"input": message(f"{number}?"), "output": message(f"{number}!", role="assistant")},
                ]
            )
        )
        scope, until = draw(st.sampled_from("abc")), draw(st.sampled_from([500, 1000]))
        answer = draw(st.sampled_from([None, "r1", "r2"]))
        at = draw(st.sampled_from([0, 1, 40]))
        calls.append(
            call(f"s{number}", parent, scope=scope, at=at, until=until, response_id=answer, **changes)
        )
    calls = draw(st.permutations(calls))
    cut = draw(st.integers(1, len(calls)))
    return [calls[:cut], calls[cut:]]


@given(_some_batches())
def test_a_batch_that_is_sent_again_is_resolved_as_before(batches: Batches) -> None:
    history = SpanHistory()
    for batch in batches:
        assert resolve(batch, history) == resolve(batch, history)


def test_the_end_of_a_stream_without_its_request_is_a_call_that_began_before() -> None:
    end = call("a", None, scope="logfire", at=900, until=900, ended_after=0.8)
    [generation] = resolve([end])
    assert generation.kind is Kind.GENERATION
    assert generation.seconds == 0.8


# --- the union ---


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        pytest.param(Usage(), Usage(10, 5), Usage(10, 5), id="one knows"),
        pytest.param(Usage(10, 5), Usage(10, 5, reasoning=3), Usage(10, 5, reasoning=3), id="both know"),
        pytest.param(Usage(10, 2), Usage(12, 5), Usage(12, 5), id="the larger"),
        pytest.param(Usage(10, 5), Usage(3, 9), Usage(10, 9), id="each the larger"),
        pytest.param(Usage(10, 5, 15), Usage(12, 7, 15), Usage(10, 5, 15), id="those that add up"),
        pytest.param(Usage(12, 7, 15), Usage(10, 5, 15), Usage(10, 5, 15), id="those of the inner one"),
        pytest.param(Usage(10, 5, 15), Usage(90, 5, 95), Usage(90, 5, 95), id="both add up"),
        pytest.param(
            Usage(10, 5, 15),
            Usage(9, cache_read=4),
            Usage(10, 5, 15, cache_read=4),
            id="and what else is known",
        ),
        pytest.param(Usage(0, 0), Usage(10, 5), Usage(10, 5), id="zero is less"),
        pytest.param(
            Usage(10, 5, cache_exclusive=True),
            Usage(4),
            Usage(10, 5, cache_exclusive=True),
            id="what is inside",
        ),
        pytest.param(
            Usage(10, 5, cache_read=90, cache_exclusive=True),
            Usage(100, 5, cache_read=90, cache_exclusive=False),
            Usage(100, 5, cache_read=90, cache_exclusive=False),
            id="inside of the counts that are taken",
        ),
    ],
)
def test_the_union_has_the_tokens_that_left_less_out(outer: Usage, inner: Usage, wanted: Usage) -> None:
    assert merge(call("a", usage=outer), call("b", usage=inner)).usage == wanted


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        pytest.param({}, {"response_id": "r"}, {"response_id": "r"}, id="what only the inner one knows"),
        pytest.param({"response_id": "r"}, {}, {"response_id": "r"}, id="what only the outer one knows"),
        pytest.param(
            {"provider": "azure"}, {"provider": "openai"}, {"provider": "azure"}, id="first the outer"
        ),
        pytest.param(
            {"input": message("Hi")},
            {"input": message("Hi there")},
            {"input": message("Hi there")},
            id="input",
        ),
        pytest.param({"output": message("Hello")}, {"output": []}, {"output": message("Hello")}, id="output"),
        pytest.param(
            {"output": message("one")},
            {"output": message("two")},
            {"output": message("one")},
            id="as much of both",
        ),
        pytest.param(
            {"finish_reasons": ()}, {"finish_reasons": ("stop",)}, {"finish_reasons": ("stop",)}, id="reasons"
        ),
        pytest.param({}, {"error": FAILED}, {"error": FAILED}, id="error"),
        pytest.param(
            {"error": CallError("APIError")},
            {"error": CallError("RateLimitError", "slow down", 429)},
            {"error": CallError("APIError", "slow down", 429)},
            id="what both say of an error",
        ),
        pytest.param({"stream": False}, {"stream": True}, {"stream": True}, id="a stream"),
        pytest.param({"stream": None}, {"stream": False}, {"stream": False}, id="no stream"),
        pytest.param(
            {"parameters": {"temperature": 1, "top_p": 1}},
            {"parameters": {"temperature": 0, "seed": 7}},
            {"parameters": {"temperature": 1, "top_p": 1, "seed": 7}},
            id="parameters",
        ),
        pytest.param(
            {"response_model": "gpt-5.1"},
            {"response_model": "gpt-5.1-2025-11-13"},
            {"response_model": "gpt-5.1-2025-11-13"},
            id="an answering model that repeats the one that was asked",
        ),
        pytest.param(
            {"response_model": "gpt-5.1-2025-11-13"},
            {"response_model": "gpt-5.1"},
            {"response_model": "gpt-5.1-2025-11-13"},
            id="an answering model that the inner one repeats",
        ),
        pytest.param({"cost_usd": None}, {"cost_usd": 0.5}, {"cost_usd": 0.5}, id="cost"),
        pytest.param(
            {"evaluations": [Evaluation("quality", 0.5)]},
            {"evaluations": [Evaluation("quality", 0.5)]},
            {"evaluations": [Evaluation("quality", 0.5)]},
            id="one score that both have",
        ),
        pytest.param(
            {"evaluations": [Evaluation("quality", 0.5)]},
            {"evaluations": [Evaluation("toxicity", 0.1)]},
            {"evaluations": [Evaluation("quality", 0.5), Evaluation("toxicity", 0.1)]},
            id="scores of both",
        ),
    ],
)
def test_a_merged_call_has_the_details_of_both(
    outer: dict[str, Any], inner: dict[str, Any], wanted: dict[str, Any]
) -> None:
    merged = merge(call("a", **outer), call("b", "a", scope="httpx", **inner))
    assert {name: getattr(merged, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("outer", "inner", "wanted"),
    [
        pytest.param({}, {"distinct_id": "7"}, {"distinct_id": "7"}, id="of the inner one"),
        pytest.param({"distinct_id": "7"}, {"distinct_id": "8"}, {"distinct_id": "7"}, id="first the outer"),
        pytest.param({"privacy_mode": True}, {}, {"privacy_mode": True}, id="private outside"),
        pytest.param({}, {"privacy_mode": True}, {"privacy_mode": True}, id="private inside"),
        pytest.param(
            {"groups": {"company": "acme"}},
            {"groups": {"team": "red"}},
            {"groups": {"company": "acme", "team": "red"}},
            id="groups",
        ),
        pytest.param(
            {"properties": {"plan": "pro", "a": 1}},
            {"properties": {"plan": "free", "b": 2}},
            {"properties": {"plan": "pro", "a": 1, "b": 2}},
            id="properties",
        ),
        pytest.param(
            {"flags": {"x": True}}, {"flags": {"y": "b"}}, {"flags": {"x": True, "y": "b"}}, id="flags"
        ),
        pytest.param(
            {"parent_id": "bob"}, {"parent_id": "a"}, {"parent_id": "bob"}, id="the outer one's place"
        ),
        pytest.param({}, {"parent_id": "a"}, {"parent_id": None}, id="no other place"),
    ],
)
def test_a_merged_call_has_the_context_of_both(
    outer: dict[str, Any], inner: dict[str, Any], wanted: dict[str, Any]
) -> None:
    context = merge(call("a", context=CallContext(**outer)), call("b", context=CallContext(**inner))).context
    assert {name: getattr(context, name) for name in wanted} == wanted


def test_a_merged_call_is_private_if_either_span_is() -> None:
    outer = make_view({"gen_ai.input.messages": "a secret"}, span_id="a" * 16)
    inner = make_view({"posthog.privacy_mode": True}, span_id="b" * 16, parent_id="a" * 16, scope="httpx")
    [generation] = [e for e in PIPELINE.finished_events(outer, inner) if e["event"] == "$ai_generation"]
    assert "a secret" not in str(generation)


def test_three_spans_are_merged_with_all_their_details() -> None:
    spans = [
        call("a", provider="openai"),
        call("b", "a", scope="httpx", at=1, until=999, response_id="r1"),
        call("c", "b", scope="gateway", at=2, until=998, usage=Usage(10, 5)),
    ]
    for order in permutations(spans):
        [merged] = resolve(order)
        assert (merged.provider, merged.response_id, merged.usage) == ("openai", "r1", Usage(10, 5))


# --- places ---


PARENTS: Parents = {
    (TRACE, "select"): "post",
    (TRACE, "post"): "bob",
    (TRACE, "get"): None,
    (TRACE, "loop"): "pool",
    (TRACE, "pool"): "loop",
}


@pytest.mark.parametrize(
    ("parent", "options", "wanted"),
    [
        pytest.param("bob", {}, "bob", id="an agent"),
        pytest.param("select", {"parents": PARENTS}, "bob", id="HTTP and database spans between"),
        pytest.param("get", {"parents": PARENTS}, TRACE, id="nothing of ours above"),
        pytest.param("get", {}, "get", id="not seen: it may come"),
        pytest.param("remote", {"parents": PARENTS}, "remote", id="unknown"),
        pytest.param("x", {}, TRACE, id="itself"),
        pytest.param(None, {}, None, id="a root"),
    ],
)
def test_the_place_of_a_call_is_the_nearest_span_that_becomes_an_event(
    parent: str | None, options: dict[str, Any], wanted: str | None
) -> None:
    spans = [call("x", parent), agent("bob")]
    assert place_of(resolve(spans, **options), "x") == wanted
    apart = in_batches([[spans[1]], [spans[0]]], **options)
    assert place_of(apart, "x") == wanted


def test_a_loop_among_the_spans_between_ends() -> None:
    assert place_of(resolve([call("x", "loop")], parents=PARENTS), "x") in {"loop", "pool"}


def test_two_spans_that_are_each_others_parents_are_both_there() -> None:
    calls = resolve([call("a", "b", model="gpt-5.1"), call("b", "a", model="gpt-4o")])
    assert counted(calls) == ["a", "b"]


@pytest.mark.parametrize("named", [None, "my-trace"])
def test_the_ancestor_that_the_processor_set_is_used(named: str | None) -> None:
    context = CallContext(parent_id=TRACE, trace_name=named)
    [resolved] = resolve([call("x", "remote", context=context)])
    assert resolved.context.parent_id == (named or TRACE)


def test_children_of_a_merged_span_hang_from_the_one_that_remains() -> None:
    tool = agent("tool", "c", kind=Kind.TOOL)
    spans = [*THREE_SPANS["nested"], tool]
    assert place_of(resolve(spans), "tool") == "a"
    assert place_of(in_batches([spans[:3], [tool]]), "tool") == "a"


def test_the_processors_ancestor_is_replaced_if_it_was_merged() -> None:
    spans = [*TWINS["nested"], agent("tool", "select", context=under("b"))]
    assert place_of(resolve(spans), "tool") == "a"


# --- the conversation of a trace ---


def _round(number: int, **changes: Any) -> ModelCall:
    return call(
        f"round {number}",
        "bob",
        at=number * 1000,
        until=number * 1000 + 900,
        **{
            "input": [*message("Be short.", role="system"), *message(f"question {number}")],
            "output": message(f"answer {number}", role="assistant"),
            **changes,
        },
    )


@pytest.mark.parametrize("arranged", THREE.values(), ids=THREE)
def test_a_root_without_words_has_the_first_input_and_the_last_output(arranged: Arranged) -> None:
    batches = arranged([_round(1), _round(2), _round(3)])
    root = in_batches([*batches, [agent("bob")]])[-1]
    assert (root.input_state, root.output_state) == ("question 1", "answer 3")


@pytest.mark.parametrize(
    "own",
    [
        {"input_state": "its own", "output_state": "its own"},
        {"input": message("its own"), "output": message("its own")},
    ],
)
def test_a_root_that_tells_something_keeps_it(own: dict[str, Any]) -> None:
    root = agent("bob", **own)
    [_, resolved_root] = resolve([_round(1), root])
    assert resolved_root == root


def test_an_agent_within_another_gets_no_words() -> None:
    inner = agent("alice", "bob")
    calls = resolve([_round(1), inner, agent("bob")])
    assert [each.input_state for each in calls] == [None, None, "question 1"]


def test_roots_of_other_traces_get_no_words() -> None:
    calls = in_batches([[_round(1)], [agent("carol", trace_id="f" * 32)]])
    assert calls[-1].input_state is None


def test_long_words_are_cut() -> None:
    long = message("x" * 100_000)
    root = in_batches([[_round(1, input=long, output=long)], [agent("bob")]])[-1]
    assert (root.input_state, root.output_state) == ("x" * MAX_TEXT, "x" * MAX_TEXT)


def test_a_root_shows_nothing_of_a_private_call() -> None:
    spans = [_round(1, context=CallContext(privacy_mode=True)), agent("bob")]
    assert "question 1" not in str(PIPELINE.events(resolve(spans)))


def test_the_first_agent_below_a_server_span_is_the_trace() -> None:
    """PostHog names a trace after one of its roots, and shows no root inside the trace."""
    spans = [
        _round(1),
        agent("bob", "app", context=under(TRACE)),
        agent("carol", "app", at=5000, context=under(TRACE)),
        agent("dave", "bob", context=under("bob")),
    ]
    for batches in ([spans], [[*reversed(spans)]], [[each] for each in spans]):
        calls_by_id = {call.span_id: call for call in in_batches(batches)}
        assert [each for each in calls_by_id if calls_by_id[each].parent_id is None] == ["bob"]
        assert calls_by_id["carol"].context.parent_id == TRACE
        assert calls_by_id["bob"].input_state == "question 1"
    sent = PIPELINE.events(resolve(spans))
    events = {
        event["properties"]["$ai_span_id"]: event["event"] for event in sent if event["event"][0] == "$"
    }
    assert events == {
        "round 1": "$ai_generation",
        "bob": "$ai_trace",
        "carol": "$ai_span",
        "dave": "$ai_span",
    }


@pytest.mark.parametrize("flushed", [False, True])
def test_the_head_of_a_trace_has_the_texts_below_it_and_none_of_its_siblings(flushed: bool) -> None:
    def round_of(name: str, at: int) -> list[ModelCall]:
        question, answer = message(f"in {name}"), message(f"out {name}", role="assistant")
        place = under(f"tool {name}")
        return [
            call(
                name * 2, f"tool {name}", at=at, until=at + 50, context=place, input=question, output=answer
            ),
            agent(f"tool {name}", name, at=at, kind=Kind.TOOL, context=under(name)),
            agent(name, "app", at=at, context=under(TRACE)),
        ]

    spans = [*round_of("bob", 0), *round_of("carol", 100)]
    batches = [[each] for each in spans] if flushed else [spans]
    calls_by_id = {each.span_id: each for each in in_batches(batches)}
    assert calls_by_id["bob"].parent_id is None
    assert (calls_by_id["bob"].input_state, calls_by_id["bob"].output_state) == ("in bob", "out bob")


def test_each_trace_of_the_applications_own_has_a_head() -> None:
    def context(name: str) -> CallContext:
        return CallContext(parent_id=TRACE, trace_name=name)

    spans = [agent(name, "app", context=context(f"ticket {name}")) for name in ("a", "b")]
    again = agent("c", "app", trace_id="f" * 32, at=900, context=context("ticket a"))
    parent_ids = {each.span_id: each.parent_id for each in in_batches([spans, [again]])}
    assert parent_ids == {"a": None, "b": None, "c": "app"}


@pytest.mark.parametrize("kind", [Kind.TOOL, Kind.RETRIEVAL, Kind.SPAN, Kind.TASK])
def test_a_step_below_a_server_span_is_no_trace(kind: Kind) -> None:
    [resolved] = resolve([agent("bob", "app", kind=kind, context=under(TRACE))])
    assert resolved.parent_id == "app"


def test_an_agent_below_a_span_that_may_still_arrive_is_no_root() -> None:
    [resolved] = resolve([agent("bob", "app")])
    assert resolved.parent_id == "app"


# --- once more ---


@pytest.mark.parametrize("arranged", TWO.values(), ids=TWO)
def test_spans_that_come_a_second_time_give_the_same_events(arranged: Arranged) -> None:
    outer = make_view(span_id="a" * 16, parent_id="c" * 16)
    inner = make_view(span_id="b" * 16, parent_id="a" * 16, scope="httpx", start_ns=START + MS)
    names = {view.span_id: view for view in (outer, inner)}
    order = arranged([call("a" * 16), call("b" * 16)])
    history = SpanHistory()

    def once() -> list[tuple[str, str]]:
        return sorted(
            (event["uuid"], event["event"])
            for batch in order
            for event in PIPELINE.finished_events(*(names[each.span_id] for each in batch), history=history)
        )

    first = once()
    assert len(set(first)) == len(first)
    assert [once(), once()] == [first, first]


# --- bounds ---


def test_a_bounded_number_of_spans_and_traces_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MAX_SPANS", 20)
    monkeypatch.setattr(history_module, "MAX_TRACES", 10)
    monkeypatch.setattr(trace_root, "MAX_TRACES", 10)
    monkeypatch.setattr(trace_root, "MAX_TEXTS", 10)
    history = SpanHistory()
    for number in range(100):
        trace = format(number, "032x")
        root = agent(f"root {number}", trace_id=trace)
        chat = call(f"chat {number}", root.span_id, input=message("a"), output=message("b"), trace_id=trace)
        request = call(f"request {number}", f"app {number}", may_go_on=True, trace_id=trace)
        resolve([chat, root, request], history)
    assert len(history) == 20
    assert len(history.children) <= 20
    assert (len(history.first_inputs), len(history.last_outputs), len(history.open_streams)) == (10, 10, 10)


def test_a_span_that_comes_again_and_again_takes_no_more_room() -> None:
    history = SpanHistory()
    for _ in range(10):
        resolve([call("a")], history)
    assert sum(len(each) for each in history.children.values()) == 1


def test_below_a_span_of_very_many_calls_twins_are_still_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MAX_SPANS", 20)
    history = SpanHistory()
    for number in range(30):
        resolve([call(f"call {number}", "app", at=number * 2000, until=number * 2000 + 1000)], history)
    late = [call("a", at=100_000, until=101_000), call("b", scope="httpx", at=100_001, until=100_999)]
    resolved = [each for one in late for each in resolve([one], history)]
    assert counted(resolved) == ["a"]


# --- anything ---

IDS = "abcdefgh"
KINDS = st.sampled_from([Kind.GENERATION] * 4 + [Kind.EMBEDDING, Kind.AGENT, Kind.TOOL])
TIMES = st.integers(0, 120)


@st.composite
def _trees(draw: st.DrawFn, *, distinct: bool = False) -> list[ModelCall]:
    """Draw calls with any parents, loops included; with `distinct`, no two begin or end at the same time."""
    number = draw(st.integers(1, len(IDS)))
    starts = draw(st.lists(TIMES, min_size=number, max_size=number, unique=distinct))
    lengths = draw(st.lists(TIMES, min_size=number, max_size=number))
    calls = []
    for span_id, at, lasts in zip(IDS, starts, lengths, strict=False):
        parent = draw(st.none() | st.sampled_from([*IDS[:number], "app", "select", "loop"]))
        base = call(
            span_id,
            parent,
            scope=draw(st.sampled_from(["openai", "httpx", "gateway"])),
            at=at,
            until=at + lasts,
            model=draw(st.none() | st.sampled_from(["gpt-5.1", "gpt-5.1-2025-11-13", "gpt-4o"])),
            kind=draw(KINDS),
            response_id=draw(st.none() | st.sampled_from(["r1", "r2"])),
            error=draw(st.none() | st.just(FAILED)),
            parameters={span_id: True},
        )
        calls.append(base._replace(end_ns=draw(st.sampled_from([base.end_ns, base.end_ns, None]))))
    return calls


SOME_PARENTS = st.sampled_from(
    [None, {(TRACE, "select"): "a", (TRACE, "loop"): "loop"}, {(TRACE, "select"): None}]
)


@given(calls=_trees(), parents=SOME_PARENTS)
def test_every_span_of_any_tree_is_in_exactly_one_call(
    calls: list[ModelCall], parents: Parents | None
) -> None:
    resolved = resolve(calls, parents=parents)
    shown = [span_id for each in resolved for span_id in each.parameters]
    assert sorted(shown) == [each.span_id for each in calls]
    assert all(each.span_id in each.parameters for each in resolved)


@given(calls=_trees(), cut=st.integers(0, len(IDS)), parents=SOME_PARENTS)
def test_no_tree_has_more_calls_than_spans_or_ids_of_nobody(
    calls: list[ModelCall], cut: int, parents: Parents | None
) -> None:
    resolved = in_batches([calls[:cut], calls[cut:]], parents=parents)
    ids = [each.span_id for each in resolved]
    assert len(set(ids)) == len(ids)
    assert set(counted(resolved)) <= set(counted(calls))
    assert len(counted(resolved)) >= bool(counted(calls))
    known = {each.span_id for each in calls} | {each.parent_id for each in calls} | {TRACE, None}
    assert {each.context.parent_id for each in resolved} <= known | {span_id for _, span_id in parents or {}}


@given(calls=_trees())
def test_no_call_is_below_itself_or_a_span_that_was_united(calls: list[ModelCall]) -> None:
    resolved = resolve(calls)
    own = {each.span_id for each in calls}
    remaining = {each.span_id for each in resolved}
    for each in resolved:
        place = each.context.parent_id
        assert place != each.span_id
        assert place not in own - remaining


@given(some=_trees(), others=_trees())
def test_a_trace_is_resolved_alike_after_another_one_with_its_span_ids(
    some: list[ModelCall], others: list[ModelCall]
) -> None:
    some = [each._replace(input=message("ours"), output=message("ours")) for each in some]
    others = [
        each._replace(
            trace_id="0123" * 8, input=message("theirs"), output=message("theirs"), response_id=None
        )
        for each in others
    ]
    assert in_batches([others, some])[-len(resolve(some)) :] == resolve(some)


@given(calls=_trees(), traces=st.lists(st.booleans(), min_size=len(IDS), max_size=len(IDS)))
def test_a_trace_is_resolved_alike_beside_another_one_with_its_span_ids(
    calls: list[ModelCall], traces: list[bool]
) -> None:
    other = [each._replace(trace_id="0123" * 8, response_id=None) for each in calls]
    mixed = [
        each
        for mine, theirs, is_first in zip(calls, other, traces, strict=False)
        for each in ((mine, theirs) if is_first else (theirs, mine))
    ]
    resolved = resolve(mixed)
    assert [each for each in resolved if each.trace_id == TRACE] == resolve(calls)
    assert [each for each in resolved if each.trace_id != TRACE] == resolve(other)


IN_ONE = [
    call("a"),
    call("b", "a", scope="httpx", at=1, until=999, provider="azure"),
    call("c", "a", scope="gateway", at=2, until=998, provider="openai"),
]


@given(calls=_trees(distinct=True), order=st.permutations(range(len(IDS))))
@example(calls=IN_ONE, order=[2, 1, 0])
def test_the_order_within_a_batch_makes_no_difference(calls: list[ModelCall], order: list[int]) -> None:
    shuffled = [calls[which] for which in order if which < len(calls)]

    def by_id(calls: list[ModelCall]) -> list[ModelCall]:
        return sorted(calls, key=lambda each: each.span_id)

    assert by_id(resolve(shuffled)) == by_id(resolve(calls))


def test_the_order_makes_no_difference_with_a_coarse_clock() -> None:
    one, other = call("a"), call("b", scope="httpx")
    assert counted(resolve([one, other])) == counted(resolve([other, one]))


@st.composite
def _calls_seen_by_several(draw: st.DrawFn, *, most: int) -> tuple[int, list[ModelCall]]:
    """Draw overlapping calls, each seen by up to `most` instrumentors; return their number and the spans."""
    number = draw(st.integers(1, 4))
    spans: list[ModelCall] = []
    for which in range(number):
        scopes = draw(st.permutations(["openai", "httpx", "gateway"]))[: draw(st.integers(1, most))]
        nested = draw(st.booleans())
        at, lasts = draw(TIMES), draw(st.integers(10, 100))
        above = draw(st.sampled_from(["app", "bob"]))
        for depth, scope in enumerate(scopes):
            span_id = f"{which}{depth}"
            base = call(span_id, above, scope=scope, at=at + depth, until=at + lasts - depth)
            spans.append(base._replace(response_id=f"r{which}", parameters={span_id: True}))
            above = span_id if nested else above
    return number, [*spans, agent("bob", "app")]


@given(number_and_spans=_calls_seen_by_several(most=3), data=st.data())
def test_each_call_that_several_saw_is_counted_once(
    number_and_spans: tuple[int, list[ModelCall]], data: Any
) -> None:
    number, spans = number_and_spans
    resolved = resolve(data.draw(st.permutations(spans)))
    assert len(counted(resolved)) == number
    for each in resolved:
        assert {span_id[0] for span_id in each.parameters} <= {each.span_id[0]}


@given(number_and_spans=_calls_seen_by_several(most=2), data=st.data())
def test_each_call_that_two_saw_is_counted_once_however_batches_are_cut(
    number_and_spans: tuple[int, list[ModelCall]], data: Any
) -> None:
    number, spans = number_and_spans
    waiting = [*data.draw(st.permutations(spans))]
    batches = []
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batches.append(waiting[:size])
        del waiting[:size]
    assert len(counted(in_batches(batches))) == number
