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
    """A converter whose loads are numbers: each becomes one event with that number."""

    event_kind = EVENT

    def __init__(self) -> None:
        self.converted = 0

    def stored(self, events: list[EncodedEvent], kind: str) -> list[EncodedEvent]:  # hides nothing
        return events

    def events(self, loads: Iterable[int]) -> Iterator[dict[str, Any]]:
        for load in loads:
            self.converted += 1
            yield {**event("$ai_generation", number=load), "uuid": f"uuid-{load}"}

    def entries(self, loads: Iterable[int]) -> list[Entry]:
        return [Entry("number", str(load).encode(), 0.0) for load in loads]

    def load(self, entry: Entry) -> int | None:
        return int(entry.body) if entry.body.isdigit() else None


class Rig:
    """An outbox with its client, backlog and spool."""

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
        entries: int = self.spool.stats()["entries"]
        return entries


def no_thread(_: object) -> None:
    raise RuntimeError("at the end of the interpreter no thread can be started")


DOWN = TransportError("ConnectionError")


def test_a_flush_sends_every_load(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.enqueue(1, 2, 3)
    assert rig.outbox.flush(10)
    assert rig.arrived == [1, 2, 3]
    empty = {"waiting": 0, "in_flight": 0, "bytes": 0, "max_bytes": 100_000, "dropped": {}}
    assert rig.outbox.stats()["queue"] == empty


def test_without_a_spool_unsent_loads_wait_in_memory_and_are_converted_once() -> None:
    rig = Rig(None, [DOWN] * 30)
    rig.enqueue(1, 2)
    for _ in range(20):
        if rig.outbox.flush(100):
            break
    assert rig.arrived == [1, 2]
    assert rig.loads.converted == 2


@pytest.mark.parametrize("outage", [10.0, 3600.0, 3 * DAY])
@pytest.mark.parametrize("spooled", [False, True])
def test_an_outage_of_any_length_loses_nothing(tmp_path: Path, outage: float, spooled: bool) -> None:
    rig = Rig(tmp_path if spooled else None)
    over = rig.clock.seconds + outage
    rig.transport.otherwise = lambda _: answer(200 if rig.clock.seconds >= over else 503)
    sent = 0
    while rig.clock.seconds < over:
        rig.enqueue(sent)
        sent += 1
        rig.outbox.flush(10)
        rig.clock.seconds += max(outage / 20, 1.0)
    rig.clock.seconds += LOOK_SECONDS
    assert rig.outbox.flush(1000)
    rig.clock.seconds += LOOK_SECONDS
    assert rig.outbox.flush(1000)
    assert sorted(rig.arrived) == [*range(sent)]


def test_after_max_retry_seconds_a_load_goes_to_the_spool_and_is_sent_from_there(tmp_path: Path) -> None:
    rig = Rig(tmp_path, [DOWN] * 3, max_retry_seconds=2)
    rig.enqueue(1)
    assert rig.outbox.flush(10)
    assert (rig.arrived, rig.on_disk()) == ([], 1)
    rig.clock.seconds += LOOK_SECONDS
    assert rig.outbox.flush(10)
    assert (rig.arrived, rig.on_disk()) == ([1], 0)


def test_a_load_without_room_in_memory_goes_to_the_spool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_queue_bytes=1000)
    rig.enqueue(*range(30))
    assert rig.on_disk() == 20
    assert rig.outbox.flush(100)
    assert sorted(rig.arrived) == [*range(30)]


def test_without_a_spool_the_oldest_loads_are_dropped_and_counted() -> None:
    rig = Rig(None, max_queue_bytes=1000)
    rig.enqueue(*range(30))
    assert not rig.outbox.flush(100) or rig.outbox.stats()["queue"]["dropped"]
    assert rig.arrived == [*range(20, 30)]
    assert rig.outbox.stats()["queue"]["dropped"] == {"queue_full": 20}


def test_enqueue_does_not_wait_for_a_spool_that_is_in_use(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_queue_bytes=1000)
    assert rig.spool is not None
    entered, leave = threading.Event(), threading.Event()

    def use(spool: Spool) -> None:
        with spool._lock:
            entered.set()
            leave.wait(10)

    user = threading.Thread(target=use, args=(rig.spool,))
    user.start()
    entered.wait(10)
    rig.enqueue(*range(15))  # returns, though the disk is busy
    assert rig.outbox._queue.bytes == 1500
    leave.set()
    user.join()
    rig.enqueue(15)
    assert rig.outbox._queue.bytes <= 1000
    assert rig.outbox.flush(100)
    assert sorted(rig.arrived) == [*range(16)]


def test_always_writes_a_load_before_enqueue_returns_and_deletes_it_once_accepted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, always=True)
    rig.enqueue(1, 2)
    assert rig.on_disk() == 2
    assert len(rig.transport.posted) == 0
    assert rig.outbox.flush(10)
    assert (rig.arrived, rig.on_disk()) == ([1, 2], 0)


