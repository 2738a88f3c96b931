from __future__ import annotations

import sqlite3
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from otel_posthog.local.store import Store, UnusableFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def event(name: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"event": name, "uuid": str(uuid.uuid4()), "distinct_id": "u", "properties": {}, **fields}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "inbox.db")
    yield opened
    opened.close()


def put(store: Store, *events: dict[str, Any]) -> list[dict[str, Any]]:
    return store.add(events, path="/batch/", received_at="2026-11-20T12:00:00+00:00")


def test_events_come_back_in_order_with_what_is_known_about_them(store: Store) -> None:
    first, second = event("a", properties={"x": "\0ü"}), event("b")
    assert put(store, first, second) == [first, second]
    about = {"path": "/batch/", "received_at": "2026-11-20T12:00:00+00:00", "copies": 1}
    assert list(store.read()) == [
        {**first, "_inbox": {"id": 1, **about}},
        {**second, "_inbox": {"id": 2, **about}},
    ]


def test_the_same_uuid_and_event_is_the_same_event(store: Store) -> None:
    one = event("a")
    other_name = {**one, "event": "b"}
    assert put(store, one) == [one]
    assert put(store, one, other_name, one) == [other_name]
    assert [(got["event"], got["_inbox"]["copies"]) for got in store.read()] == [("a", 3), ("b", 1)]
    assert store.counts() == {"events": 2, "duplicates": 2}


def test_reading_goes_on_from_an_id_and_by_name_over_many_pages(store: Store) -> None:
    put(store, *(event("even" if number % 2 == 0 else "odd") for number in range(1, 1202)))
    assert [got["_inbox"]["id"] for got in store.read()] == list(range(1, 1202))
    assert [got["_inbox"]["id"] for got in store.read(event="even", after=1000)] == list(range(1002, 1202, 2))
    assert list(store.read(event="none")) == []
    assert list(store.read(after=1201)) == []


def test_a_request_is_kept_as_a_whole_or_not_at_all(store: Store) -> None:
    good = event()
    with pytest.raises(KeyError):
        put(store, good, {"event": "without a uuid"})
    assert list(store.read()) == []
    assert put(store, good) == [good]


def test_two_threads_and_a_second_process_s_connection_write_at_once(store: Store, tmp_path: Path) -> None:
    shared = [event("shared") for _ in range(50)]
    other = Store(tmp_path / "inbox.db")
    fresh: list[int] = []

    def write(into: Store, own: int) -> None:
        fresh.extend(len(put(into, one, event(f"own-{own}"))) for one in shared)

    threads = [
        threading.Thread(target=write, args=(into, own)) for own, into in enumerate((store, store, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert store.counts() == {"events": 50 + 3 * 50, "duplicates": 2 * 50}
    assert sum(fresh) == 200


def test_a_file_keeps_its_events(tmp_path: Path) -> None:
    one = event()
    for expected in ([one], []):
        store = Store(tmp_path / "inbox.db")
        assert put(store, one) == expected
        store.close()
    with sqlite3.connect(tmp_path / "inbox.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_nobody_else_s_file_is_touched(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a letter, not a database, and long enough to be one" * 20)
    db = sqlite3.connect(tmp_path / "other.db")
    db.execute("CREATE TABLE customers (name TEXT)")
    db.commit()
    db.close()
    for name in ("text", "other.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UnusableFileError, match=name):
            Store(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
