"""The messages of a batch become delivered events, or dead letters if they are unreadable."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Message

from otel_posthog.forwarder import drain
from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.kafka.batch import Batch, backoff

__all__ = ["DeadLetter", "Deliverer", "UnreadableError"]

_logger = logging.getLogger("otel_posthog.consume")


class UnreadableError(Exception):
    """A message is unreadable as a whole; the text is the reason."""


class DeadLetter(NamedTuple):
    """A message for the dead-letter topic, and the reason."""

    message: Message
    reason: str


ReadMessage = Callable[[bytes], tuple[Sequence[Any], "str | None"]]
"""Returns the spans of a message and, if a part of it is unreadable, why; raises `UnreadableError`."""
Ingest = Callable[[Iterable[Any]], IngestResult]
WriteDeadLetters = Callable[[Sequence[DeadLetter]], "str | None"]
"""Sends dead letters and waits for the broker; returns None if it confirmed all, else one sentence."""


class Deliverer:
    """Delivers batches, on any thread, and counts."""

    def __init__(self, read: ReadMessage, ingest: Ingest, write_dead_letters: WriteDeadLetters) -> None:
        self._read = read
        self._ingest = ingest
        self._write_dead_letters = write_dead_letters
        self._lock = threading.Lock()
        self.counts: dict[str, int] = dict.fromkeys(("spans", "rejected_spans", "dead_letters", "retries"), 0)

    def deliver(self, batch: Batch) -> bool:
        """Deliver all messages; return whether they are safe. They are not if `Batch.abandoned` is set."""
        spans, letters = self._read_all(batch.messages)
        if letters and not self._retry(batch, lambda: self._write(letters)):
            return False
        try:
            return self._deliver_spans(batch, batch.messages, spans)
        except Exception:
            _logger.exception(
                "a batch of %d messages raised an error: delivering each by itself", len(batch.messages)
            )
            return all(self._deliver_alone(batch, message) for message in batch.messages)

    def _deliver_alone(self, batch: Batch, message: Message) -> bool:
        """Deliver one message; its unreadable part is a dead letter already."""
        spans, _ = self._read_all([message])
        try:
            return self._deliver_spans(batch, [message], spans)
        except Exception as error:  # noqa: BLE001  # it would recur, and block the messages after it
            letter = DeadLetter(message, f"a bug of ours, please report it: {type(error).__name__}")
            return self._retry(batch, lambda: self._write([letter]))

    def _deliver_spans(self, batch: Batch, messages: Sequence[Message], spans: list[Any]) -> bool:
        return not spans or self._retry(batch, lambda: self._attempt(messages, spans))

    def _read_all(self, messages: Sequence[Message]) -> tuple[list[Any], list[DeadLetter]]:
        spans: list[Any] = []
        letters: list[DeadLetter] = []
        for message in messages:
            value = message.value()
            try:
                if value is None:
                    raise UnreadableError("the message has no value")
                readable, problem = self._read(value)
            except UnreadableError as error:
                letters.append(DeadLetter(message, str(error)))
                continue
            spans += readable
            if problem is not None:  # once mended and sent again, the readable part gives the same events
                letters.append(DeadLetter(message, f"a part is unreadable, the rest is delivered: {problem}"))
        return spans, letters

    def _retry(self, batch: Batch, attempt: Callable[[], tuple[float, str] | None]) -> bool:
        """Repeat `attempt` until it returns None; return False if the batch is abandoned before."""
        attempts = 0
        while (failure := attempt()) is not None:
            retry_after, reason = failure
            pause = backoff(attempts, retry_after)
            attempts += 1
            batch.is_backing_off = True
            self._count("retries")
            _logger.warning("delivery failed, retrying in %.1f s: %s", pause, reason)
            if batch.abandoned.wait(pause):
                return False
        batch.is_backing_off = False
        return True

    def _write(self, letters: Sequence[DeadLetter]) -> tuple[float, str] | None:
        problem = self._write_dead_letters(letters)
        if problem is not None:
            return 0.0, problem
        self._count("dead_letters", len(letters))
        for letter in letters:
            _logger.error("dead letter from %s: %s", _origin(letter.message), letter.reason)
        return None

    def _attempt(self, messages: Sequence[Message], spans: list[Any]) -> tuple[float, str] | None:
        if not spans:  # the previous attempt emptied the list while it converted them, to free their memory
            spans += self._read_all(messages)[0]
        count = len(spans)
        result = self._ingest(drain(spans))
        if not result.safe:
            return result.retry_after, result.reason or "PostHog accepts no events now"
        self._count("spans", count)
        if result.rejected:
            self._count("rejected_spans", result.rejected)
            _logger.error("%d spans were rejected: %s", result.rejected, result.reason)
        return None

    def _count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number


def _origin(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}, offset {message.offset()}"
