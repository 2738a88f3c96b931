"""Streams that the SDK did not parse: the events of a body that the application read as bytes or text."""

from __future__ import annotations

import json
import re
from collections.abc import KeysView
from typing import Any

from instrumentors.common.call_span import Attributes, read_piece
from instrumentors.common.sse import event_data
from instrumentors.common.streams import StreamAccumulator


class _JsonObject(dict[str, Any]):
    """An object of JSON that accumulators can read like the SDK's own objects."""

    __slots__ = ()

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self

    @property
    def __pydantic_fields_set__(self) -> KeysView[str]:
        return self.keys()


_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')
_END_OF_EVENT = re.compile(rb"\r?\n\r?\n")


class UsageHider:
    """The events of a raw stream without the usage that the application did not ask for."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the events that are whole by now."""
        whole = b""
        self._rest += piece
        while (end := _END_OF_EVENT.search(self._rest)) is not None:
            whole += self._shown(self._rest[: end.end()])
            self._rest = self._rest[end.end() :]
        return whole

    def flush(self) -> bytes:
        """Return what is left at the end."""
        rest, self._rest = self._rest, b""
        return rest

    @staticmethod
    def _shown(event: bytes) -> bytes:
        if b'"usage"' not in event:
            return event
        for data in event_data(event):
            try:
                chunk = json.loads(data)
            except ValueError:
                return event
            if isinstance(chunk, dict) and chunk.get("usage") is not None and not chunk.get("choices"):
                return b""
        return _NO_USAGE.sub(b"", event)


def stream_attributes(
    body: bytes, accumulator: StreamAccumulator, content: bool, *, complete: bool
) -> Attributes:
    """Return the attributes of a stream's events; for an error event, which makes the SDK raise, an error."""
    failure: Attributes = {}
    for data in event_data(body):
        if data.startswith(b"[DONE]"):
            complete = True
            break
        try:
            event = json.loads(data.decode(errors="replace"), object_hook=_JsonObject)
        except ValueError:  # the last event of a body that broke off
            continue
        if not isinstance(event, _JsonObject):
            continue
        if error := event.get("error"):
            message = error.get("message") if isinstance(error, dict) else None
            failure = {"error.type": "APIError", "error.message": message if content else None}
            break
        read_piece(accumulator.add, event)
    return {**accumulator.attributes(content, complete and not failure), **failure}
