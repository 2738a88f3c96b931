from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_posthog.delivery.memory_queue import ByteBoundedQueue, Queued, Ticket
from tests.delivery.support import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable


def filled(items: Iterable[str], max_bytes: int = 100) -> ByteBoundedQueue[str]:
    queue = ByteBoundedQueue[str](max_bytes, clock=Clock())
    for item in items:
        queue.put(item, 10)
    return queue


def taken_items(queue: ByteBoundedQueue[str], max_items: int, max_bytes: float = float("inf")) -> str:
    return "".join(queued.item for queued in queue.take(max_items, max_bytes))


def test_items_come_out_in_order() -> None:
    queue = filled("abc")
    assert (len(queue), queue.bytes) == (3, 30)
    assert [taken_items(queue, 2), taken_items(queue, 2), taken_items(queue, 2)] == ["ab", "c", ""]
    assert len(queue) == 0


def test_items_in_flight_take_room_until_they_are_done() -> None:
    queue = filled("abc", max_bytes=30)
    taken = queue.take(2)
    assert (queue.bytes, queue.in_flight) == (30, 20)
    queue.put("d", 10)
    assert taken_items(queue, 9) == "d"  # "c" made room
    queue.done(taken)
    assert queue.bytes == 10


def test_items_given_back_are_the_oldest_again() -> None:
    queue = filled("abc")
    taken = queue.take(2)
    queue.give_back(taken, [("A", 5), ("B", 6), ("X", 7)])
    assert (len(queue), queue.bytes) == (4, 28)
    assert taken_items(queue, 9) == "ABXc"


def test_items_given_back_are_not_done() -> None:
    queue = filled("a")
    ticket = queue.ticket()
    queue.give_back(queue.take(1), [("A", 5)])
    queue.put("later", 1)
    assert not queue.wait_done(ticket, 0)
    queue.done(queue.take(1))
    assert queue.wait_done(ticket, 0)


def test_items_given_back_without_room_are_dropped() -> None:
    queue = filled("ab", max_bytes=20)
    queue.give_back(queue.take(1), [("A", 15)])
    assert taken_items(queue, 9) == "b"
    assert queue.dropped() == {"queue_full": 1}


def test_items_that_cannot_be_spilled_at_the_moment_wait_on() -> None:
    answers = iter([None, True])
    queue = ByteBoundedQueue[str](10, spill=lambda _: next(answers))
    for item in "ab":
        queue.put(item, 10)
    assert (len(queue), queue.bytes) == (2, 20)
    queue.put("c", 10)
    assert taken_items(queue, 9) == "c"
    assert queue.dropped() == {}


def test_a_drop_is_a_loss_and_has_a_reason() -> None:
    queue = filled("a")
    ticket = queue.ticket()
    queue.done(queue.take(1), dropped="shutdown")
    queue.drop("after_shutdown")
    assert queue.dropped() == {"shutdown": 1, "after_shutdown": 1}
    assert not queue.wait_done(ticket, 0)


def test_take_stops_at_the_bytes_but_takes_one() -> None:
    queue = filled("abc")
    assert taken_items(queue, 3, max_bytes=25) == "ab"
    assert taken_items(queue, 3, max_bytes=1) == "c"


def test_the_oldest_make_room() -> None:
    queue = filled("abc", max_bytes=20)
    assert taken_items(queue, 9) == "bc"
    assert queue.dropped() == {"queue_full": 1}


def test_an_item_larger_than_the_queue_drops_no_other() -> None:
    queue = filled("ab", max_bytes=20)
    queue.put("huge", 21)
    assert taken_items(queue, 9) == "ab"
    assert queue.dropped() == {"larger_than_queue": 1}


def test_spilled_items_are_not_lost() -> None:
    spilled: list[str] = []

    def spill(items: list[str]) -> bool:
        spilled.extend(items)
        return items != ["b"]

    queue = ByteBoundedQueue[str](10, spill=spill)
    for item in "abc":
        queue.put(item, 10)
    assert spilled == ["a", "b"]
    assert queue.dropped() == {"queue_full": 1}


def test_items_are_not_done_while_they_are_spilled() -> None:
    seen: list[bool] = []

    def spill(_: list[str]) -> bool:
        seen.append(queue.wait_done(ticket, 0))
        return True

    queue = ByteBoundedQueue[str](10, spill=spill)
    queue.put("a", 10)
    ticket = queue.ticket()
    queue.put("b", 10)
    assert seen == [False]
    assert queue.wait_done(ticket, 0)