def test_always_falls_back_to_memory_if_the_disk_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    rig = Rig(tmp_path / "file" / "spool", always=True)
    rig.enqueue(1, 2)
    assert rig.outbox.flush(10)
    assert rig.arrived == [1, 2]


def test_the_next_process_sends_the_backlog(tmp_path: Path) -> None:
    ended = Rig(tmp_path, always=True)
    ended.enqueue(1, 2)
    ended.backlog.close()
    later = Rig(tmp_path)
    assert later.outbox.flush(10)
    assert later.arrived == [1, 2]


def test_closing_sends_and_then_writes_the_rest_to_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path, [DOWN] * 100)
    rig.enqueue(1, 2)
    assert rig.outbox.close(5)
    later = Rig(tmp_path)
    assert later.outbox.flush(10)
    assert (rig.arrived, later.arrived) == ([], [1, 2])


def test_closing_that_ctrl_c_ends_waits_for_loads_between_sending_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, [DOWN] * 100, max_retry_seconds=1)
    given_up, ends, happened = threading.Event(), threading.Event(), list[str]()
    acknowledge, close, to_disk = rig.backlog.acknowledge, rig.backlog.close, rig.outbox._to_disk

    def late(*report: Any) -> bool:  # its loads are neither in the queue nor in flight
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

    monkeypatch.setattr(rig.backlog, "acknowledge", late)
    monkeypatch.setattr(rig.backlog, "close", closed)
    monkeypatch.setattr(rig.outbox, "_to_disk", written)
    monkeypatch.setattr(rig.outbox, "_flush", _ctrl_c)
    rig.enqueue(1, 2)
    sending = threading.Thread(target=rig.outbox._pass)
    sending.start()
    assert given_up.wait(30)
    with pytest.raises(KeyboardInterrupt):
        rig.outbox.close(5)
    sending.join()
    assert happened == ["on disk", "closed"]
    assert rig.on_disk() == 2


def _ctrl_c(*_: Any, **__: Any) -> bool:
    raise KeyboardInterrupt


