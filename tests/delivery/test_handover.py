from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_posthog.delivery import ByteBoundedQueue
from tests.delivery.support import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable


def filled(items: Iterable[str], max_bytes: int = 100) -> ByteBoundedQueue[str]:
    queue = ByteBoundedQueue[str](max_bytes, clock=Clock())
    for item in items:
        queue.put(item, 10)
    return queue


def test_items_come_out_in_order() -> None:
    queue = filled("abc")
    assert (len(queue), queue.bytes) == (3, 30)
    assert queue.take(2) == ["a", "b"]
    assert queue.take(2) == ["c"]
    assert queue.take(2) == []
    assert (len(queue), queue.bytes) == (0, 0)


def test_take_stops_at_the_bytes_but_takes_one() -> None:
    queue = filled("abc")
    assert queue.take(3, max_bytes=25) == ["a", "b"]
    assert queue.take(3, max_bytes=1) == ["c"]


def test_the_oldest_make_room() -> None:
    queue = filled("abc", max_bytes=20)
    assert queue.take(9) == ["b", "c"]
    assert queue.dropped() == {"queue_full": 1}


def test_an_item_larger_than_the_queue_drops_no_other() -> None:
    queue = filled("ab", max_bytes=20)
    queue.put("huge", 21)
    assert queue.take(9) == ["a", "b"]
    assert queue.dropped() == {"larger_than_queue": 1}


def test_what_is_spilled_is_not_lost() -> None:
    spilled: list[str] = []

    def spill(item: str) -> bool:
        spilled.append(item)
        return item != "b"

    queue = ByteBoundedQueue[str](10, spill=spill)
    for item in "abc":
        queue.put(item, 10)
    assert spilled == ["a", "b"]
    assert queue.dropped() == {"queue_full": 1}


def test_what_is_being_spilled_is_not_done_yet() -> None:
    seen: list[bool] = []

    def spill(_: str) -> bool:
        seen.append(queue.wait_done(ticket, 0))
        return True

    queue = ByteBoundedQueue[str](10, spill=spill)
    queue.put("a", 10)
    ticket = queue.ticket()
    queue.put("b", 10)
    assert seen == [False]
    assert queue.wait_done(ticket, 0)


def test_a_spill_that_fails_is_a_loss_and_no_error() -> None:
    def spill(item: str) -> bool:
        raise OSError(item)

    queue = ByteBoundedQueue[str](10, spill=spill)
    queue.put("a", 10)
    queue.put("b", 10)
    assert queue.dropped() == {"queue_full": 1}


def test_dropping_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    queue = ByteBoundedQueue[str](10, clock=clock)
    for seconds in (0, 0, 30, 29, 2):
        clock.seconds += seconds
        queue.put("x", 10)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "4 items dropped" in messages[1]
    assert "max_queue_bytes" in messages[1]


def test_wait_returns_when_something_is_there() -> None:
    assert filled("a").wait(0)
    assert not filled("").wait(0)


def test_wait_can_ask_for_more() -> None:
    assert not filled("a").wait(0, enough=11)
    assert filled("ab").wait(0, enough=11)


def test_flush_ends_one_wait() -> None:
    queue = filled("")
    queue.flush()
    assert queue.wait(0)
    assert not queue.wait(0)


@pytest.mark.parametrize("wake", ["put", "flush"])
def test_a_waiting_worker_is_woken(wake: str) -> None:
    queue = filled("")
    woken: list[bool] = []
    worker = threading.Thread(target=lambda: woken.append(queue.wait(30)))
    worker.start()
    if wake == "put":
        queue.put("a", 1)
    else:
        queue.flush()
    worker.join(10)
    assert woken == [True]


def test_wait_done_is_true_once_all_before_the_ticket_is_done() -> None:
    queue = filled("abc")
    ticket = queue.ticket()
    queue.put("later", 10)
    taken = queue.take(2)
    assert not queue.wait_done(ticket, 0)
    queue.done(len(taken))
    assert not queue.wait_done(ticket, 0)
    queue.take(1)
    assert not queue.wait_done(ticket, 0)
    queue.done(1)
    assert queue.wait_done(ticket, 0)