def test_a_spill_that_fails_is_a_loss_and_no_error() -> None:
    def spill(items: list[str]) -> bool:
        raise OSError(items)

    queue = ByteBoundedQueue[str](10, spill=spill)
    queue.put("a", 10)
    queue.put("b", 10)
    assert queue.dropped() == {"queue_full": 1}


def test_drops_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    queue = ByteBoundedQueue[str](10, clock=clock)
    for seconds in (0, 0, 30, 29, 2):
        clock.seconds += seconds
        queue.put("x", 10)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "4 items dropped" in messages[1]
    assert "max_queue_bytes" in messages[1]


def test_wait_returns_when_an_item_is_there() -> None:
    assert filled("a").wait(0)
    assert not filled("").wait(0)


def test_wait_can_require_more_bytes() -> None:
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
    queue.done(taken)
    assert not queue.wait_done(ticket, 0)
    last = queue.take(1)
    assert not queue.wait_done(ticket, 0)
    queue.done(last)
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
    queue.done(queue.take(1), safe=False)
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
    queue.done(queue.take(1))
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
    assert taken_items(queue, 9) == "x"
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
        taken += [queued.item for queued in part]
        queue.done(part)
    assert sorted(taken) == list(range(20_000))
    assert queue.wait_done(queue.ticket(), 0)


class AgainstAModel(RuleBasedStateMachine):
    """The queue beside plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ByteBoundedQueue[int](50, clock=Clock())
        self.waiting: deque[tuple[int, int]] = deque()
        self.in_flight: list[tuple[int, int]] = []
        self.taken: list[Queued] = []
        self.lost: set[int] = set()
        self.safe: set[int] = set()
        self.tickets: list[tuple[Ticket, int, int]] = []
        self.count = 0

    def bytes(self) -> int:
        return sum(size for _, size in [*self.waiting, *self.in_flight])

    def make_room(self) -> None:
        if self.waiting[-1][1] > 50:
            self.lost.add(self.waiting.pop()[0])
        while self.waiting and self.bytes() > 50:
            self.lost.add(self.waiting.popleft()[0])

    @rule(size=st.integers(0, 60))
    def put(self, size: int) -> None:
        self.queue.put(self.count, size)
        self.waiting.append((self.count, size))
        self.make_room()
        self.count += 1

    @rule(most=st.integers(1, 5))
    def take(self, most: int) -> None:
        taken = self.queue.take(most)
        part = [self.waiting.popleft() for _ in range(min(most, len(self.waiting)))]
        assert [queued.item for queued in taken] == [item for item, _ in part]
        self.taken += taken
        self.in_flight += part

    @precondition(lambda self: self.in_flight)
    @rule(many=st.integers(1, 5), safe=st.booleans())
    def done(self, many: int, safe: bool) -> None:
        part, self.in_flight = self.in_flight[:many], self.in_flight[many:]
        taken, self.taken = self.taken[:many], self.taken[many:]
        self.queue.done(taken, safe=safe)
        (self.safe if safe else self.lost).update(item for item, _ in part)

    @precondition(lambda self: self.in_flight)
    @rule(grow=st.integers(0, 20))
    def give_back(self, grow: int) -> None:
        grown = [(item, size + grow) for item, size in self.in_flight]
        self.queue.give_back(self.taken, grown)
        self.waiting.extendleft(reversed(grown))
        self.in_flight, self.taken = [], []
        self.make_room()

    @rule()
    def ticket(self) -> None:
        self.tickets.append((self.queue.ticket(), self.count, len(self.lost)))

    @invariant()
    def a_ticket_is_done_only_if_all_before_it_is_safe(self) -> None:
        pending = {item for item, _ in [*self.waiting, *self.in_flight]}
        for ticket, before, lost in self.tickets:
            finished = all(item >= before for item in pending) and len(self.lost) == lost
            assert not self.queue.wait_done(ticket, 0) or finished
            if not pending and len(self.lost) == lost:
                assert self.queue.wait_done(ticket, 0)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert len(self.queue) == len(self.waiting)
        assert self.queue.bytes == self.bytes()
        assert self.bytes() <= 50 or not self.waiting
        assert self.count == len(self.lost) + len(self.safe) + len(self.waiting) + len(self.in_flight)


TestAgainstAModel = AgainstAModel.TestCase
