"""The table of cases: what a user's code does with a real client, and the spans that it is to leave.

`openai.CASES` and `gemini.CASES` are run by `test_cases.py`: each first without instrumentation, which gives
the result and the requests that must come out again, then with. The same tables run against the oldest and
the newest version of each SDK, and beside every neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.instrumentors.provider import Reply

__all__ = ["Case", "Expected", "Reply"]


class Expected(NamedTuple):
    """One span: its name, attributes among others, attributes it must not have, and how the call ended."""

    name: str
    says: Mapping[str, Any] = {}
    lacks: Sequence[str] = ()
    error: bool = False
    """Whether its status is ERROR; `says` then names `error.type`."""


class Case(NamedTuple):
    """What the user's code does, and what it leaves."""

    run: Callable[[Any], Any]
    """Takes the URL of the service, makes its own real client, and gives something that can be compared.

    An exception is a result, too.
    """
    spans: Sequence[Expected]
    """In the order in which they end. None for a call that is nobody's concern."""
    replies: Sequence[Reply] = ()
    """What the scripted service plays, in this order; without any, the demo's stand-in answers."""
    since: tuple[int, int] = (0, 0)
    """The first version of the SDK that can do this; older ones do not have the case."""
