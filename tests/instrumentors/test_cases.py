"""Every case of the table through the real client: first without instrumentation, then with.

The application's results and requests do not change, and the spans are those that the case names. Beside a
neighbour (see `neighbours`), one model call is ours or adopted per expected span, and results are the same as
with the neighbour alone.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google import genai
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from instrumentors import GeminiInstrumentor, OpenAIInstrumentor
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from tests.instrumentors.cases import Case, Expected
from tests.instrumentors.cases import gemini as of_gemini
from tests.instrumentors.cases import openai as of_openai
from tests.instrumentors.neighbours import BESIDE, FIRST, switch_on
from tests.instrumentors.provider import Provider, ReceivedRequest
from tests.instrumentors.recording import Recorder, attributes, outcome, wire

if TYPE_CHECKING:
    from otel_posthog.demo.fake_providers import FakeProviders

_SDKS: dict[str, tuple[str, Any, dict[str, Case]]] = {
    "openai": ("openai", OpenAIInstrumentor, of_openai.CASES),
    "gemini": ("google-genai", GeminiInstrumentor, of_gemini.CASES),
}


def _available() -> Iterator[Any]:
    for sdk, (distribution, instrumentor, cases) in _SDKS.items():
        if BESIDE is not None and BESIDE.sdk != sdk:
            continue
        major, minor = (int(digits) for digits in version(distribution).split(".")[:2])
        for name, case in cases.items():
            if case.since <= (major, minor):
                yield pytest.param(sdk, instrumentor, case, id=f"{sdk}: {name}")


class _Counted(SpanProcessor):
    """The spans that are open."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.open[span.context.span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None:
            del self.open[span.context.span_id]  # once; a second end is a KeyError


class _Company(NamedTuple):
    """Our instrumentor and a neighbour, switched on once: some neighbours cannot be switched off again."""

    recorder: Recorder
    ours: Any


@pytest.fixture(scope="session")
def company() -> Iterator[_Company | None]:
    if BESIDE is None:
        yield None
        return
    recorder, ours = Recorder(), _SDKS[BESIDE.sdk][1]()
    if BESIDE.sdk == "gemini":  # imports the SDK's interactions, so that they exist when ours is off
        _ = genai.Client(api_key="x").interactions if hasattr(genai.Client, "interactions") else None
    if FIRST:
        switch_on(BESIDE, recorder.provider)
    ours.instrument(tracer_provider=recorder.provider)
    if not FIRST:
        switch_on(BESIDE, recorder.provider)
    yield _Company(recorder, ours)
    ours.uninstrument()


@pytest.mark.parametrize(("sdk", "instrumentor", "case"), list(_available()))
def test_a_call_is_one_right_span_and_changes_nothing(
    sdk: str,
    instrumentor: Callable[[], Any],
    case: Case,
    standin: FakeProviders,
    standin_requests: list[ReceivedRequest],
    provider: Provider,
    company: _Company | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scripted = bool(case.responses) or not case.spans
    url = provider.url if scripted else getattr(standin, f"{sdk}_base_url")

    def play() -> tuple[Any, Any]:
        provider.play(*case.responses)
        standin_requests.clear()
        result = outcome(lambda: case.run(url))
        gc.collect()
        return result, wire(provider.seen if scripted else standin_requests)

    if company is not None:
        _beside(company, case, play)
        return
    recorder, counted = Recorder(), _Counted()
    recorder.provider.add_span_processor(counted)
    baseline = play()
    instrumentor().instrument(tracer_provider=recorder.provider)
    try:
        before = context.get_current()
        with recorder.tracer.start_as_current_span("caller") as caller:
            assert play() == baseline
        assert context.get_current() == before
    finally:
        instrumentor().uninstrument()
    *spans, last = recorder.spans()
    assert last.name == "caller"
    assert counted.open == {}
    records = [
        record for record in caplog.records if record.name.startswith(("otel_posthog", "opentelemetry"))
    ]
    assert [record for record in records if record.levelno >= logging.WARNING] == []
    assert all(span.parent and span.parent.span_id == caller.get_span_context().span_id for span in spans)
    _as_expected(spans, case.spans)


def _beside(company: _Company, case: Case, play: Callable[[], Any]) -> None:
    company.ours._patches.active = False  # the neighbour alone
    baseline = play()
    company.ours._patches.active = True
    company.recorder.spans()
    played = play()
    raised = isinstance(baseline[0], tuple) and isinstance(baseline[0][0], type)
    if raised and (not any(one.error for one in case.spans) or issubclass(baseline[0][0], _NOT_OF_SDKS)):
        return  # the neighbour breaks the user's code all by itself
    assert played[0] == baseline[0]
    calls = [span for span in company.recorder.spans() if _is_model_call(span)]
    calls.sort(key=lambda span: span.start_time or 0)  # a neighbour's may be around the next
    expected = [one for one in case.spans if not one.name.startswith(_NO_CALLS)]
    if expected:  # a neighbour may report other requests as it likes
        _as_expected(calls, expected)


_NOT_OF_SDKS = (TypeError, AttributeError)
"""Errors of a neighbour that expects another answer, as Logfire does; no SDK raises them."""
_NO_CALLS = ("moderation", "invoke_agent")
"""Operations whose spans are no calls to a model."""


def _is_model_call(span: ReadableSpan) -> bool:
    view = view_of_sdk_span(span)
    return view is not None and read_call(view).kind.is_model_call


def _as_expected(spans: Sequence[ReadableSpan], expected: Sequence[Expected]) -> None:
    assert [span.name for span in spans] == [one.name for one in expected]
    for span, one in zip(spans, expected, strict=True):
        _is(span, one)


def _is(span: ReadableSpan, expected: Expected) -> None:
    span_attributes = attributes(span)
    assert {key: span_attributes.get(key) for key in expected.attributes} == dict(expected.attributes)
    absent = expected.absent if BESIDE is None else {"error.type"}.intersection(expected.absent)
    assert [key for key in absent if key in span_attributes] == []
    assert span.status.status_code is (StatusCode.ERROR if expected.error else StatusCode.UNSET)
    assert span.kind is SpanKind.CLIENT
    if span_attributes.get("gen_ai.request.stream") and "gen_ai.response.id" in span_attributes:
        assert span_attributes["gen_ai.response.time_to_first_chunk"] > 0
        assert span_attributes["posthog.stream.duration"] > 0
