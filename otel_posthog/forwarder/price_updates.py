"""The price table in use: its version and date, and how a newer one is fetched on request.

The data comes with the package `genai-prices` and has no date of its own; its comments say when prices were
checked. The newest of those dates stands for the table, which is of that day or a little later.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from _thread import allocate_lock
from collections.abc import Callable, Iterable
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_posthog.runtime.log import warn_once
from otel_posthog.runtime.threads import start_thread

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["PriceData", "current_prices", "fetch", "follow_updates"]

EVERY_SECONDS = 86_400.0
"""Prices change on some day of the month, and the data when its authors notice."""
AGAIN_SECONDS = 3600.0
"""Seconds after a failure until the next attempt."""

_LOOKED_UP = re.compile(
    r"\b(?:checked|verified|updated|as of)\b[^;:()]{0,40}?\b(20\d\d-\d\d-\d\d)", re.IGNORECASE
)


class PriceData(NamedTuple):
    """A price table."""

    version: str
    """The version of the package `genai-prices`."""
    models: int
    date: date | None
    """The day on which its prices were last checked; None if it does not say."""
    is_fetched: bool
    """Whether it was fetched, on that day, instead of coming with the package."""


def current_prices(today: date) -> PriceData:
    """Return the table by which this process computes costs."""
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    fetched = snapshot.from_auto_update
    return PriceData(
        version=importlib.metadata.version("genai-prices"),
        models=sum(len(provider.models) for provider in snapshot.providers),
        date=snapshot.timestamp.date() if fetched else _latest(_comments(snapshot.providers), today),
        is_fetched=fetched,
    )


def _comments(providers: Iterable[Any]) -> Iterable[str]:
    for provider in providers:
        for each in (provider, *provider.models):
            if each.price_comments:
                yield each.price_comments


def _latest(comments: Iterable[str], today: date) -> date | None:
    """Return the latest day, up to today, on which a price was checked."""
    latest = None
    for comment in comments:
        for text in _LOOKED_UP.findall(comment):
            try:
                day = date.fromisoformat(text)
            except ValueError:  # not a date
                continue
            if day <= today and (latest is None or day > latest):
                latest = day
    return latest


# --- updates, only on request ---


def fetch(url: str | None) -> DataSnapshot:
    """Fetch the newest table, from `genai-prices`' own address or from `url`, and use it in this process.

    Raises:
        Exception: any error of its HTTP client; ValueError: the answer is no price table.
    """
    from genai_prices.data_snapshot import set_custom_snapshot
    from genai_prices.update_prices import DEFAULT_UPDATE_URL, UpdatePrices

    snapshot = UpdatePrices(url=url or DEFAULT_UPDATE_URL).fetch()
    if snapshot is None or not any(provider.models for provider in snapshot.providers):
        raise ValueError("there are no prices in it")
    set_custom_snapshot(snapshot)
    return snapshot


def follow_updates(url: str | None, *, at_once: bool = True) -> None:
    """Fetch the newest table now, or a day from now, and every day again, on a thread of its own.

    The process has one table and one such thread. `genai-prices` has a thread for this as well, but it does
    not follow forks.
    """
    global _follower  # noqa: PLW0603
    if _follower == os.getpid():
        return
    _follower = os.getpid()
    start_thread(lambda: _follow(url, _wait, at_once=at_once))


_follower: int | None = None
"""The process that has such a thread."""


def _follow(url: str | None, wait: Callable[[float], bool], *, at_once: bool) -> None:
    """Fetch until `wait`, called with seconds, returns True."""
    seconds = 0.0 if at_once else EVERY_SECONDS
    while not wait(seconds):
        seconds = EVERY_SECONDS if _fetched(url) else AGAIN_SECONDS


def _fetched(url: str | None) -> bool:
    try:
        fetch(url)
    except Exception as error:  # noqa: BLE001  # of an HTTP client, or of what reads the answer
        kind = type(error).__name__
        warn_once(
            "price updates", "price_updates: new prices could not be fetched (%s); the old ones stay.", kind
        )
        return False
    return True


def _wait(seconds: float) -> bool:
    lock = allocate_lock()  # of the same kind as the thread, whatever gevent patched later
    lock.acquire()
    return lock.acquire(timeout=seconds)
