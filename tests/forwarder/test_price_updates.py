"""The date of the price table, and its updates, fetched on request from a real server on loopback."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.span_reader import read_call
from otel_posthog.forwarder import forwarder, price_updates
from otel_posthog.forwarder.price_updates import AGAIN_SECONDS, EVERY_SECONDS, current_prices, fetch
from tests.support.price_server import TABLE, price_server
from tests.support.spans import START, make_view

TODAY = date(2031, 5, 1)
CALL = read_call(make_view({"gen_ai.usage.input_tokens": 1_000_000, "gen_ai.usage.output_tokens": 0}))
DAY_NS = 86_400 * 10**9


def test_the_table_of_the_package_has_a_version_a_date_and_models() -> None:
    prices = current_prices(TODAY)
    assert prices.version[0].isdigit()
    assert prices.models > 1000
    assert not prices.is_fetched
    assert prices.date is not None
    assert date(2026, 10, 1) <= prices.date <= TODAY


@pytest.mark.parametrize(
    ("comment", "day"),
    [
        ("Rates verified on 2026-10-12 at https://x/pricing.", date(2026, 10, 12)),
        ("prices (checked 2026-10-09); batch as of 2026-10-14", date(2026, 10, 14)),
        ("Last updated: never. Verified on Bedrock on 2026-11-04", date(2026, 11, 4)),
        ("Promotional price until 2030-12-31, then 2 dollars", None),
        ("Verified. The price rises on some day after that, which is a long while: on 2030-01-01", None),
        ("checked 2026-13-45", None),
        ("checked 2031-05-02, which is not yet", None),
        ("", None),
    ],
)
def test_the_date_is_the_latest_on_which_somebody_looked(comment: str, day: date | None) -> None:
    assert price_updates._latest([comment], TODAY) == day


def test_what_is_fetched_is_used_and_is_of_today() -> None:
    with price_server() as (url, paths):
        book = PriceBook()
        before = book.cost(CALL)
        fetch(url)
        after = book.cost(CALL._replace(start_ns=START + DAY_NS))
        assert before is not None
        assert after is not None
        assert (before.total, after.total) == (1.25, 2.0)
        assert paths == ["/data.json"]
        prices = current_prices(TODAY)
        assert (prices.is_fetched, prices.models) == (True, 1)


WRONG: list[tuple[Any, int]] = [
    ([], 200),
    ([{**TABLE[0], "models": []}], 200),
    ({"providers": TABLE}, 200),
    ([{"id": 5}], 200),
    (b"<html>", 200),
    (TABLE, 500),
]


@pytest.mark.parametrize(("body", "status"), WRONG)
def test_what_is_no_price_table_leaves_the_one_that_was(
    body: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with price_server(body, status) as (url, _):
        assert not price_updates._fetched(url)
        assert not price_updates._fetched(url)
        assert not current_prices(TODAY).is_fetched
    [warning] = [record.message for record in caplog.records if record.name == "otel_posthog"]
    assert "new prices could not be fetched" in warning


def test_they_are_fetched_at_once_and_every_day_and_sooner_after_a_failure() -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return len(waited) == 3

    with price_server() as (url, paths):
        price_updates._follow(url, wait, at_once=True)
        assert waited == [0.0, EVERY_SECONDS, EVERY_SECONDS]
        assert len(paths) == 2
    waited.clear()
    with price_server(status=500) as (url, _):
        price_updates._follow(url, wait, at_once=False)
        assert waited == [EVERY_SECONDS, AGAIN_SECONDS, AGAIN_SECONDS]


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ({}, False),
        ({"price_updates": False}, False),
        ({"price_updates": True, "cost": "server"}, False),
        ({"price_updates": True, "api_key": None}, False),
        ({"price_updates": True}, True),
    ],
)
def test_nothing_is_fetched_unless_it_is_asked_for(
    options: dict[str, Any], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(price_updates, "start_thread", started.append)
    monkeypatch.setattr(price_updates, "_follower", None)
    for _ in range(2):  # one thread serves all of the process
        forwarder({"api_key": "phc_x", **options}, environ={}).close(0.0)
    assert len(started) == starts
