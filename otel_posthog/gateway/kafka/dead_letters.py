"""Dead letters: messages that cannot be read, whole, in a topic of their own, with why and where from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from otel_posthog.gateway.kafka.batch_delivery import DeadLetter

Headers = list[tuple[str, "str | bytes | None"]]

__all__ = ["HEADER", "DeadLetterTopic"]

HEADER = "otel-posthog."
"""Before the names of our headers: `reason`, `topic`, `partition`, `offset`, `group`, `left-out`."""
_SECONDS = 20.0
"""So long the broker has to confirm; then it is tried again later."""
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)
_OURS: Mapping[str, Any] = {
    "message.timeout.ms": int(_SECONDS * 1000),
    "message.max.bytes": 1_000_000_000,  # what could be read can be written, as far as it is up to us
    "linger.ms": 0,
}


class DeadLetterTopic:
    """Writes to the dead-letter topic. Safe to share by threads."""

    def __init__(self, config: Mapping[str, Any], topic: str, group: str) -> None:
        """Connect when there is something to write."""
        self._producer = Producer({**config, **_OURS})
        self._topic = topic
        self._group = group

    def write(self, letters: Sequence[DeadLetter]) -> str | None:
        """Write them all, and wait until the broker has confirmed each; else one sentence why not.

        One that is too large for the topic is written without its value, with the header `left-out`.
        """
        left = [*letters]
        for keep_value in (True, False):
            failed = self._written(left, keep_value=keep_value)
            wrong = [error for _, error in failed if not (keep_value and error.code() in _TOO_LARGE)]
            if wrong:
                return (
                    f"unreadable messages cannot be written to the dead-letter topic {self._topic} "
                    f"({wrong[0].str()}): create it, or allow writing to it"
                )
            left = [letter for letter, _ in failed]
        return None

    def _written(
        self, letters: Sequence[DeadLetter], *, keep_value: bool
    ) -> list[tuple[DeadLetter, KafkaError]]:
        """Those that are not, with the reason."""
        waiting = {number: KafkaError(KafkaError._MSG_TIMED_OUT) for number in range(len(letters))}
        for number, (message, reason) in enumerate(letters):
            # Its queue has room for more than a batch holds.
            self._producer.produce(
                self._topic,
                value=message.value() if keep_value else None,
                key=message.key(),
                headers=self._headers(message, reason, keep_value=keep_value),
                on_delivery=partial(_settle, waiting, number),
            )
        self._producer.flush(_SECONDS + 1)
        return [(letters[number], error) for number, error in waiting.items()]

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
                f"the value, of {len(message.value() or b'')} bytes: larger than this topic takes"
            )
        found = message.headers() or []
        theirs: Headers = [*found.items()] if isinstance(found, dict) else found
        return [*theirs, *((HEADER + name, str(value)) for name, value in ours.items())]


def _settle(waiting: dict[int, KafkaError], number: int, error: KafkaError | None, _: Message) -> None:
    if error is None:
        waiting.pop(number, None)
    else:
        waiting[number] = error
