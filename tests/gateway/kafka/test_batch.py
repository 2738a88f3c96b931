"""The decisions about batches, without a broker."""

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
    batch = Batch(0.0)
    for partition, offset in messages:
        batch.add(message(partition, offset), ("t", partition), offset, progress[partition])
    return batch


@pytest.mark.parametrize(
    ("size", "age", "is_busy", "expected"),
    [
        (0, 60.0, False, False),  # nothing
        (1, 0.0, False, False),  # waits for more messages
        (1, LINGER_SECONDS, False, True),
        (1, LINGER_SECONDS, True, False),  # other batches are in flight
        (1, 5 * LINGER_SECONDS, True, True),
        (BATCH_BYTES, 0.0, True, True),
        (BATCH_BYTES, 0.0, False, True),
    ],
)
def test_a_batch_is_due_when_full_or_after_a_while(
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
        (0, True, True, True),  # PostHog accepts nothing: no need to fetch more
    ],
)
def test_fetching_is_paused_if_no_thread_is_free_or_posthog_is_away(
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
def test_back_off_grows_and_respects_posthogs_retry_after(
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
        (3, 8, 10, 2),  # retention deleted uncommitted messages
        (12, 0, 10, 0),  # the topic was created again
    ],
)
def test_lag_counts_kept_messages_after_the_committed_one(
    committed: int, low: int, high: int, expected: int
) -> None:
    assert lag_of(committed, low, high) == expected


def test_a_safe_batch_after_an_unsafe_one_is_not_committed() -> None:
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


def test_gaps_in_the_offsets_block_nothing() -> None:
    progress = {0: Progress()}
    batch_of(progress, (0, 5), (0, 9)).mark_safe()
    assert progress[0].safe() == 10


def test_messages_of_revoked_partitions_are_forgotten() -> None:
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


def test_a_message_without_a_value_has_a_size_and_is_due() -> None:
    batch = Batch(0.0)
    batch.add(message(0, 1, None), ("t", 0), 1, Progress())
    assert is_due(batch.size, LINGER_SECONDS, is_busy=False)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4)), max_size=30), st.data())
def test_no_commit_ever_passes_an_unsafe_message(batches: list[tuple[int, int]], data: st.DataObject) -> None:
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