def test_closing_without_a_spool_logs_the_number_of_lost_loads(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(None, [DOWN] * 100)
    rig.enqueue(1, 2)
    assert not rig.outbox.close(5)
    assert "2 spans or events lost" in caplog.text
    assert rig.outbox.stats()["queue"]["dropped"] == {"shutdown": 2}


def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.enqueue(1)
    assert rig.outbox.close(5)
    assert rig.outbox.close(5)
    assert rig.arrived == [1]


def test_a_load_after_closing_goes_to_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.outbox.close(5)
    rig.enqueue(1)
    assert rig.on_disk() == 1


def test_a_load_after_closing_without_a_spool_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(None)
    rig.outbox.close(5)
    rig.enqueue(1, 2)
    assert rig.outbox.stats()["queue"]["dropped"] == {"after_shutdown": 2}
    assert [record.getMessage() for record in caplog.records] == [
        "A span ended after shutdown and is not sent."
    ]


def test_a_flush_is_false_without_a_spool_and_true_with_one(tmp_path: Path) -> None:
    in_memory, on_disk = Rig(None, [DOWN] * 100), Rig(tmp_path, [DOWN] * 100)
    for rig in (in_memory, on_disk):
        rig.enqueue(1)
    assert not in_memory.outbox.flush(5)
    assert on_disk.outbox.flush(5)
    assert on_disk.on_disk() == 1


def test_a_rejected_event_is_a_dead_letter_with_the_reason(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.transport.otherwise = lambda posted: answer(400 if "uuid-2" in posted.uuids else 200)
    rig.enqueue(1, 2, 3)
    assert rig.outbox.flush(10)
    assert rig.arrived == [1, 3]
    assert rig.spool is not None
    assert rig.spool.stats()["dead_letters"] == 1
    connection = rig.spool._open()
    assert connection is not None
    [(reason, body)] = connection.execute("SELECT reason, body FROM dead_letters").fetchall()
    assert (reason, EncodedEvent.of_bytes(body).uuid) == ("invalid", "uuid-2")


def test_without_a_spool_a_rejected_event_makes_a_flush_false() -> None:
    rig = Rig(None, [answer(400)])
    rig.enqueue(1)
    assert not rig.outbox.flush(10)
    assert rig.delivery.stats()["refused"] == {"$ai_generation": {"invalid": 1}}


def test_an_entry_that_is_too_old_or_unreadable_is_a_dead_letter(tmp_path: Path) -> None:
    clock = Clock()
    old = Rig(tmp_path, clock=clock, always=True)
    assert old.spool is not None
    old.spool.put([Entry("event", b"{broken", clock()), Entry("number", b"x", clock())])
    old.spool.put([Entry("number", b"1", clock() - 3 * DAY), Entry("number", b"2", clock() - DAY)])
    old.spool.leave()
    rig = Rig(tmp_path, clock=clock, max_age=2 * DAY)
    assert rig.outbox.flush(10)
    assert rig.arrived == [2]
    stats = rig.outbox.stats()["spool"]
    assert stats["buried"] == {"unreadable": 2, "too_old": 1}
    assert (stats["entries"], stats["dead_letters"]) == (0, 3)


def test_a_halt_keeps_everything_without_another_request(tmp_path: Path) -> None:
    rig = Rig(None, [answer(401)])
    rig.enqueue(1)
    assert not rig.outbox.flush(10)
    rig.enqueue(2)
    assert not rig.outbox.flush(10)
    assert len(rig.transport.posted) == 1
    rig.clock.seconds += 300
    assert rig.outbox.flush(10)
    assert rig.arrived == [1, 2]


def test_a_synchronous_send_is_true_only_if_the_event_is_safe(tmp_path: Path) -> None:
    good, bad, disk = Rig(None), Rig(None, [DOWN] * 100), Rig(tmp_path, [DOWN] * 100)
    assert good.outbox.send_now([event(number=1)], 10)
    assert not bad.outbox.send_now([event(number=1)], 10)
    assert disk.outbox.send_now([event(number=1)], 10)
    assert disk.on_disk() == 1


def test_an_event_that_a_synchronous_send_left_unsent_is_retried() -> None:
    rig = Rig(None, [DOWN] * 3)
    assert not rig.outbox.send_now([event(number=1)], 2)
    assert rig.outbox.flush(100)
    assert rig.arrived == [1]


def test_with_always_a_synchronous_send_is_on_disk_while_it_is_in_flight(tmp_path: Path) -> None:
    rig = Rig(tmp_path, always=True)
    seen: list[int] = []

    def serve(_: Posted) -> Response:
        seen.append(rig.on_disk())
        return answer(200)

    rig.transport.otherwise = serve
    assert rig.outbox.send_now([event(number=1)], 10)
    assert (seen, rig.on_disk()) == ([1], 0)


def test_a_flush_writes_the_loads_of_a_request_that_hangs_to_disk(tmp_path: Path) -> None:
    """Once that request succeeds after all, their entry is deleted."""
    rig = Rig(tmp_path)
    hanging, answered = threading.Event(), threading.Event()

    def serve(_: Posted) -> Response:
        hanging.set()
        answered.wait(10)
        return answer(200)

    rig.transport.otherwise = serve
    outbox = Outbox(
        rig.delivery,
        rig.loads,
        rig.backlog,
        max_queue_bytes=100_000,
        max_batch_bytes=1_000_000,
        flush_interval=0.0,
    )
    outbox.enqueue(1, 100)
    assert hanging.wait(10)
    assert outbox.flush(0.2)
    assert rig.on_disk() == 1
    answered.set()
    assert outbox.close(10)
    assert (rig.arrived, rig.on_disk()) == ([1], 0)


def test_two_outboxes_on_one_spool_send_everything_once(tmp_path: Path) -> None:
    clock = Clock()
    one, other = Rig(tmp_path, clock=clock, always=True), Rig(tmp_path, clock=clock, always=True)
    one.enqueue(*range(0, 1000, 2))
    other.enqueue(*range(1, 1000, 2))
    threads = [threading.Thread(target=rig.outbox.flush, args=(100,)) for rig in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.arrived + other.arrived) == [*range(1000)]


def test_the_entries_of_an_outbox_that_died_are_sent_by_another(tmp_path: Path) -> None:
    clock = Clock()
    dead, alive = Rig(tmp_path, clock=clock, always=True), Rig(tmp_path, clock=clock, always=True)
    dead.enqueue(*range(10))
    assert dead.spool is not None
    dead.spool.lease(5, 10_000)  # and it never acknowledges them
    assert alive.outbox.flush(10)
    assert alive.arrived == []
    clock.seconds += 60
    assert alive.outbox.flush(10)
    assert sorted(alive.arrived) == [*range(10)]


def test_the_entries_of_a_process_that_is_known_to_be_dead_are_sent_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = Rig(tmp_path)
    monkeypatch.setattr(spool, "name_of_holder", lambda: f"{socket.gethostname()}:{ended.pid}:0")
    Rig(tmp_path, clock=alive.clock, always=True).enqueue(1, 2)
    alive.backlog.drain(threading.Event(), lambda: False)
    assert (alive.arrived, alive.backlog.due_in()) == ([], 0.0)
    alive.backlog.drain(threading.Event(), lambda: False)
    assert (alive.arrived, alive.backlog.due_in()) == ([1, 2], LOOK_SECONDS)
