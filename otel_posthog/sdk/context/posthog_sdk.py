"""What the `posthog` package knows of whose work is being done: its contexts, as span attributes.

`posthog.new_context()`, `identify_context`, `set_context_session`, `tag`, and its Django and ASGI middleware
say user, replay session and tags; who has them need not say so again. Only asked where the application has
loaded that package itself.
"""

from __future__ import annotations

import sys
from typing import Any

from otel_posthog.conversion.context_attributes import CONTEXT, PROPERTY

__all__ = ["posthog_attributes"]

_USER, _SESSION = CONTEXT["distinct_id"][0], CONTEXT["session_id"][0]
_PLAIN = (str, bool, int, float)


def posthog_attributes() -> dict[str, Any]:
    """The attributes that the `posthog` context in force stands for; none where there is none."""
    contexts = sys.modules.get("posthog.contexts")
    if contexts is None:
        return {}
    found = {
        PROPERTY + str(name): value
        for name, value in contexts.get_tags().items()
        if isinstance(value, _PLAIN)
    }
    for attribute, said in (
        (_USER, contexts.get_context_distinct_id()),
        (_SESSION, contexts.get_context_session_id()),
    ):
        if said:
            found[attribute] = str(said)
    return found
