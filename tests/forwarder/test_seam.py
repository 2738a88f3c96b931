"""The forwarder is the seam: fronts call its methods, and its parts are its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import otel_posthog

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
