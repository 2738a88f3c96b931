"""What an answer of PostHog means for the events of its request, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_posthog.delivery.http.transport import Response

# Seconds. A clock that is off, or a proxy's whole-hour Retry-After, must not silence a client that long.
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
    """Nothing is known to be accepted; the same request may be accepted later."""

    after: float | None
    """Seconds PostHog asks to wait at least."""
    reason: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The request, or an event in it, is too large; nothing of it counts as accepted."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """Something in the request is not valid, which may be one event of many; nothing is accepted."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """PostHog took the request and says that it keeps none of its events."""

    reason: str


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no such path."""


@dataclass(frozen=True, slots=True)
class Halted:
    """No request will be accepted until somebody changes something; the events are not at fault."""

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class Partial:
    """An answer of its own for some events, by uuid; all others are accepted."""

    again: frozenset[str]
    """To be sent again."""
    dropped: Mapping[str, str]
    """Refused for good, with the reason."""
    too_large: frozenset[str]
    after: float | None


Outcome = Delivered | Retry | TooLarge | Invalid | Dropped | Missing | Halted | Partial


def judge(answer: Response, now: datetime) -> Outcome:
    """Return what PostHog's answer on the v0 wire means.

    Only 200 is success there, as for PostHog's own SDKs: another 2xx, a redirect or a page of HTML comes from
    something that is not PostHog, and to call that accepted would be a loss nobody hears of. `now` is the
    wall clock, for a `Retry-After` given as a date.
    """
    return _of_body(answer.body) if answer.status == 200 else _of_status(answer, now)


def judge_v1(answer: Response, now: datetime) -> Outcome:
    """Return what PostHog's answer on the v1 wire means: 200 comes with a result for each event.

    As PostHog's own SDKs read it: an event without a result is accepted, and so are all where the body is
    no results at all. What is dropped for its size or for too many bytes a second is not lost yet: it is cut,
    or sent again.
    """
    if answer.status != 200:
        return _of_status(answer, now)
    results = _object(_json(answer.body)).get("results")
    if not isinstance(results, dict):
        return _of_body(answer.body)
    again, too_large, dropped = set(), set(), {}
    for uuid, result in results.items():
        word, details = _object(result).get("result"), _object(result).get("details")
        if word == "retry" or (word == "drop" and details == "ai_byte_rate_limited"):
            again.add(uuid)
        elif word == "drop" and details == "ai_event_too_big":
            too_large.add(uuid)
        elif word == "drop":
            dropped[uuid] = details if isinstance(details, str) and details else "dropped"
    if not (again or too_large or dropped):
        return Delivered()
    after = retry_after(answer.headers.get("retry-after"), now)
    return Partial(frozenset(again), dropped, frozenset(too_large), after)


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
    """What a 404 means where no other path can stand in."""
    return Halted("status_404", _HOST)


def _of_body(body: bytes) -> Outcome:
    """What a 200 says beside its status.

    PostHog's own bodies are `{"status":"Ok"}`, `{"status":1}` of older ones, with `quota_limited` where
    the events are over the quota and not kept (rust/capture `api.rs`).
    """
    if body.lstrip()[:1] == b"<":
        return Halted("not_posthog", f"it answered with a web page: {_HOST}")
    said = _object(_json(body))
    if said.get("quota_limited"):
        return Dropped("quota_limited")
    status = said.get("status", 1)
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
    """Return the seconds a `Retry-After` header asks for, 0 to 60; None if it says nothing usable."""
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
