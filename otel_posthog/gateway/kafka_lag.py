"""How far behind a consumer is, as the broker knows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from otel_posthog.gateway.kafka_batch import Part

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
    """Asks the broker on a thread of its own, so that a slow answer holds up nobody."""

    def __init__(
        self, consumer: Consumer, parts: Callable[[], Sequence[Part]], tell: Callable[[int], None]
    ) -> None:
        """Make one; `tell` hears the sum, now and then, for the log."""
        self.lags: Mapping[Part, int] = {}
        """By partition, as of the last look."""
        self._consumer = consumer
        self._parts = parts
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more: after this the consumer may be closed."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Ask the broker now."""
        parts = [TopicPartition(*part) for part in self._parts()]
        found: dict[Part, int] = {}
        try:
            for each in self._consumer.committed(parts, timeout=_ANSWER_SECONDS) if parts else ():
                low, high = self._consumer.get_watermark_offsets(each, timeout=_ANSWER_SECONDS)
                found[each.topic, each.partition] = lag_of(each.offset, low, high)
                if self._stop.is_set():
                    return
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
