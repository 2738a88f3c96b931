"""What an answer of PostHog means for the events of its request, as a pure function."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Seconds. A clock that is off, or a proxy's whole-hour Retry-After, must not silence a client that long.
MAX_RETRY_AFTER = 60.0

_ADVICE = {
    401: "check the project API key (phc_...)",
    403: "check the project API key (phc_...) and what stands between this host and PostHog",
    404: "check that the endpoint is PostHog's ingestion host, for example https://us.i.posthog.com",
}
_NOT_POSTHOG = "check that the endpoint is PostHog's ingestion host, for example https://us.i.posthog.com"


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
class Refused:
    """The request is refused for good, whatever events are in it."""

    status: int
    reason: str
    advice: str


Outcome = Delivered | Retry | TooLarge | Invalid | Refused


def judge(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Outcome:
    """Return what PostHog's answer means.

    Only 200 is success on the v0 wire, as for PostHog's own SDKs: another 2xx, a redirect or a page of HTML
    comes from something that is not PostHog, and to call that accepted would be a loss nobody hears of.
    `headers` has lower-case names; `now` is the wall clock, for a `Retry-After` given as a date.
    """
    if status == 200:
        if body.lstrip()[:1] == b"<":
            return Refused(200, "not_posthog", f"it answered with a web page: {_NOT_POSTHOG}")
        return Delivered()
    if status in (408, 429) or status >= 500:
        return Retry(retry_after(headers.get("retry-after"), now), f"status_{status}")
    if status == 413:
        return TooLarge()
    if status == 400:
        return Invalid()
    if 300 <= status < 400:
        return Refused(
            status, f"status_{status}", f"it redirects, and redirects are not followed: {_NOT_POSTHOG}"
        )
    if status < 300:
        return Refused(status, f"status_{status}", f"PostHog answers 200: {_NOT_POSTHOG}")
    return Refused(status, f"status_{status}", _ADVICE.get(status, _NOT_POSTHOG))


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