def test_wait_done_of_an_idle_queue_is_true() -> None:
    queue = filled("")
    assert queue.wait_done(queue.ticket(), 0)


def test_items_in_flight_are_before_the_ticket() -> None:
    queue = filled("a")
    queue.take(1)
    ticket = queue.ticket()
    for item in "bcdefghijklmnop":
        queue.put(item, 10)  # some of these are dropped, which must not pass for "a" being done
    assert not queue.wait_done(ticket, 0)


def test_a_failed_delivery_makes_wait_done_false() -> None:
    queue = filled("a")
    ticket = queue.ticket()
    queue.take(1)
    queue.done(1, delivered=False)
    assert not queue.wait_done(ticket, 0)
    assert queue.wait_done(queue.ticket(), 0)


def test_an_item_dropped_while_waiting_makes_wait_done_false() -> None:
    queue = filled("a", max_bytes=10)
    ticket = queue.ticket()
    queue.put("b", 10)
    assert not queue.wait_done(ticket, 0)


def test_wait_done_wakes_up_when_the_worker_is_done() -> None:
    queue = filled("a")
    ticket = queue.ticket()
    finished: list[bool] = []
    flusher = threading.Thread(target=lambda: finished.append(queue.wait_done(ticket, 30)))
    flusher.start()
    queue.take(1)
    queue.done(1)
    flusher.join(10)
    assert finished == [True]


def test_a_forked_child_starts_empty_even_if_the_lock_was_held() -> None:
    queue = filled("abc", max_bytes=20)
    held = threading.Event()
    release = threading.Event()
    lock = queue._lock

    def hold() -> None:
        with lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    queue.reset_after_fork()
    queue.put("x", 1)
    assert queue.take(9) == ["x"]
    assert queue.dropped() == {}
    release.set()
    holder.join()


def test_nothing_is_lost_between_threads() -> None:
    queue = ByteBoundedQueue[int](10**9)

    def produce(start: int) -> None:
        for number in range(start, start + 5000):
            queue.put(number, 1)

    producers = [threading.Thread(target=produce, args=(start,)) for start in range(0, 20_000, 5000)]
    for producer in producers:
        producer.start()
    taken: list[int] = []
    while len(taken) < 20_000:
        assert queue.wait(10)
        part = queue.take(512)
        taken += part
        queue.done(len(part))
    assert sorted(taken) == list(range(20_000))
    assert queue.wait_done(queue.ticket(), 0)


class AgainstAModel(RuleBasedStateMachine):
    """The queue beside a plain deque, with one worker."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ByteBoundedQueue[int](50, clock=Clock())
        self.waiting: deque[tuple[int, int]] = deque()
        self.in_flight: list[int] = []
        self.lost: set[int] = set()
        self.safe: set[int] = set()
        self.count = 0

    @rule(size=st.integers(0, 60))
    def put(self, size: int) -> None:
        self.queue.put(self.count, size)
        if size > 50:
            self.lost.add(self.count)
        else:
            self.waiting.append((self.count, size))
            while sum(each for _, each in self.waiting) > 50:
                self.lost.add(self.waiting.popleft()[0])
        self.count += 1

    @precondition(lambda self: not self.in_flight)
    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        self.in_flight = self.queue.take(most)
        assert self.in_flight == [self.waiting.popleft()[0] for _ in range(min(most, len(self.waiting)))]

    @precondition(lambda self: self.in_flight)
    @rule(delivered=st.booleans())
    def done(self, delivered: bool) -> None:
        self.queue.done(len(self.in_flight), delivered=delivered)
        (self.safe if delivered else self.lost).update(self.in_flight)
        self.in_flight = []

    @rule()
    def everything_so_far_is_done_only_if_it_is(self) -> None:
        pending = {item for item, _ in self.waiting} | set(self.in_flight)
        assert self.queue.wait_done(self.queue.ticket(), 0) == (not pending)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.bytes == sum(each for _, each in self.waiting)
        assert self.count == len(self.lost) + len(self.safe) + len(self.waiting) + len(self.in_flight)


TestAgainstAModel = AgainstAModel.TestCase
