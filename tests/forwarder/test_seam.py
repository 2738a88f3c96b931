"""The forwarder is the seam: fronts call its methods, and its parts are its own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import otel_posthog
from otel_posthog.conversion import pipeline
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.forwarder import forwarder
from tests.support.spans import make_view

PACKAGE = Path(otel_posthog.__file__).parent
PARTS = {"_config", "_pipeline", "_converter", "_client", "_backlog", "_outbox", "_mask_hook"}
FRONTS = sorted(
    path.relative_to(PACKAGE).as_posix()
    for room in ("cli", "demo", "doctor", "frameworks", "gateway", "local", "sdk")
    for path in (PACKAGE / room).rglob("*.py")
)


def reached(source: str) -> list[str]:
    """Return the parts of a forwarder that the source reaches for, each with its line."""
    return [
        f"line {node.lineno}: .{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in PARTS
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]


@pytest.mark.parametrize("module", FRONTS)
def test_no_front_reaches_through_the_forwarder(module: str) -> None:
    assert reached((PACKAGE / module).read_text(encoding="utf-8")) == []


def test_a_reach_through_the_forwarder_is_found() -> None:
    assert reached("self.forwarder._outbox.flush(1)") == ["line 1: ._outbox"]


def test_every_part_of_a_forwarder_is_private_and_looked_for() -> None:
    built = forwarder({"api_key": "phc_x", "mask": lambda value, _path, _event: value}, environ={})
    assert {
        name for name, value in vars(built).items() if type(value).__module__.startswith("otel_posthog.")
    } == PARTS
    built.close(0.0)


def test_each_conversion_counts_the_spans_that_it_could_not_convert(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [make_view(span_id=digit * 16) for digit in "abc"]

    def read(view: SpanView) -> Any:
        if view is views[1]:
            raise ZeroDivisionError
        return read_call(view)

    monkeypatch.setattr(pipeline, "read_call", read)
    built = forwarder({"api_key": "phc_x"}, environ={})
    assert [built.convert(some, []).failed for some in (views, views[:2], views[:1])] == [1, 1, 0]
    assert built.stats()["spans"]["failed to convert"] == 2
    built.close(0.0)
