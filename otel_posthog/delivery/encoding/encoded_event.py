"""Encoded events, and batches of them by count and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otel_posthog.delivery.encoding.json_encoder import encode
from otel_posthog.delivery.encoding.truncation import MIN_EVENT_BYTES, fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_OBJECT_BYTES = 200  # of an event beside its data, measured on CPython 3.11


class EncodedEvent:
    """An event as bytes, encoded once."""

    __slots__ = ("data", "name", "whole")

    def __init__(self, name: str, data: bytes) -> None:
        self.name = name
        self.data = data
        self.whole: bytes | None = None
        """The whole event, if `data` is cut."""

    @classmethod
    def of_event(cls, event: dict[str, Any]) -> EncodedEvent:
        """Return `event` encoded."""
        # A copy: orjson's bytes keep the buffer they were written in, several times their length.
        return cls(event["event"], bytes(memoryview(encode(event))))

    @classmethod
    def of_bytes(cls, data: bytes) -> EncodedEvent:
        """Return the event whose encoded form is `data`.

        Raises:
            ValueError: `data` is no event.
        """
        event = orjson.loads(data)
        if not isinstance(event, dict) or not isinstance(event.get("event"), str):
            raise ValueError("no event")  # noqa: TRY004  # orjson raises it, too
        return cls(event["event"], data)

    @property
    def size(self) -> int:
        """Bytes in memory, approximately."""
        return _OBJECT_BYTES + len(self.data) + len(self.whole or b"")

    @property
    def uncut(self) -> bytes:
        """The whole event as bytes."""
        return self.whole or self.data

    @property
    def cut(self) -> bool:
        """Whether content was cut to fit a limit."""
        return self.whole is not None

    @property
    def uuid(self) -> str:
        """The event's uuid, parsed from its bytes at each call, since few events need it."""
        return str(orjson.loads(self.data).get("uuid"))

    def fit(self, limit: int, size: Callable[[bytes], int] = len) -> None:
        """Cut the content so that `size` of the event's bytes is at most `limit`."""
        # No `size` is more than twice the length.
        if len(self.data) * 2 > limit and size(self.data) > limit:
            self._cut_to(limit, size)

    def halve(self) -> bool:
        """Cut the event to half of its bytes; False if it is too small for that."""
        if len(self.data) <= MIN_EVENT_BYTES:
            return False
        self._cut_to(max(len(self.data) // 2, MIN_EVENT_BYTES), len)
        return True

    def _cut_to(self, limit: int, size: Callable[[bytes], int]) -> None:
        # From the whole event: notes of an earlier cut would be cut, and their counts would be wrong.
        self.whole = self.whole or self.data
        self.data = fit(self.whole, limit, size)


def batches(events: Iterable[EncodedEvent], max_bytes: int, max_events: int) -> Iterator[list[EncodedEvent]]:
    """Yield `events` in order, at most `max_events` and about `max_bytes` each; a larger one goes alone."""
    batch: list[EncodedEvent] = []
    room = max_bytes
    for event in events:
        size = len(event.data) + 1
        if batch and (size > room or len(batch) >= max_events):
            yield batch
            batch, room = [], max_bytes
        batch.append(event)
        room -= size
    if batch:
        yield batch
