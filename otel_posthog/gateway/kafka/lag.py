"""The consumer's lag, as the broker knows it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from otel_posthog.gateway.kafka.batch import Partition

__all__ = ["LagWatch", "lag_of"]

SECONDS = 15.0
"""Between two requests: Prometheus scrapes every 15 s to a minute by default."""
LOG_EVERY = 4
"""Requests from one line in the log to the next: a minute."""
_ANSWER_SECONDS = 5.0


def lag_of(committed: int, low: int, high: int) -> int:
    """Return the number of messages in a partition after the committed one.

    `low` is the first offset that retention has kept, `high` the next one to be written. Without a commit
    `committed` is negative, and all messages count.
    """
    return max(high - max(committed, low), 0)


class LagWatch:
    """Requests the lag on a thread and with a client of its own, because polling blocks a client."""

    def __init__(
        self,
        config: Mapping[str, Any],
        partitions: Callable[[], Sequence[Partition]],
        log_lag: Callable[[int], None],
    ) -> None:
        """Make a client with a consumer's settings; it joins no group.

        `log_lag` is called with the sum of all lags once a minute.
        """
        self.lags: Mapping[Partition, int] = {}
        """By partition, as of the last request."""
        self._consumer = Consumer(dict(config))
        self._partitions = partitions
        self._log_lag = log_lag
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="lag", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread, without waiting for a request in flight."""
        self._stop.set()

    def refresh(self) -> None:
        """Request the lags from the broker now."""
        partitions = [TopicPartition(*partition) for partition in self._partitions()]
        lags: dict[Partition, int] = {}
        try:
            for each in self._consumer.committed(partitions, timeout=_ANSWER_SECONDS) if partitions else ():
                low, high = self._consumer.get_watermark_offsets(each, timeout=_ANSWER_SECONDS)
                lags[each.topic, each.partition] = lag_of(each.offset, low, high)
        except KafkaException:  # the group logs that the broker is away
            return
        self.lags = lags

    def _run(self) -> None:
        until_log = 0
        # Every second until there are partitions.
        while not self._stop.wait(SECONDS if self.lags else 1.0):
            self.refresh()
            if self.lags and until_log == 0:
                self._log_lag(sum(self.lags.values()))
            until_log = (until_log or LOG_EVERY) - 1 if self.lags else 0
