"""The messages of a batch are made safe: what can be read as events, what cannot as dead letters."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message

from otel_posthog.forwarder.span_converter import emptied
from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.kafka.batch import Batch, backoff

__all__ = ["DeadLetter", "Deliverer", "UnreadableError"]

_logger = logging.getLogger("otel_posthog.consume")


class UnreadableError(Exception):
    """Nothing of a message can be read; the text says why."""


class DeadLetter(NamedTuple):
    """A message for the dead-letter topic."""

    message: Message
    reason: str


ReadMessage = Callable[[bytes], tuple[Sequence[Any], "str | None"]]
"""The spans of a message, and why some of it could not be read, if so; raises `UnreadableError`."""
Ingest = Callable[[Iterable[Any]], IngestResult]
WriteDeadLetters = Callable[[Sequence[DeadLetter]], "str | None"]
"""Sends dead letters and waits for the broker's word; None if all are there, else one sentence."""


class Deliverer:
    """Makes batches safe, on any thread. Counts what it did."""

    def __init__(self, read: ReadMessage, ingest: Ingest, write_dead_letters: WriteDeadLetters) -> None:
        self._read = read
        self._ingest = ingest
        self._write_dead_letters = write_dead_letters
        self._lock = threading.Lock()
        self.counts: dict[str, int] = dict.fromkeys(("spans", "rejected_spans", "dead_letters", "retries"), 0)

    def deliver(self, batch: Batch) -> bool:
        """Whether everything in the batch is safe; False when it is to be left (`Batch.over`)."""
        spans, letters = self._sorted(batch.messages)
        if letters and not self._until(batch, lambda: self._buried(letters)):
            return False
        try:
            return self._made_safe(batch, batch.messages, spans)
        except Exception:
            _logger.exception("a batch of %d messages brings up a fault: each by itself", len(batch.messages))
            return all(self._alone(batch, message) for message in batch.messages)

    def _alone(self, batch: Batch, message: Message) -> bool:
        """The same for one message; what could not be read of it is a dead letter already."""
        spans, _ = self._sorted([message])
        try:
            return self._made_safe(batch, [message], spans)
        except Exception as error:  # noqa: BLE001  # it would come again, and hold up all after it
            letter = DeadLetter(message, f"a fault of ours, please report it: {type(error).__name__}")
            return self._until(batch, lambda: self._buried([letter]))

    def _made_safe(self, batch: Batch, messages: Sequence[Message], spans: list[Any]) -> bool:
        return not spans or self._until(batch, lambda: self._taken(messages, spans))

    def _sorted(self, messages: Sequence[Message]) -> tuple[list[Any], list[DeadLetter]]:
        spans: list[Any] = []
        letters: list[DeadLetter] = []
        for message in messages:
            value = message.value()
            try:
                if value is None:
                    raise UnreadableError("the message has no value")
                found, wrong = self._read(value)
            except UnreadableError as error:
                letters.append(DeadLetter(message, str(error)))
                continue
            spans += found
            if wrong is not None:  # what could be read is delivered; sent again, it is the same events
                letters.append(
                    DeadLetter(message, f"a part could not be read, the rest is delivered: {wrong}")
                )
        return spans, letters

    def _until(self, batch: Batch, attempt: Callable[[], tuple[float, str] | None]) -> bool:
        """Try until it is done; False when the batch is to be left."""
        failed = 0
        while (refusal := attempt()) is not None:
            retry_after, why = refusal
            pause = backoff(failed, retry_after)
            failed += 1
            batch.is_backing_off = True
            self._count("retries")
            _logger.warning("not delivered, again in %.1f s: %s", pause, why)
            if batch.over.wait(pause):
                return False
        batch.is_backing_off = False
        return True

    def _buried(self, letters: Sequence[DeadLetter]) -> tuple[float, str] | None:
        why = self._write_dead_letters(letters)
        if why is not None:
            return 0.0, why
        self._count("dead_letters", len(letters))
        for letter in letters:
            _logger.error("dead letter, from %s: %s", _place_of(letter.message), letter.reason)
        return None

    def _taken(self, messages: Sequence[Message], spans: list[Any]) -> tuple[float, str] | None:
        if not spans:  # the attempt before this one let go of them, as it made events
            spans += self._sorted(messages)[0]
        count = len(spans)
        answer = self._ingest(emptied(spans))
        if not answer.safe:
            return answer.retry_after, answer.reason or "PostHog does not take events now"
        self._count("spans", count)
        if answer.rejected:
            self._count("rejected_spans", answer.rejected)
            _logger.error("%d spans are not in PostHog: %s", answer.rejected, answer.reason)
        return None

    def _count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number


def _place_of(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}, offset {message.offset()}"
