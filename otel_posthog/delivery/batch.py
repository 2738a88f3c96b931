"""Events as encoded items, and items as batches by count and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from otel_posthog.delivery.encode import encode
from otel_posthog.delivery.fit import fit
from otel_posthog.delivery.options import MIN_EVENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_posthog.delivery.lanes import Lane


class Item:
    """One event as bytes, encoded once, within the limit of its lane."""

    __slots__ = ("data", "name", "whole")

    def __init__(self, event: dict[str, Any], lane: Lane, max_bytes: int | None) -> None:
        self.name: str = event["event"]
        self.data = encode(event)
        self.whole: bytes | None = None
        """All of the event, where it was cut."""
        self.fit_lane(lane, max_bytes)

    @property
    def cut(self) -> bool:
        """Whether content was left out to fit."""
        return self.whole is not None

    @property
    def event(self) -> dict[str, Any]:
        """The whole event. Made of its bytes: hardly any event is asked for again, and bytes are small."""
        found: dict[str, Any] = orjson.loads(self.whole or self.data)
        return found

    def fit_lane(self, lane: Lane, max_bytes: int | None) -> None:
        """Cut the content as far as `lane` and `max_bytes` ask."""
        if max_bytes is not None and max_bytes < len(self.data):
            self._cut_to(max_bytes, None)
        # No measure is more than twice the length.
        if len(self.data) * 2 > lane.max_event_bytes and lane.size(self.data) > lane.max_event_bytes:
            self._cut_to(min(lane.max_event_bytes, max_bytes or lane.max_event_bytes), lane)

    def halve(self) -> bool:
        """Cut the event to half of its bytes; False if it is too small for that."""
        if len(self.data) <= MIN_EVENT_BYTES:
            return False
        self._cut_to(max(len(self.data) // 2, MIN_EVENT_BYTES), None)
        return True

    def _cut_to(self, limit: int, lane: Lane | None) -> None:
        # From the whole event: notes of an earlier cut would be cut, and count wrong.
        self.whole = self.whole or self.data
        self.data = fit(self.whole, limit) if lane is None else fit(self.whole, limit, lane.size)


def batches(items: Iterable[Item], max_bytes: int, max_events: int) -> Iterator[list[Item]]:
    """Yield `items` in order, at most `max_events` and about `max_bytes` each; a larger one goes alone."""
    batch: list[Item] = []
    room = max_bytes
    for item in items:
        size = len(item.data) + 1
        if batch and (size > room or len(batch) >= max_events):
            yield batch
            batch, room = [], max_bytes
        batch.append(item)
        room -= size
    if batch:
        yield batch
