from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.conversion.spans.feature_rules import FeatureRules
from otel_posthog.conversion.spans.inheritance import inherit_context
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from tests.support.spans import CHAT, make_view

TRACE = "a" * 32


def context_span(
    span_id: str, parent_id: str | None, trace_id: str = TRACE, **attributes: Any
) -> ContextSpan:
    return ContextSpan(
        trace_id, span_id, parent_id, {"posthog." + name: each for name, each in attributes.items()}
    )


def chat(span_id: str, parent_id: str | None, **attributes: Any) -> SpanView:
    context = {"posthog." + name: value for name, value in attributes.items()}
    return make_view({**CHAT, **context}, trace_id=TRACE, span_id=span_id, parent_id=parent_id)


def feature(view: SpanView) -> Any:
    return view.attributes.get("posthog.feature")


def test_a_feature_is_inherited_through_genai_spans_and_others() -> None:
    deep, agent = chat("4", "3"), chat("2", "1")
    inherit_context([deep, agent], [context_span("1", None, feature="tldr"), context_span("3", "2")])
    assert [feature(deep), feature(agent)] == ["tldr", "tldr"]


def test_the_nearest_span_wins_and_the_own_attribute_before_it() -> None:
    near, own = chat("3", "2"), chat("4", "2", feature="mine")
    inherit_context(
        [near, own], [context_span("1", None, feature="far"), context_span("2", "1", feature="near")]
    )
    assert [feature(near), feature(own)] == ["near", "mine"]


def test_a_user_under_another_name_stays() -> None:
    call = chat("2", "1")
    call.attributes["user.id"] = "u_2"
    inherit_context([call], [context_span("1", None, distinct_id="u_1")])
    assert "posthog.distinct_id" not in call.attributes


@pytest.mark.parametrize("prefix", ["group.", "property.", "flag."])
def test_groups_properties_and_flags_add_up(prefix: str) -> None:
    call = make_view({**CHAT, f"posthog.{prefix}b": "own"}, trace_id=TRACE, span_id="2", parent_id="1")
    above = {f"posthog.{prefix}a": "x", f"posthog.{prefix}b": "y"}
    inherit_context([call], [ContextSpan(TRACE, "1", None, above)])
    assert call.attributes[f"posthog.{prefix}a"] == "x"
    assert call.attributes[f"posthog.{prefix}b"] == "own"


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_blank_does_not_count(blank: Any) -> None:
    call = chat("2", "1", privacy_mode=blank)
    call.attributes["user.id"] = blank
    inherit_context([call], [context_span("1", None, privacy_mode=True, distinct_id="u_1")])
    assert call.attributes["posthog.privacy_mode"] is True
    assert call.attributes["posthog.distinct_id"] == "u_1"


def test_an_explicit_no_to_privacy_stays() -> None:
    call = chat("2", "1", privacy_mode=False)
    inherit_context([call], [context_span("1", None, privacy_mode=True)])
    assert call.attributes["posthog.privacy_mode"] is False


RULES = FeatureRules([("http.route", "*", "route"), ("code.function.name", "*", "function")])
ROUTE, FUNCTION = {"http.route": "/"}, {"code.function.name": "f"}


@pytest.mark.parametrize(
    ("server", "between", "own", "expected"),
    [
        ({"posthog.feature": "given"}, FUNCTION, {}, "given"),
        (ROUTE, FUNCTION, {}, "route"),
        ({}, FUNCTION, {}, "function"),
        ({}, {}, FUNCTION, "function"),
        ({}, {}, {}, None),
        (ROUTE, {}, {"posthog.feature": "mine"}, "mine"),
    ],
)
def test_rules_find_the_feature_as_the_processor_does(
    server: dict[str, str], between: dict[str, str], own: dict[str, str], expected: str | None
) -> None:
    call = make_view({**CHAT, **own}, trace_id=TRACE, span_id="3", parent_id="2")
    inherit_context(
        [call], [ContextSpan(TRACE, "1", None, server), ContextSpan(TRACE, "2", "1", between)], RULES
    )
    assert feature(call) == expected


def test_a_root_has_the_feature_of_its_own_attributes() -> None:
    call = make_view({**CHAT, **FUNCTION}, trace_id=TRACE, parent_id=None)
    inherit_context([call], (), RULES)
    assert feature(call) == "function"


def test_one_id_in_another_trace_is_another_span() -> None:
    call = chat("2", "1")
    inherit_context([call], [context_span("1", None, trace_id="b" * 32, feature="theirs")])
    assert feature(call) is None


IDS = st.sampled_from(["1", "2", "3", "4", "5"])
PARENTS = st.none() | IDS


@given(
    parents=st.dictionaries(IDS, PARENTS),
    genai=st.sets(IDS),
    features=st.dictionaries(IDS, st.sampled_from(["x", "y"])),
    data=st.data(),
)
def test_spans_of_any_graph_inherit_the_same_in_any_order(
    parents: dict[str, str | None], genai: set[str], features: dict[str, str], data: st.DataObject
) -> None:
    """Circles are possible; without them each span has the feature of the nearest span above."""

    def inherited(order: list[str]) -> dict[str, Any]:
        context = {each: {"feature": features[each]} if each in features else {} for each in order}
        views = {each: chat(each, parents[each], **context[each]) for each in order if each in genai}
        others = [context_span(each, parents[each], **context[each]) for each in order if each not in genai]
        inherit_context([*views.values()], others)
        return {span_id: feature(view) for span_id, view in views.items()}

    order = sorted(parents)
    result = inherited(order)
    for span_id, got in result.items():
        step: str | None = span_id
        passed: set[str] = set()
        while step is not None and step in parents and step not in passed and step not in features:
            passed.add(step)
            step = parents[step]
        if step is None or step not in passed:  # no circle
            assert got == features.get(step or "") if step in parents else got is None
    if all(_ends(span_id, parents) for span_id in parents):
        assert inherited(data.draw(st.permutations(order))) == result


def _ends(span_id: str, parents: dict[str, str | None]) -> bool:
    step: str | None = span_id
    for _ in range(len(parents) + 1):
        if step is None or step not in parents:
            return True
        step = parents[step]
    return False
