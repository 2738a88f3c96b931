"""The table of operations, and what follows from it."""

from __future__ import annotations

import ast
import inspect
import textwrap

import pytest

from instrumentors.gemini import endpoints as of_gemini
from instrumentors.gemini import imagen, interactions_payload, live
from instrumentors.openai import endpoints as of_openai
from otel_posthog.conversion.model_call import Kind
from otel_posthog.conversion.operations import OPERATIONS, SAFE_OPERATIONS
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.conversion.spans.genai_detection import looks_like_model_call
from tests.support.spans import make_view

PRIVATE = Pipeline(families=frozenset({"ai", "llm_completion"}), content=False)


def returned_texts(function: object) -> set[str]:
    """Return the texts that stand in the return statements of a function."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    returns = [node for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    nodes = [
        branch
        for node in returns
        for branch in ([node.value.body] if isinstance(node.value, ast.IfExp) else [node.value])
    ]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


EMITTED = sorted(
    {endpoint.operation for endpoint in of_openai.ENDPOINTS.values()}
    | {endpoint.operation for endpoint in of_gemini.ENDPOINTS.values()}
    | returned_texts(imagen.find_operation)
    | {interactions_payload.OPERATION, interactions_payload._AGENT, live.OPERATION}
)
"""Operations of our instrumentors."""


def test_the_instrumentors_emit_what_was_collected() -> None:
    assert {"chat", "image_upscale", "image_recontext", "image_segmentation", "image_edit"} <= {*EMITTED}


@pytest.mark.parametrize("operation", EMITTED)
def test_every_operation_that_our_instrumentors_emit_is_in_the_table(operation: str) -> None:
    assert operation in OPERATIONS, f"add {operation!r} to otel_posthog/conversion/operations.py"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_table_decides_the_kind(operation: str) -> None:
    kind = read_call(make_view(only={"gen_ai.operation.name": operation})).kind
    assert kind is OPERATIONS[operation]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_running_span_looks_like_a_model_call_if_its_operation_is_one(operation: str) -> None:
    assert looks_like_model_call({"gen_ai.operation.name": operation}) is OPERATIONS[operation].is_model_call


@pytest.mark.parametrize("operation", [name for name, kind in OPERATIONS.items() if kind.is_model_call])
def test_hidden_content_keeps_the_operation(operation: str) -> None:
    events = PRIVATE.finished_events(make_view({"gen_ai.operation.name": operation}))
    metadata = [event["properties"]["metadata"] for event in events if "metadata" in event["properties"]]
    assert [each["operation"] for each in metadata] == [operation, operation]


def test_labels_of_kinds_and_operations_may_leave() -> None:
    assert {*OPERATIONS, *(kind.label for kind in Kind)} <= SAFE_OPERATIONS
