"""The table of cases: a use of a real client, and the spans that it must leave.

`test_cases.py` runs `openai.CASES` and `gemini.CASES`: each first without instrumentation, for the result and
the requests that must not change, then with. The same tables run against the oldest and
the newest version of each SDK, and beside every neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.instrumentors.provider import ScriptedResponse

__all__ = ["Case", "Expected", "ScriptedResponse"]


class Expected(NamedTuple):
    """One span: its name, attributes among others, attributes it must not have, and how the call ended."""

    name: str
    attributes: Mapping[str, Any] = {}
    absent: Sequence[str] = ()
    error: bool = False
    """Whether its status is ERROR; `attributes` then names `error.type`."""


class Case(NamedTuple):
    """A use of the SDK, and the spans that it leaves."""

    run: Callable[[Any], Any]
    """Takes the URL of the service, makes its own real client, and returns a result that can be compared.

    An exception is a result, too.
    """
    spans: Sequence[Expected]
    """In the order in which they end. None if it calls no model."""
    responses: Sequence[ScriptedResponse] = ()
    """The scripted service's responses, in this order; without any, the demo's fake providers respond."""
    since: tuple[int, int] = (0, 0)
    """The first version of the SDK that can do this; older ones do not have the case."""
