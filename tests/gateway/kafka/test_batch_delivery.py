"""The delivery of a batch, without Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from confluent_kafka import Message

from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.kafka.batch import Batch, Progress
from otel_posthog.gateway.kafka.batch_delivery import DeadLetter, Deliverer, UnreadableError

NOT_NOW = IngestResult(safe=False, retry_after=0.0, reason="not now")


class ScriptedEnds:
    """A PostHog and a dead-letter topic that answer by script."""

    def __init__(
        self, answers: Iterable[IngestResult] = (), write_problems: Iterable[str | None] = ()
    ) -> None:
        self._answers = [*answers]
        self._write_problems = [*write_problems]
        self.ingested: list[list[Any]] = []
        self.letters: list[tuple[bytes | None, str]] = []
        self.deliverer = Deliverer(self.read, self.ingest, self.write_dead_letters)

    def read(self, value: bytes) -> tuple[list[str], str | None]:
        if value == b"bad":
            raise UnreadableError("it is bad")
        return [value.decode()], "half of it" if value == b"half" else None

    def ingest(self, spans: Iterable[Any]) -> IngestResult:
        self.ingested.append([*spans])
        if "poison" in self.ingested[-1]:
            raise LookupError("a prompt")
        return self._answers.pop(0) if self._answers else IngestResult(safe=True)

    def write_dead_letters(self, letters: Sequence[DeadLetter]) -> str | None:
        problem = self._write_problems.pop(0) if self._write_problems else None
        if problem is None:
            self.letters += [(letter.message.value(), letter.reason) for letter in letters]
        return problem


def batch(*values: bytes | None) -> Batch:
    batch = Batch(0.0)
    for offset, value in enumerate(values):
        message = Message(topic="t", partition=0, offset=offset, value=value)
        batch.add(message, ("t", 0), offset, Progress())
    return batch


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_posthog.gateway.kafka.batch_delivery.backoff", lambda *_: 0.0)


@pytest.mark.parametrize(
    ("values", "ingested", "letters"),
    [
        ([], [], []),
        ([b"a", b"b"], [["a", "b"]], []),
        ([b"a", b"bad", b"b"], [["a", "b"]], [(b"bad", "it is bad")]),
        ([b"bad"], [], [(b"bad", "it is bad")]),
        ([None], [], [(None, "the message has no value")]),
        ([b"half"], [["half"]], [(b"half", "a part is unreadable, the rest is delivered: half of it")]),
    ],
)
def test_readable_messages_are_ingested_together_and_the_others_are_dead_letters(
    values: list[bytes | None], ingested: list[list[str]], letters: list[tuple[bytes | None, str]]
) -> None:
    ends = ScriptedEnds()
    assert ends.deliverer.deliver(batch(*values))
    assert ends.ingested == ingested
    assert ends.letters == letters


def test_a_failed_batch_is_ingested_again_as_a_whole() -> None:
    ends = ScriptedEnds([NOT_NOW, NOT_NOW])
    assert ends.deliverer.deliver(batch(b"a", b"b"))
    assert ends.ingested == [["a", "b"]] * 3
    assert ends.deliverer.counts["retries"] == 2
    assert ends.deliverer.counts["spans"] == 2


def test_a_dead_letter_is_written_once_although_the_batch_is_retried() -> None:
    ends = ScriptedEnds([NOT_NOW])
    assert ends.deliverer.deliver(batch(b"bad", b"a"))
    assert ends.letters == [(b"bad", "it is bad")]
    assert ends.deliverer.counts["dead_letters"] == 1


def test_nothing_is_ingested_before_the_dead_letters_are_confirmed() -> None:
    ends = ScriptedEnds(write_problems=["no such topic"])
    abandoned = batch(b"bad", b"a")
    abandoned.abandoned.set()
    assert not ends.deliverer.deliver(abandoned)
    assert ends.ingested == []


def test_a_message_that_raises_is_a_dead_letter_and_the_others_are_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = ScriptedEnds()
    assert ends.deliverer.deliver(batch(b"a", b"half", b"bad", b"poison", b"b"))
    assert ends.ingested == [["a", "half", "poison", "b"], ["a"], ["half"], ["poison"], ["b"]]
    assert [value for value, _ in ends.letters] == [b"half", b"bad", b"poison"]
    assert ends.letters[-1][1] == "a bug of ours, please report it: LookupError"
    assert ends.deliverer.counts["dead_letters"] == 3
    assert "a prompt" not in "".join(record.getMessage() for record in caplog.records)


def test_an_abandoned_batch_is_not_retried() -> None:
    ends = ScriptedEnds([NOT_NOW, NOT_NOW])
    abandoned = batch(b"a")
    abandoned.abandoned.set()
    assert not ends.deliverer.deliver(abandoned)
    assert len(ends.ingested) == 1
    assert ends.deliverer.counts["spans"] == 0


def test_rejected_spans_are_counted_and_block_nothing() -> None:
    ends = ScriptedEnds([IngestResult(safe=True, rejected=1, reason="PostHog rejected 1 events (400)")])
    assert ends.deliverer.deliver(batch(b"a", b"b"))
    assert ends.deliverer.counts["rejected_spans"] == 1
