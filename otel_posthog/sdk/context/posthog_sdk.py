"""The contexts of the `posthog` package as span attributes.

`posthog.new_context()`, `identify_context`, `set_context_session`, `tag`, and its Django and ASGI middleware
set user, replay session and tags, which then need not be repeated. They are read only if the application has
loaded that package.
"""

from __future__ import annotations

import sys
from typing import Any

from otel_posthog.conversion.context_attributes import CONTEXT, PROPERTY

__all__ = ["posthog_attributes"]

_USER, _SESSION = CONTEXT["distinct_id"][0], CONTEXT["session_id"][0]
_PLAIN = (str, bool, int, float)


def posthog_attributes() -> dict[str, Any]:
    """Return the attributes of the `posthog` context in force, or none."""
    contexts = sys.modules.get("posthog.contexts")
    if contexts is None:
        return {}
    attributes = {
        PROPERTY + str(name): value
        for name, value in contexts.get_tags().items()
        if isinstance(value, _PLAIN)
    }
    for attribute, value in (
        (_USER, contexts.get_context_distinct_id()),
        (_SESSION, contexts.get_context_session_id()),
    ):
        if value:
            attributes[attribute] = str(value)
    return attributes
