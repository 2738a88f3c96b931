"""A member of a consumer group: fetches messages, delivers them in batches, commits the safe ones.

One thread polls all the time, which keeps the membership alive. Other threads deliver the batches.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from otel_posthog.gateway.kafka.batch import Batch, Partition, Progress, is_due, must_pause
from otel_posthog.runtime.log import RateLimitedLog

__all__ = ["Group"]

WORKERS = 6
"""Batches in flight at once. One is converted while the others wait for PostHog's answer. Converting one
takes 40 ms, so six keep a core busy if answers come within 200 ms."""
PATIENCE_SECONDS = 0.5
"""Seconds that a batch waits for a free thread before fetching is paused, which throws away prefetches."""
COMMIT_SECONDS = 1.0
REVOKE_SECONDS = 10.0
"""Seconds that a rebalance waits for batches in flight; the next owner reads unfinished ones again."""
SHUTDOWN_SECONDS, LEAVE_SECONDS = 15.0, 5.0
"""Seconds that the shutdown waits for batches in flight, and for the broker: Kubernetes kills after 30."""

_logger = logging.getLogger("otel_posthog.consume")

Deliver = Callable[[Batch], bool]
"""Blocks until the messages of a batch are safe, or the batch is abandoned; returns whether they are safe."""


class Group:
    """Reads a topic as a member of a group. Only `stats` and `partitions` may be called on other threads."""

    def __init__(
        self,
        config: dict[str, Any],
        topic: str,
        deliver: Deliver,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the client.

        Raises:
            KafkaException: a setting is invalid.
        """
        self._problems = RateLimitedLog(clock, _logger)
        self._consumer = Consumer({**config, "on_commit": self._on_commit, "error_cb": self._on_error})
        self._topic = topic
        self._deliver = deliver
        self._clock = clock
        self._progress: dict[Partition, Progress] = {}
        self._batch = Batch(clock())
        self._in_flight: list[Batch] = []
        self._work: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._error: BaseException | None = None
        self._is_paused = False
        self._newly_assigned: set[Partition] = set()
        self._paused_partitions: set[Partition] = set()
        self._is_committing = False
        self._commit_due = 0.0
        self.counts: dict[str, int] = dict.fromkeys(
            ("messages", "bytes", "batches", "pauses", "rebalances", "lost_partitions", "failed_commits"), 0
        )

    def run(self, must_stop: Callable[[], bool]) -> None:
        """Read until `must_stop()`, then finish the batches in flight, commit, and leave the group.

        Raises:
            KafkaException: the topic cannot be read any more.
            BaseException: raised by `deliver`.
        """
        for number in range(WORKERS):
            threading.Thread(target=self._worker, name=f"deliver-{number}", daemon=True).start()
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not must_stop():
                self._step()
        finally:
            self._finish()

    def stats(self) -> dict[str, int]:
        """Return the counts since the start, and the present bytes, partitions and pause."""
        held = self._batch.size + sum(batch.size for batch in [*self._in_flight])
        return {
            **self.counts,
            "held_bytes": held,
            "partitions": len(self._progress),
            "paused": int(self._is_paused),
        }

    def partitions(self) -> list[Partition]:
        """Return the partitions that are ours now."""
        return [*self._progress]

    # --- one iteration ---

    def _step(self) -> None:
        if self._error is not None:
            raise self._error
        message = self._consumer.poll(0.05 if self._batch.messages or self._in_flight else 0.5)
        if message is not None:
            self._add(message)
        now = self._clock()
        self._in_flight = [batch for batch in self._in_flight if not batch.is_done]
        if is_due(self._batch.size, now - self._batch.since, is_busy=bool(self._in_flight)):
            if not self._has_room() and not self._is_paused:
                self._wait_for(self._has_room, PATIENCE_SECONDS)
            if self._has_room() and not self._is_backing_off():
                self._dispatch()
        self._pause_or_resume()
        if now >= self._commit_due and not self._is_committing:
            self._commit_due = now + COMMIT_SECONDS
            self._commit(self._progress, wait=False)

    def _add(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal():
                raise KafkaException(error)
            self._on_error(error)
            return
        topic, number, offset = message.topic(), message.partition(), message.offset()
        progress = self._progress.get((topic or "", number or 0))
        if progress is None or topic is None or number is None or offset is None:
            return  # its partition was revoked: the next owner reads it
        if not self._batch.messages:
            self._batch.since = self._clock()
        self._batch.add(message, (topic, number), offset, progress)
        self.counts["messages"] += 1
        self.counts["bytes"] += len(message.value() or b"")

    def _dispatch(self) -> None:
        batch, self._batch = self._batch, Batch(self._clock())
        self._in_flight.append(batch)
        self.counts["batches"] += 1
        self._work.put(batch)

    def _has_room(self) -> bool:
        return sum(not batch.is_done for batch in self._in_flight) < WORKERS

    def _is_backing_off(self) -> bool:
        return any(batch.is_backing_off for batch in self._in_flight)

    def _pause_or_resume(self) -> None:
        should_pause = must_pause(
            self._batch.size, has_room=self._has_room(), is_backing_off=self._is_backing_off()
        )
        ours = self._progress.keys()
        if self._newly_assigned and not should_pause:  # a partition that returns is still paused from before
            self._consumer.resume([TopicPartition(*partition) for partition in self._newly_assigned])
        self._newly_assigned.clear()
        if should_pause and not ours <= self._paused_partitions:
            running = ours - self._paused_partitions
            self._consumer.pause([TopicPartition(*partition) for partition in running])
            self._paused_partitions |= running
        if should_pause and not self._is_paused:
            self.counts["pauses"] += 1
            _logger.info("paused: fetching continues when the messages in memory are delivered")
        if self._is_paused and not should_pause:
            self._consumer.resume(
                [TopicPartition(*partition) for partition in self._paused_partitions & ours]
            )
            self._paused_partitions.clear()
            _logger.info("resumed")
        self._is_paused = should_pause

    # --- on the delivering threads ---

    def _worker(self) -> None:
        while (batch := self._work.get()) is not None:
            try:
                if self._deliver(batch):
                    batch.mark_safe()
            except BaseException as error:  # noqa: BLE001, PERF203  # ends the process; unsafe messages are read again
                self._error = error
            finally:
                batch.is_backing_off = False
                batch.is_done = True
                with self._change:
                    self._change.notify_all()

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
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
                self._on_commit(None, self._consumer.commit(offsets=offsets, asynchronous=False))
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
                self._is_committing = True
        except KafkaException as error:
            self._on_commit(error.args[0], [])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._is_committing = False
        for each in partitions:
            progress = self._progress.get((each.topic, each.partition))
            error = error or each.error
            if error is None and progress is not None:
                progress.committed = each.offset
        if error is not None:
            self.counts["failed_commits"] += 1
            self._problems.warn(
                "commit", "committing offsets failed, retrying with the next ones: %s", error.str()
            )

    # --- rebalances: called from within `poll` and `close` ---

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.counts["rebalances"] += 1
        for each in partitions:
            self._progress[each.topic, each.partition] = Progress()
            self._newly_assigned.add((each.topic, each.partition))
        _logger.info("assigned: %s", _names(partitions))

    def _on_revoke(self, _: Consumer, given: list[TopicPartition]) -> None:
        partitions = {(each.topic, each.partition) for each in given}
        self._batch.forget(partitions)
        affected = [batch for batch in self._in_flight if batch.has_any_of(partitions)]
        self._wait_for(
            lambda: all(batch.is_done or batch.is_backing_off for batch in affected), REVOKE_SECONDS
        )
        self._commit(partitions, wait=True)
        self._release(partitions)
        _logger.info("revoked: %s", _names(given))

    def _on_lost(self, _: Consumer, given: list[TopicPartition]) -> None:
        """Commit nothing: another consumer may own the partitions, and have committed later offsets."""
        partitions = {(each.topic, each.partition) for each in given}
        self._batch.forget(partitions)
        self._release(partitions)
        self.counts["lost_partitions"] += len(partitions)
        _logger.warning("lost: %s; their messages in flight are not committed", _names(given))

    def _release(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._paused_partitions.discard(partition)
            self._newly_assigned.discard(partition)
            progress = self._progress.pop(partition, None)
            if progress is not None:
                progress.is_ours = False
        for batch in self._in_flight:
            if not batch.is_ours():
                batch.abandoned.set()

    # --- shutdown ---

    def _finish(self) -> None:
        for batch in self._in_flight:
            batch.abandoned.set()
        is_done = self._wait_for(lambda: all(batch.is_done for batch in self._in_flight), SHUTDOWN_SECONDS)
        if not is_done:
            _logger.warning(
                "the batches in flight did not finish in time: they are not committed and will be read again"
            )
        for _ in range(WORKERS):
            self._work.put(None)
        self._in_flight = []  # the last rebalance must not wait for them again
        leaving = threading.Thread(target=self._leave_group, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        if leaving.is_alive():
            _logger.warning("the broker does not answer: uncommitted messages will be read again")

    def _leave_group(self) -> None:
        """Commit and leave; without a broker this takes as long as the session's timeout."""
        self._commit([*self._progress], wait=True)
        self._consumer.close()

    def _on_error(self, error: KafkaError) -> None:
        self._problems.warn(error.name(), "Kafka: %s (%s)", error.str(), error.name())


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{each.topic}/{each.partition}" for each in partitions) or "none"
