"""The outbox over a transport that answers by script and a spool on a real disk, without its thread."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.delivery import Backlog, EncodedEvent, Entry, Outbox
from otel_posthog.delivery.http.transport import Response, TransportError
from otel_posthog.delivery.spool import spool
from otel_posthog.delivery.spool.backlog import LOOK_SECONDS
from otel_posthog.delivery.spool.entries import EVENT
from otel_posthog.delivery.spool.spool import Spool
from tests.delivery.support import Clock, Posted, ScriptedTransport, answer, delivery, event

DAY = 86_400.0


class Loads:
    """Converts a load, which is a number, into one event of that number."""

    event_kind = EVENT

    def __init__(self) -> None:
        self.converted = 0

    def stored(self, items: list[EncodedEvent], kind: str) -> list[EncodedEvent]:  # hides nothing
        return items

    def events(self, loads: Iterable[int]) -> Iterator[dict[str, Any]]:
        for load in loads:
            self.converted += 1
            yield {**event("$ai_generation", number=load), "uuid": f"uuid-{load}"}

    def entries(self, loads: Iterable[int]) -> list[Entry]:
        return [Entry("number", str(load).encode(), 0.0) for load in loads]

    def load(self, entry: Entry) -> int | None:
        return int(entry.body) if entry.body.isdigit() else None


class House:
    """An outbox and all that stands behind it."""

    def __init__(
        self,
        directory: Path | None,
        script: Iterable[Response | Exception] = (),
        *,
        clock: Clock | None = None,
        max_queue_bytes: int = 100_000,
        max_age: float = 30 * DAY,
        always: bool = False,
        **options: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.transport = ScriptedTransport(script)
        self.loads = Loads()
        self.delivery = delivery(self.transport, self.clock, **options)
        self.spool = (
            None
            if directory is None
            else Spool(
                directory,
                "here",
                max_bytes=10_000_000,
                lease_seconds=60.0,
                clock=self.clock,
                now=self.clock,
            )
        )
        self.backlog = Backlog(
            self.spool,
            self.delivery,
            self.loads,
            max_batch_bytes=1_000_000,
            patience=20.0,
            max_age=max_age,
            clock=self.clock,
            now=self.clock,
        )
        self.outbox = Outbox(
            self.delivery,
            self.loads,
            self.backlog,
            max_queue_bytes=max_queue_bytes,
            max_batch_bytes=1_000_000,
            flush_interval=1.0,
            always=always,
            clock=self.clock,
            start=no_thread,
        )

    def enqueue(self, *loads: int, size: int = 100) -> None:
        for load in loads:
            self.outbox.enqueue(load, size)

    @property
    def arrived(self) -> list[int]:
        """The numbers of the events in requests that were answered with 200."""
        return [
            each["properties"]["number"]
            for posted in self.transport.accepted
            for each in posted.body["batch"]
        ]

    def on_disk(self) -> int:
        assert self.spool is not None
        found: int = self.spool.stats()["entries"]
        return found


def no_thread(_: object) -> None:
    raise RuntimeError("at the end of the interpreter no thread can be started")


DOWN = TransportError("ConnectionError")


def test_what_is_handed_over_is_sent_by_a_flush(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.enqueue(1, 2, 3)
    assert house.outbox.flush(10)
    assert house.arrived == [1, 2, 3]
    empty = {"waiting": 0, "in_flight": 0, "bytes": 0, "max_bytes": 100_000, "dropped": {}}
    assert house.outbox.stats()["queue"] == empty


def test_without_a_spool_what_posthog_does_not_take_waits_in_memory_and_is_converted_once() -> None:
    house = House(None, [DOWN] * 30)
    house.enqueue(1, 2)
    for _ in range(20):
        if house.outbox.flush(100):
            break
    assert house.arrived == [1, 2]
    assert house.loads.converted == 2


@pytest.mark.parametrize("outage", [10.0, 3600.0, 3 * DAY])
@pytest.mark.parametrize("spooled", [False, True])
def test_an_outage_of_any_length_loses_nothing(tmp_path: Path, outage: float, spooled: bool) -> None:
    house = House(tmp_path if spooled else None)
    over = house.clock.seconds + outage
    house.transport.otherwise = lambda _: answer(200 if house.clock.seconds >= over else 503)
    sent = 0
    while house.clock.seconds < over:
        house.enqueue(sent)
        sent += 1
        house.outbox.flush(10)
        house.clock.seconds += max(outage / 20, 1.0)
    house.clock.seconds += LOOK_SECONDS
    assert house.outbox.flush(1000)
    house.clock.seconds += LOOK_SECONDS
    assert house.outbox.flush(1000)
    assert sorted(house.arrived) == [*range(sent)]


def test_after_max_retry_seconds_it_goes_to_the_spool_and_from_there(tmp_path: Path) -> None:
    house = House(tmp_path, [DOWN] * 3, max_retry_seconds=2)
    house.enqueue(1)
    assert house.outbox.flush(10)
    assert (house.arrived, house.on_disk()) == ([], 1)
    house.clock.seconds += LOOK_SECONDS
    assert house.outbox.flush(10)
    assert (house.arrived, house.on_disk()) == ([1], 0)


def test_what_finds_no_room_in_memory_goes_to_the_spool(tmp_path: Path) -> None:
    house = House(tmp_path, max_queue_bytes=1000)
    house.enqueue(*range(30))
    assert house.on_disk() == 20
    assert house.outbox.flush(100)
    assert sorted(house.arrived) == [*range(30)]


def test_without_a_spool_what_finds_no_room_is_dropped_oldest_first_and_counted() -> None:
    house = House(None, max_queue_bytes=1000)
    house.enqueue(*range(30))
    assert not house.outbox.flush(100) or house.outbox.stats()["queue"]["dropped"]
    assert house.arrived == [*range(20, 30)]
    assert house.outbox.stats()["queue"]["dropped"] == {"queue_full": 20}


def test_nobody_waits_for_a_spool_that_is_in_use(tmp_path: Path) -> None:
    house = House(tmp_path, max_queue_bytes=1000)
    assert house.spool is not None
    entered, leave = threading.Event(), threading.Event()

    def use(spool: Spool) -> None:
        with spool._lock:
            entered.set()
            leave.wait(10)

    user = threading.Thread(target=use, args=(house.spool,))
    user.start()
    entered.wait(10)
    house.enqueue(*range(15))  # returns, though the disk is busy
    assert house.outbox._queue.bytes == 1500
    leave.set()
    user.join()
    house.enqueue(15)
    assert house.outbox._queue.bytes <= 1000
    assert house.outbox.flush(100)
    assert sorted(house.arrived) == [*range(16)]


def test_always_is_on_disk_before_it_returns_and_gone_once_accepted(tmp_path: Path) -> None:
    house = House(tmp_path, always=True)
    house.enqueue(1, 2)
    assert house.on_disk() == 2
    assert len(house.transport.posted) == 0
    assert house.outbox.flush(10)
    assert (house.arrived, house.on_disk()) == ([1, 2], 0)


def test_always_falls_back_to_memory_where_the_disk_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    house = House(tmp_path / "file" / "spool", always=True)
    house.enqueue(1, 2)
    assert house.outbox.flush(10)
    assert house.arrived == [1, 2]


def test_the_next_process_sends_what_is_there(tmp_path: Path) -> None:
    ended = House(tmp_path, always=True)
    ended.enqueue(1, 2)
    ended.backlog.close()
    later = House(tmp_path)
    assert later.outbox.flush(10)
    assert later.arrived == [1, 2]


def test_closing_sends_then_writes_what_is_left(tmp_path: Path) -> None:
    house = House(tmp_path, [DOWN] * 100)
    house.enqueue(1, 2)
    assert house.outbox.close(5)
    later = House(tmp_path)
    assert later.outbox.flush(10)
    assert (house.arrived, later.arrived) == ([], [1, 2])


def test_closing_that_ctrl_c_ends_waits_for_what_is_between_sending_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path, [DOWN] * 100, max_retry_seconds=1)
    given_up, ends, happened = threading.Event(), threading.Event(), list[str]()
    acknowledge, close, to_disk = house.backlog.acknowledge, house.backlog.close, house.outbox._to_disk

    def late(*report: Any) -> bool:  # it is neither in the queue nor under way
        given_up.set()
        assert ends.wait(30)
        safe = acknowledge(*report)
        happened.append("on disk")
        return safe

    def closed() -> None:
        happened.append("closed")
        close()

    def written() -> bool:
        kept = to_disk()
        ends.set()
        return kept

    monkeypatch.setattr(house.backlog, "acknowledge", late)
    monkeypatch.setattr(house.backlog, "close", closed)
    monkeypatch.setattr(house.outbox, "_to_disk", written)
    monkeypatch.setattr(house.outbox, "_flush", _ctrl_c)
    house.enqueue(1, 2)
    sending = threading.Thread(target=house.outbox._pass)
    sending.start()
    assert given_up.wait(30)
    with pytest.raises(KeyboardInterrupt):
        house.outbox.close(5)
    sending.join()
    assert happened == ["on disk", "closed"]
    assert house.on_disk() == 2


def _ctrl_c(*_: Any, **__: Any) -> bool:
    raise KeyboardInterrupt


def test_closing_without_a_spool_says_how_much_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    house = House(None, [DOWN] * 100)
    house.enqueue(1, 2)
    assert not house.outbox.close(5)
    assert "2 spans or events lost" in caplog.text
    assert house.outbox.stats()["queue"]["dropped"] == {"shutdown": 2}


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.enqueue(1)
    assert house.outbox.close(5)
    assert house.outbox.close(5)
    assert house.arrived == [1]


def test_what_comes_after_closing_goes_to_disk(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.outbox.close(5)
    house.enqueue(1)
    assert house.on_disk() == 1


def test_what_comes_after_closing_without_a_spool_is_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House(None)
    house.outbox.close(5)
    house.enqueue(1, 2)
    assert house.outbox.stats()["queue"]["dropped"] == {"after_shutdown": 2}
    assert [record.getMessage() for record in caplog.records] == [
        "A span ended after shutdown and is not sent."
    ]


def test_a_flush_is_false_without_a_spool_and_true_with_one(tmp_path: Path) -> None:
    in_memory, on_disk = House(None, [DOWN] * 100), House(tmp_path, [DOWN] * 100)
    for house in (in_memory, on_disk):
        house.enqueue(1)
    assert not in_memory.outbox.flush(5)
    assert on_disk.outbox.flush(5)
    assert on_disk.on_disk() == 1


def test_what_posthog_refuses_is_a_dead_letter_with_the_reason(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.transport.otherwise = lambda posted: answer(400 if "uuid-2" in posted.uuids else 200)
    house.enqueue(1, 2, 3)
    assert house.outbox.flush(10)
    assert house.arrived == [1, 3]
    assert house.spool is not None
    assert house.spool.stats()["dead_letters"] == 1
    connection = house.spool._open()
    assert connection is not None
    [(reason, body)] = connection.execute("SELECT reason, body FROM dead_letters").fetchall()
    assert (reason, EncodedEvent.of_bytes(body).uuid) == ("invalid", "uuid-2")


def test_without_a_spool_what_is_refused_makes_a_flush_false() -> None:
    house = House(None, [answer(400)])
    house.enqueue(1)
    assert not house.outbox.flush(10)
    assert house.delivery.stats()["refused"] == {"$ai_generation": {"invalid": 1}}


def test_what_is_too_old_or_cannot_be_read_is_buried(tmp_path: Path) -> None:
    clock = Clock()
    old = House(tmp_path, clock=clock, always=True)
    assert old.spool is not None
    old.spool.put([Entry("event", b"{broken", clock()), Entry("number", b"x", clock())])
    old.spool.put([Entry("number", b"1", clock() - 3 * DAY), Entry("number", b"2", clock() - DAY)])
    old.spool.leave()
    house = House(tmp_path, clock=clock, max_age=2 * DAY)
    assert house.outbox.flush(10)
    assert house.arrived == [2]
    stats = house.outbox.stats()["spool"]
    assert stats["buried"] == {"unreadable": 2, "too_old": 1}
    assert (stats["entries"], stats["dead_letters"]) == (0, 3)


def test_a_halt_keeps_everything_without_asking_again(tmp_path: Path) -> None:
    house = House(None, [answer(401)])
    house.enqueue(1)
    assert not house.outbox.flush(10)
    house.enqueue(2)
    assert not house.outbox.flush(10)
    assert len(house.transport.posted) == 1
    house.clock.seconds += 300
    assert house.outbox.flush(10)
    assert house.arrived == [1, 2]


def test_a_synchronous_send_tells_the_truth(tmp_path: Path) -> None:
    good, bad, disk = House(None), House(None, [DOWN] * 100), House(tmp_path, [DOWN] * 100)
    assert good.outbox.send_now([event(number=1)], 10)
    assert not bad.outbox.send_now([event(number=1)], 10)
    assert disk.outbox.send_now([event(number=1)], 10)
    assert disk.on_disk() == 1


def test_what_a_synchronous_send_could_not_send_is_tried_again() -> None:
    house = House(None, [DOWN] * 3)
    assert not house.outbox.send_now([event(number=1)], 2)
    assert house.outbox.flush(100)
    assert house.arrived == [1]


def test_a_synchronous_send_with_always_is_on_disk_while_it_is_under_way(tmp_path: Path) -> None:
    house = House(tmp_path, always=True)
    seen: list[int] = []

    def serve(_: Posted) -> Response:
        seen.append(house.on_disk())
        return answer(200)

    house.transport.otherwise = serve
    assert house.outbox.send_now([event(number=1)], 10)
    assert (seen, house.on_disk()) == ([1], 0)


def test_a_flush_writes_what_is_under_way_in_a_request_that_hangs_to_disk(tmp_path: Path) -> None:
    """And when that request succeeds after all, it is taken out again."""
    house = House(tmp_path)
    hanging, let_go = threading.Event(), threading.Event()

    def serve(_: Posted) -> Response:
        hanging.set()
        let_go.wait(10)
        return answer(200)

    house.transport.otherwise = serve
    outbox = Outbox(
        house.delivery,
        house.loads,
        house.backlog,
        max_queue_bytes=100_000,
        max_batch_bytes=1_000_000,
        flush_interval=0.0,
    )
    outbox.enqueue(1, 100)
    assert hanging.wait(10)
    assert outbox.flush(0.2)
    assert house.on_disk() == 1
    let_go.set()
    assert outbox.close(10)
    assert (house.arrived, house.on_disk()) == ([1], 0)


def test_two_on_one_spool_send_everything_once(tmp_path: Path) -> None:
    clock = Clock()
    one, other = House(tmp_path, clock=clock, always=True), House(tmp_path, clock=clock, always=True)
    one.enqueue(*range(0, 1000, 2))
    other.enqueue(*range(1, 1000, 2))
    threads = [threading.Thread(target=house.outbox.flush, args=(100,)) for house in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.arrived + other.arrived) == [*range(1000)]


def test_one_of_two_that_died_in_the_middle_is_taken_over(tmp_path: Path) -> None:
    clock = Clock()
    dead, alive = House(tmp_path, clock=clock, always=True), House(tmp_path, clock=clock, always=True)
    dead.enqueue(*range(10))
    assert dead.spool is not None
    dead.spool.lease(5, 10_000)  # and nothing more is heard of it
    assert alive.outbox.flush(10)
    assert alive.arrived == []
    clock.seconds += 60
    assert alive.outbox.flush(10)
    assert sorted(alive.arrived) == [*range(10)]


def test_what_is_found_to_be_a_dead_process_s_is_sent_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = House(tmp_path)
    monkeypatch.setattr(spool, "name_of_holder", lambda: f"{socket.gethostname()}:{ended.pid}:0")
    House(tmp_path, clock=alive.clock, always=True).enqueue(1, 2)
    alive.backlog.drain(threading.Event(), lambda: False)
    assert (alive.arrived, alive.backlog.due_in()) == ([], 0.0)
    alive.backlog.drain(threading.Event(), lambda: False)
    assert (alive.arrived, alive.backlog.due_in()) == ([1, 2], LOOK_SECONDS)
