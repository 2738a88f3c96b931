"""The topic of dead letters: unreadable messages, unchanged, with reason and origin in their headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from otel_posthog.gateway.kafka.batch_delivery import DeadLetter

Headers = list[tuple[str, "str | bytes | None"]]

__all__ = ["HEADER", "DeadLetterTopic"]

HEADER = "otel-posthog."
"""The prefix of our headers: `reason`, `topic`, `partition`, `offset`, `group`, `left-out`."""
_CONFIRM_SECONDS = 20.0
"""Within which the broker has to confirm; after that the write is retried."""
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)
_OURS: Mapping[str, Any] = {
    "message.timeout.ms": int(_CONFIRM_SECONDS * 1000),
    "message.max.bytes": 1_000_000_000,  # any message that could be read can be written
    "linger.ms": 0,
}


class DeadLetterTopic:
    """Writes to the dead-letter topic. Safe to share by threads."""

    def __init__(self, config: Mapping[str, Any], topic: str, group: str) -> None:
        """Make the producer, which connects when there is something to write."""
        self._producer = Producer({**config, **_OURS})
        self._topic = topic
        self._group = group

    def write(self, letters: Sequence[DeadLetter]) -> str | None:
        """Write all, and wait for the broker. Return None if it confirmed all, else one sentence.

        A message that is too large for the topic is written without its value, with the header `left-out`.
        """
        remaining = [*letters]
        for keep_value in (True, False):
            failures = self._produce(remaining, keep_value=keep_value)
            errors = [error for _, error in failures if not (keep_value and error.code() in _TOO_LARGE)]
            if errors:
                return (
                    f"unreadable messages cannot be written to the dead-letter topic {self._topic} "
                    f"({errors[0].str()}): create it, or allow writing to it"
                )
            remaining = [letter for letter, _ in failures]
        return None

    def _produce(
        self, letters: Sequence[DeadLetter], *, keep_value: bool
    ) -> list[tuple[DeadLetter, KafkaError]]:
        """Return the letters that the broker did not confirm, with the error."""
        errors = {number: KafkaError(KafkaError._MSG_TIMED_OUT) for number in range(len(letters))}
        for number, (message, reason) in enumerate(letters):
            # The producer's queue has room for more than one batch.
            self._producer.produce(
                self._topic,
                value=message.value() if keep_value else None,
                key=message.key(),
                headers=self._headers(message, reason, keep_value=keep_value),
                on_delivery=partial(_record, errors, number),
            )
        self._producer.flush(_CONFIRM_SECONDS + 1)
        return [(letters[number], error) for number, error in errors.items()]

    def _headers(self, message: Message, reason: str, *, keep_value: bool) -> Headers:
        ours = {
            "reason": reason,
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
            "group": self._group,
        }
        if not keep_value:
            ours["left-out"] = (
                f"the value, of {len(message.value() or b'')} bytes: larger than this topic allows"
            )
        headers = message.headers() or []
        original: Headers = [*headers.items()] if isinstance(headers, dict) else headers
        return [*original, *((HEADER + name, str(value)) for name, value in ours.items())]


def _record(errors: dict[int, KafkaError], number: int, error: KafkaError | None, _: Message) -> None:
    if error is None:
        errors.pop(number, None)
    else:
        errors[number] = error
