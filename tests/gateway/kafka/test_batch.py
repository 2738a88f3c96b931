"""The decisions that need no broker."""

from __future__ import annotations

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.gateway.kafka.batch import (
    BATCH_BYTES,
    LINGER_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    MESSAGE_BYTES,
    Batch,
    Progress,
    backoff,
    is_due,
    must_pause,
)
from otel_posthog.gateway.kafka.lag import lag_of


def message(partition: int, offset: int, value: bytes | None = b"x") -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=value)


def batch_of(progress: dict[int, Progress], *messages: tuple[int, int]) -> Batch:
    made = Batch(0.0)
    for partition, offset in messages:
        made.add(message(partition, offset), ("t", partition), offset, progress[partition])
    return made


@pytest.mark.parametrize(
    ("size", "age", "is_busy", "expected"),
    [
        (0, 60.0, False, False),  # nothing
        (1, 0.0, False, False),  # waits for company
        (1, LINGER_SECONDS, False, True),
        (1, LINGER_SECONDS, True, False),  # nobody waits for it
        (1, 5 * LINGER_SECONDS, True, True),
        (BATCH_BYTES, 0.0, True, True),
        (BATCH_BYTES, 0.0, False, True),
    ],
)
def test_a_batch_is_handed_on_when_full_or_after_a_while(
    size: int, age: float, is_busy: bool, expected: bool
) -> None:
    assert is_due(size, age, is_busy=is_busy) is expected


@pytest.mark.parametrize(
    ("size", "has_room", "is_backing_off", "expected"),
    [
        (0, True, False, False),
        (BATCH_BYTES, True, False, False),
        (BATCH_BYTES - 1, False, False, False),
        (BATCH_BYTES, False, False, True),
        (0, True, True, True),  # PostHog cannot take it: no need to fetch more
    ],
)
def test_fetching_is_paused_where_more_could_not_be_handed_on(
    size: int, has_room: bool, is_backing_off: bool, expected: bool
) -> None:
    assert must_pause(size, has_room=has_room, is_backing_off=is_backing_off) is expected


@pytest.mark.parametrize(
    ("attempt", "retry_after", "expected"),
    [
        (0, 0.0, 0.5),
        (1, 0.0, 1.0),
        (3, 0.0, 4.0),
        (0, 5.0, 5.0),
        (9999, 0.0, LONGEST_BACKOFF_SECONDS),
        (0, 3600.0, LONGEST_BACKOFF_SECONDS),
    ],
)
def test_back_off_grows_and_heeds_what_posthog_asks_for(
    attempt: int, retry_after: float, expected: float
) -> None:
    assert backoff(attempt, retry_after) == expected


@pytest.mark.parametrize(
    ("committed", "low", "high", "expected"),
    [
        (-1001, 0, 10, 10),  # nothing was ever committed
        (-1001, 4, 10, 6),
        (3, 0, 10, 7),
        (10, 0, 10, 0),
        (3, 8, 10, 2),  # retention went past us
        (12, 0, 10, 0),  # the topic was made anew
    ],
)
def test_lag_is_what_is_left_and_not_committed(committed: int, low: int, high: int, expected: int) -> None:
    assert lag_of(committed, low, high) == expected


def test_what_is_safe_beyond_what_is_not_is_not_committed() -> None:
    progress = {0: Progress()}
    first, second = batch_of(progress, (0, 5), (0, 6)), batch_of(progress, (0, 7))
    second.mark_safe()
    assert progress[0].safe() is None
    first.mark_safe()
    assert progress[0].safe() == 8


def test_an_offset_is_committed_once() -> None:
    progress = {0: Progress()}
    batch_of(progress, (0, 5)).mark_safe()
    assert progress[0].safe() == 6
    progress[0].committed = 6
    assert progress[0].safe() is None


def test_offsets_that_are_left_out_by_the_broker_hold_up_nothing() -> None:
    progress = {0: Progress()}
    batch_of(progress, (0, 5), (0, 9)).mark_safe()
    assert progress[0].safe() == 10


def test_messages_of_partitions_that_go_are_let_go() -> None:
    progress = {0: Progress(), 1: Progress()}
    batch = batch_of(progress, (0, 1), (1, 1), (0, 2))
    batch.forget([("t", 0)])
    assert [(each.partition(), each.offset()) for each in batch.messages] == [(1, 1)]
    assert batch.size == 1 + MESSAGE_BYTES
    batch.mark_safe()
    assert progress[0].safe() is None
    assert progress[1].safe() == 2


def test_a_batch_is_ours_while_one_partition_is_ours() -> None:
    progress = {0: Progress(), 1: Progress()}
    batch = batch_of(progress, (0, 1), (1, 1))
    progress[0].is_ours = False
    assert batch.is_ours()
    progress[1].is_ours = False
    assert not batch.is_ours()


def test_a_message_without_a_value_takes_room_and_is_handed_on() -> None:
    batch = Batch(0.0)
    batch.add(message(0, 1, None), ("t", 0), 1, Progress())
    assert is_due(batch.size, LINGER_SECONDS, is_busy=False)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=30), st.data())
def test_nothing_is_ever_committed_beyond_what_is_not_safe(
    batches: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Batches of any partitions end in any order; some never do."""
    progress = {number: Progress() for number in range(3)}
    following = dict.fromkeys(progress, 0)
    waiting: list[tuple[Batch, int, list[int]]] = []
    for partition, count in batches:
        offsets = [*range(following[partition], following[partition] + count)]
        following[partition] += count
        waiting.append((batch_of(progress, *((partition, offset) for offset in offsets)), partition, offsets))
    safe: dict[int, set[int]] = {number: set() for number in progress}
    for batch, partition, offsets in data.draw(st.permutations(waiting)):
        if data.draw(st.booleans()):
            batch.mark_safe()
            safe[partition] |= {*offsets}
        for number, each in progress.items():
            committed = each.safe() or 0
            assert {*range(committed)} <= safe[number]
            assert committed not in safe[number]
