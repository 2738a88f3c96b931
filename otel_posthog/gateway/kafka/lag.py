"""How far behind a consumer is, as the broker knows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from otel_posthog.gateway.kafka.batch import Partition

__all__ = ["LagWatch", "lag_of"]

SECONDS = 15.0
"""Between two looks: as often as Prometheus asks, by its default of 15 s to a minute."""
LOG_EVERY = 4
"""Looks from one line in the log to the next: a minute."""
_ANSWER_SECONDS = 5.0


def lag_of(committed: int, low: int, high: int) -> int:
    """Messages of a partition that are not committed, of those between `low`, the first left, and `high`.

    Without a commit, negative in Kafka, it is all of them; what retention has deleted is nobody's any more.
    """
    return max(high - max(committed, low), 0)


class LagWatch:
    """Asks the broker, on a thread and by a client of its own: while one thread polls others wait for it."""

    def __init__(
        self,
        config: Mapping[str, Any],
        partitions: Callable[[], Sequence[Partition]],
        tell: Callable[[int], None],
    ) -> None:
        """Make one with a consumer's settings; it joins no group.

        `tell` hears the sum of all lags, once a minute, for the log.
        """
        self.lags: Mapping[Partition, int] = {}
        """By partition, as of the last look."""
        self._consumer = Consumer(dict(config))
        self._partitions = partitions
        self._tell = tell
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="lag", daemon=True).start()

    def stop(self) -> None:
        """Look no more; what is asked just now is not waited for."""
        self._stop.set()

    def look(self) -> None:
        """Ask the broker now."""
        partitions = [TopicPartition(*partition) for partition in self._partitions()]
        found: dict[Partition, int] = {}
        try:
            for each in self._consumer.committed(partitions, timeout=_ANSWER_SECONDS) if partitions else ():
                low, high = self._consumer.get_watermark_offsets(each, timeout=_ANSWER_SECONDS)
                found[each.topic, each.partition] = lag_of(each.offset, low, high)
        except KafkaException:  # that the broker is away is said by the one who polls
            return
        self.lags = found

    def _run(self) -> None:
        told_in = 0
        # Until there are partitions, a moment after each other.
        while not self._stop.wait(SECONDS if self.lags else 1.0):
            self.look()
            if self.lags and told_in == 0:
                self._tell(sum(self.lags.values()))
            told_in = (told_in or LOG_EVERY) - 1 if self.lags else 0
