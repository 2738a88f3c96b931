"""Outcomes of a request: the meaning of PostHog's answer for its events, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_posthog.delivery.http.transport import Response

# Seconds. A wrong clock, or a proxy's Retry-After of an hour, must not silence a client for that long.
MAX_RETRY_AFTER = 60.0

_KEY = "check the project API key (phc_...)"
_HOST = "check that the endpoint is PostHog's ingestion host, for example https://us.i.posthog.com"
_ADVICE = {
    401: _KEY,
    402: "check the billing of the PostHog project",
    403: f"{_KEY} and what stands between this host and PostHog",
    415: "set compression to gzip or none",
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """Every event of the request is accepted."""


@dataclass(frozen=True, slots=True)
class Retry:
    """No event is known to be accepted; the same request may be accepted later."""

    after: float | None
    """The shortest wait in seconds that PostHog asks for."""
    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request, or an event in it, is too large; none of its events is accepted."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """The request is invalid, perhaps because of one event of many; none of its events is accepted."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """PostHog took the request and reports that it drops all of its events."""

    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """PostHog has no such path."""


@dataclass(frozen=True, slots=True)
class Halted:
    """No request will be accepted until a person acts; the events are not at fault."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Partial:
    """Some events, by uuid, have an outcome of their own; all others are accepted."""

    retry: frozenset[str]
    dropped: Mapping[str, str]
    """Rejected for good, with the reason."""
    too_large: frozenset[str]
    after: float | None
    """The shortest wait in seconds that PostHog asks for."""


Outcome = Delivered | Retry | TooLarge | Invalid | Dropped | Missing | Halted | Partial


def judge(answer: Response, now: datetime) -> Outcome:
    """Return the outcome of an answer on the v0 wire.

    Only 200 is success, as for PostHog's own SDKs. Another 2xx, a redirect or a page of HTML comes from
    something other than PostHog; events that it took would be lost without a trace. `now` is the wall clock,
    for a `Retry-After` that is a date.
    """
    return _of_body(answer.body) if answer.status == 200 else _of_status(answer, now)


def judge_v1(answer: Response, now: datetime) -> Outcome:
    """Return the outcome of an answer on the v1 wire, whose 200 has a result for each event.

    It is read as PostHog's own SDKs read it: an event without a result is accepted, and so is every event of
    an answer without results. An event that PostHog drops for its size is cut, and one that it drops for too
    many bytes a second is retried: neither is lost yet.
    """
    if answer.status != 200:
        return _of_status(answer, now)
    results = _object(_json(answer.body)).get("results")
    if not isinstance(results, dict):
        return _of_body(answer.body)
    retry, too_large, dropped = set(), set(), {}
    for uuid, result in results.items():
        word, details = _object(result).get("result"), _object(result).get("details")
        if word == "retry" or (word == "drop" and details == "ai_byte_rate_limited"):
            retry.add(uuid)
        elif word == "drop" and details == "ai_event_too_big":
            too_large.add(uuid)
        elif word == "drop":
            dropped[uuid] = details if isinstance(details, str) and details else "dropped"
    if not (retry or too_large or dropped):
        return Delivered()
    after = retry_after(answer.headers.get("retry-after"), now)
    return Partial(frozenset(retry), dropped, frozenset(too_large), after)


def _of_status(answer: Response, now: datetime) -> Outcome:
    status = answer.status
    if status in (408, 429) or status >= 500:
        return Retry(retry_after(answer.headers.get("retry-after"), now), f"status_{status}")
    if status == 413:
        return TooLarge()
    if status == 400:
        return Invalid()
    if status == 404:
        return Missing()
    if 300 <= status < 400:
        return Halted(f"status_{status}", f"it redirects, and redirects are not followed: {_HOST}")
    if status < 300:
        return Halted(f"status_{status}", f"PostHog answers 200: {_HOST}")
    return Halted(f"status_{status}", _ADVICE.get(status, _HOST))


def missing_path() -> Halted:
    """Return the outcome of a 404 if no other path can be used instead."""
    return Halted("status_404", _HOST)


def _of_body(body: bytes) -> Outcome:
    """Return the outcome of a 200 by its body.

    PostHog's bodies are `{"status":"Ok"}`, or `{"status":1}` of older versions, with `quota_limited` if the
    events are over the quota and dropped (rust/capture `api.rs`).
    """
    if body.lstrip()[:1] == b"<":
        return Halted("not_posthog", f"it answered with a web page: {_HOST}")
    answer = _object(_json(body))
    if answer.get("quota_limited"):
        return Dropped("quota_limited")
    status = answer.get("status", 1)
    if status in (1, True) or (isinstance(status, str) and status.lower() == "ok"):
        return Delivered()
    return Halted("not_accepted", f"it answered 200 and that the status is not Ok: {_HOST}")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, 0 to 60; None if it is missing or not readable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else None  # noqa: PLR0124 - NaN
