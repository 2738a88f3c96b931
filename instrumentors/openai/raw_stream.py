"""Streams that the SDK did not read: the events of a body that the user read as text."""

from __future__ import annotations

import json
from collections.abc import KeysView
from typing import Any

from instrumentors.common.call_span import Attributes
from instrumentors.common.streams import StreamAccumulator

__all__ = ["events_facts"]


class _Event(dict[str, Any]):
    """An object of JSON that can be read like the SDK's own."""

    __slots__ = ()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self

    @property
    def __pydantic_fields_set__(self) -> KeysView[str]:
        return self.keys()


def events_facts(body: bytes, gather: StreamAccumulator, content: bool, *, complete: bool) -> Attributes:
    """Give what the events add up to; the SDK raises an error where one says so, and so does the span."""
    failed: Attributes = {}
    for data in _events(body):
        if data.startswith("[DONE]"):
            complete = True
            break
        try:
            event = json.loads(data, object_hook=_Event)
        except ValueError:  # the last one of a body that broke off
            continue
        if not isinstance(event, _Event):
            continue
        if error := event.get("error"):
            message = error.get("message") if isinstance(error, dict) else None
            failed = {"error.type": "APIError", "error.message": message if content else None}
            break
        gather.add(event)
    return {**gather.facts(content, complete and not failed), **failed}


def _events(body: bytes) -> list[str]:
    found = []
    lines: list[str] = []
    for line in [*body.decode(errors="replace").replace("\r\n", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            found.append("\n".join(lines))
            lines = []
    return found
