"""A clock that sleeping moves, a scripted transport, and events."""

from __future__ import annotations

import json
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from otel_posthog.delivery import DeliveryClient, DeliveryOptions, EncodedEvent
from otel_posthog.delivery.http.transport import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

KEY = "phc_the_key_nobody_may_read"
START = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - 1000.0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


@dataclass
class Posted:
    url: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    timeout: float

    @property
    def uuids(self) -> list[str]:
        return [event["uuid"] for event in self.body["batch"]]


class ScriptedTransport:
    """Answers by the script, then by `otherwise`. An exception in the script is raised."""

    def __init__(
        self,
        script: Iterable[Response | Exception] = (),
        otherwise: Callable[[Posted], Response] | None = None,
    ) -> None:
        self.script = deque(script)
        self.otherwise = otherwise or (lambda _: answer(200))
        self.posted: list[Posted] = []
        self.accepted: list[Posted] = []
        """The requests that were answered with 200."""
        self.closed = 0
        self.resets = 0

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        posted = Posted(url, json.loads(body), headers, timeout)
        self.posted.append(posted)
        result = self.script.popleft() if self.script else self.otherwise(posted)
        if isinstance(result, Exception):
            raise result
        if result.status == 200:
            self.accepted.append(posted)
        return result

    def close(self) -> None:
        self.closed += 1

    def reset_after_fork(self) -> None:
        self.resets += 1


def answer(status: int, body: bytes = b'{"status":"Ok"}', **headers: str) -> Response:
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def options(**changes: Any) -> DeliveryOptions:
    values: dict[str, Any] = {
        "api_key": KEY,
        "endpoint": "http://posthog.test",
        "timeout": 10.0,
        "compression": "none",
        "capture_mode": "v0",
        "max_batch_bytes": 4 * 1024 * 1024,
        "max_retry_seconds": 300.0,
    }
    return DeliveryOptions(**(values | changes))


def delivery(
    transport: ScriptedTransport, clock: Clock, *, random: float = 1.0, **changes: Any
) -> DeliveryClient:
    return DeliveryClient(
        options(**changes),
        transport=transport,
        clock=clock,
        now=clock.now,
        sleep=clock.sleep,
        random=lambda: random,
    )


def send(sent: DeliveryClient, events: Iterable[dict[str, Any]], deadline: float | None = None) -> bool:
    """Whether PostHog accepted all of the events."""
    return sent.deliver(events, deadline).complete


def events_in(encoded: Iterable[EncodedEvent]) -> list[dict[str, Any]]:
    return [json.loads(each.uncut) for each in encoded]


def event(name: str = "$ai_generation", /, **properties: Any) -> dict[str, Any]:
    return {
        "event": name,
        "uuid": str(uuid.uuid4()),
        "distinct_id": "user-1",
        "timestamp": "2026-11-20T11:59:00+00:00",
        "properties": {"$ai_trace_id": "trace-1", **properties},
    }
