"""A member of a consumer group: fetches messages, hands them on in batches, commits what is safe.

Its one thread polls, always: that keeps the membership alive. Batches are delivered on threads beside it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from otel_posthog.gateway.kafka.batch import Batch, Partition, Progress, is_due, must_hold
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["Group"]

WORKERS = 6
"""Batches under way at once. One is converted while the others wait for PostHog's answer: with 40 ms to
convert one, six keep a core busy as long as answers come within 200 ms."""
PATIENCE_SECONDS = 0.5
"""So long the next batch may wait for room before fetching is paused, which throws away what was fetched."""
COMMIT_SECONDS = 1.0
REVOKE_SECONDS = 10.0
"""So long a rebalance waits for batches under way; what takes longer is read again by the next owner."""
SHUTDOWN_SECONDS, LEAVE_SECONDS = 15.0, 5.0
"""So long the end waits for batches under way, and for the broker: Kubernetes kills after 30 s."""

_logger = logging.getLogger("otel_posthog.consume")

Deliver = Callable[[Batch], bool]
"""Blocks until the messages of a batch are safe, or are to be left (`Batch.over`); whether they are safe."""


class Group:
    """Reads a topic as one of a group. All methods but `stats` belong to the thread of `run`."""

    def __init__(
        self,
        config: dict[str, Any],
        topic: str,
        deliver: Deliver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect.

        Raises:
            KafkaException: a setting is wrong.
        """
        self._problems = RateLimitedLog(clock, _logger)
        self._consumer = Consumer({**config, "on_commit": self._committed, "error_cb": self._broken})
        self._topic = topic
        self._deliver = deliver
        self._clock = clock
        self._progress: dict[Partition, Progress] = {}
        self._batch = Batch(clock())
        self._under_way: list[Batch] = []
        self._work: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._fault: BaseException | None = None
        self._is_held = False
        self._fresh: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._is_committing = False
        self._commit_due = 0.0
        self.counts: dict[str, int] = dict.fromkeys(
            ("messages", "bytes", "batches", "pauses", "rebalances", "lost_partitions", "failed_commits"), 0
        )

    def run(self, is_told: Callable[[], bool]) -> None:
        """Read until told to stop; then finish what is under way, commit, and leave the group.

        Raises:
            KafkaException: nothing can be read any more; the text says why.
            BaseException: what `deliver` raised.
        """
        for number in range(WORKERS):
            threading.Thread(target=self._worker, name=f"deliver-{number}", daemon=True).start()
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
            while not is_told():
                self._step()
        finally:
            self._finish()

    def stats(self) -> dict[str, int]:
        """Counts since the start, and what is here now: bytes, partitions, and whether it is paused."""
        waiting = self._batch.size + sum(batch.size for batch in [*self._under_way])
        return {
            **self.counts,
            "held_bytes": waiting,
            "partitions": len(self._progress),
            "paused": int(self._is_held),
        }

    def partitions(self) -> list[Partition]:
        """The partitions that are ours now."""
        return [*self._progress]

    # --- a turn ---

    def _step(self) -> None:
        if self._fault is not None:
            raise self._fault
        message = self._consumer.poll(0.05 if self._batch.messages or self._under_way else 0.5)
        if message is not None:
            self._gather(message)
        now = self._clock()
        self._under_way = [batch for batch in self._under_way if not batch.has_ended]
        if is_due(self._batch.size, now - self._batch.since, is_busy=bool(self._under_way)):
            if not self._has_room() and not self._is_held:
                self._wait(self._has_room, PATIENCE_SECONDS)
            if self._has_room() and not self._is_backing_off():
                self._hand_on()
        self._hold_or_go_on()
        if now >= self._commit_due and not self._is_committing:
            self._commit_due = now + COMMIT_SECONDS
            self._commit(self._progress, wait=False)

    def _gather(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            self._broken(error)
            return
        topic, number, offset = message.topic(), message.partition(), message.offset()
        progress = self._progress.get((topic or "", number or 0))
        if progress is None or topic is None or number is None or offset is None:
            return  # of a partition that was taken from us: the next owner reads it
        if not self._batch.messages:
            self._batch.since = self._clock()
        self._batch.add(message, (topic, number), offset, progress)
        self.counts["messages"] += 1
        self.counts["bytes"] += len(message.value() or b"")

    def _hand_on(self) -> None:
        batch, self._batch = self._batch, Batch(self._clock())
        self._under_way.append(batch)
        self.counts["batches"] += 1
        self._work.put(batch)

    def _has_room(self) -> bool:
        return sum(not batch.has_ended for batch in self._under_way) < WORKERS

    def _is_backing_off(self) -> bool:
        return any(batch.is_backing_off for batch in self._under_way)

    def _hold_or_go_on(self) -> None:
        hold = must_hold(self._batch.size, has_room=self._has_room(), is_backing_off=self._is_backing_off())
        ours = self._progress.keys()
        if self._fresh and not hold:  # one that comes back is still paused by what it was before
            self._consumer.resume([TopicPartition(*partition) for partition in self._fresh])
        self._fresh.clear()
        if hold and not ours <= self._paused:
            fresh = ours - self._paused
            self._consumer.pause([TopicPartition(*partition) for partition in fresh])
            self._paused |= fresh
        if hold and not self._is_held:
            self.counts["pauses"] += 1
            _logger.info("paused: nothing more is fetched until what is here is delivered")
        if self._is_held and not hold:
            self._consumer.resume([TopicPartition(*partition) for partition in self._paused & ours])
            self._paused.clear()
            _logger.info("resumed")
        self._is_held = hold

    # --- on threads beside ---

    def _worker(self) -> None:
        while (batch := self._work.get()) is not None:
            try:
                if self._deliver(batch):
                    batch.settle()
            except BaseException as error:  # noqa: BLE001, PERF203  # ends the process: what is not safe is read again
                self._fault = error
            finally:
                batch.is_backing_off = False
                batch.has_ended = True
                with self._change:
                    self._change.notify_all()

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        with self._change:
            return self._change.wait_for(condition, seconds)

    # --- commits ---

    def _commit(self, partitions: Iterable[Partition], *, wait: bool) -> None:
        offsets = [
            TopicPartition(*partition, safe)
            for partition in partitions
            if partition in self._progress and (safe := self._progress[partition].safe()) is not None
        ]
        if not offsets:
            return
        try:
            if wait:
                self._committed(None, self._consumer.commit(offsets=offsets, asynchronous=False))
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
                self._is_committing = True
        except KafkaException as error:
            self._committed(error.args[0], [])

    def _committed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._is_committing = False
        for each in partitions:
            progress = self._progress.get((each.topic, each.partition))
            error = error or each.error
            if error is None and progress is not None:
                progress.committed = each.offset
        if error is not None:
            self.counts["failed_commits"] += 1
            self._problems.warn(
                "commit", "offsets were not committed, and will be with those to come: %s", error.str()
            )

    # --- rebalances: called from within `poll` and `close` ---

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.counts["rebalances"] += 1
        for each in partitions:
            self._progress[each.topic, each.partition] = Progress()
            self._fresh.add((each.topic, each.partition))
        _logger.info("assigned: %s", _names(partitions))

    def _revoked(self, _: Consumer, given: list[TopicPartition]) -> None:
        partitions = {(each.topic, each.partition) for each in given}
        self._batch.drop(partitions)
        concerned = [batch for batch in self._under_way if batch.concerns(partitions)]
        self._wait(
            lambda: all(batch.has_ended or batch.is_backing_off for batch in concerned), REVOKE_SECONDS
        )
        self._commit(partitions, wait=True)
        self._let_go(partitions)
        _logger.info("revoked: %s", _names(given))

    def _lost(self, _: Consumer, given: list[TopicPartition]) -> None:
        """Another consumer may have them already: what we would commit could be behind what it did."""
        partitions = {(each.topic, each.partition) for each in given}
        self._batch.drop(partitions)
        self._let_go(partitions)
        self.counts["lost_partitions"] += len(partitions)
        _logger.warning("lost: %s; what is under way of them is not committed", _names(given))

    def _let_go(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._paused.discard(partition)
            self._fresh.discard(partition)
            progress = self._progress.pop(partition, None)
            if progress is not None:
                progress.is_ours = False
        for batch in self._under_way:
            if not batch.is_wanted():
                batch.over.set()

    # --- the end ---

    def _finish(self) -> None:
        for batch in self._under_way:
            batch.over.set()
        ended = self._wait(lambda: all(batch.has_ended for batch in self._under_way), SHUTDOWN_SECONDS)
        if not ended:
            _logger.warning("what is under way takes too long: it is not committed and will be read again")
        for _ in range(WORKERS):
            self._work.put(None)
        self._under_way = []  # nobody waits for them twice
        leaving = threading.Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            _logger.warning("the broker does not answer: what is not committed will be read again")

    def _leave(self) -> None:
        """Without a broker this takes as long as the session."""
        self._commit([*self._progress], wait=True)
        self._consumer.close()

    def _broken(self, error: KafkaError) -> None:
        self._problems.warn(error.name(), "Kafka: %s (%s)", error.str(), error.name())


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{each.topic}/{each.partition}" for each in partitions) or "none"
