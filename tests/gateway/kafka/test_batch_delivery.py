"""What becomes of the messages of a batch, apart from Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from confluent_kafka import Message

from otel_posthog.gateway.ingest import IngestResult
from otel_posthog.gateway.kafka.batch import Batch, Progress
from otel_posthog.gateway.kafka.batch_delivery import DeadLetter, Deliverer, UnreadableError

NOT_NOW = IngestResult(safe=False, retry_after=0.0, reason="not now")


class Parts:
    """A PostHog and a dead-letter topic that answer by script."""

    def __init__(self, answers: Iterable[IngestResult] = (), buried: Iterable[str | None] = ()) -> None:
        self._answers = [*answers]
        self._buried = [*buried]
        self.taken: list[list[Any]] = []
        self.letters: list[tuple[bytes | None, str]] = []
        self.deliverer = Deliverer(self.read, self.ingest, self.write_dead_letters)

    def read(self, value: bytes) -> tuple[list[str], str | None]:
        if value == b"bad":
            raise UnreadableError("it is bad")
        return [value.decode()], "half of it" if value == b"half" else None

    def ingest(self, spans: Iterable[Any]) -> IngestResult:
        self.taken.append([*spans])
        if "poison" in self.taken[-1]:
            raise LookupError("what its spans say")
        return self._answers.pop(0) if self._answers else IngestResult(safe=True)

    def write_dead_letters(self, letters: Sequence[DeadLetter]) -> str | None:
        why = self._buried.pop(0) if self._buried else None
        if why is None:
            self.letters += [(letter.message.value(), letter.reason) for letter in letters]
        return why


def batch(*values: bytes | None) -> Batch:
    made = Batch(0.0)
    for offset, value in enumerate(values):
        message = Message(topic="t", partition=0, offset=offset, value=value)
        made.add(message, ("t", 0), offset, Progress())
    return made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_posthog.gateway.kafka.batch_delivery.backoff", lambda *_: 0.0)


@pytest.mark.parametrize(
    ("values", "taken", "letters"),
    [
        ([], [], []),
        ([b"a", b"b"], [["a", "b"]], []),
        ([b"a", b"bad", b"b"], [["a", "b"]], [(b"bad", "it is bad")]),
        ([b"bad"], [], [(b"bad", "it is bad")]),
        ([None], [], [(None, "the message has no value")]),
        ([b"half"], [["half"]], [(b"half", "a part is unreadable, the rest is delivered: half of it")]),
    ],
)
def test_what_is_readable_is_taken_together_and_the_rest_is_buried(
    values: list[bytes | None], taken: list[list[str]], letters: list[tuple[bytes | None, str]]
) -> None:
    parts = Parts()
    assert parts.deliverer.deliver(batch(*values))
    assert parts.taken == taken
    assert parts.letters == letters


def test_what_is_not_taken_is_taken_whole_again() -> None:
    parts = Parts([NOT_NOW, NOT_NOW])
    assert parts.deliverer.deliver(batch(b"a", b"b"))
    assert parts.taken == [["a", "b"]] * 3
    assert parts.deliverer.counts["retries"] == 2
    assert parts.deliverer.counts["spans"] == 2


def test_a_letter_is_written_once_though_posthog_is_asked_again() -> None:
    parts = Parts([NOT_NOW])
    assert parts.deliverer.deliver(batch(b"bad", b"a"))
    assert parts.letters == [(b"bad", "it is bad")]
    assert parts.deliverer.counts["dead_letters"] == 1


def test_nothing_is_taken_before_the_dead_letters_are_confirmed() -> None:
    parts = Parts(buried=["no such topic"])
    left = batch(b"bad", b"a")
    left.abandoned.set()
    assert not parts.deliverer.deliver(left)
    assert parts.taken == []


def test_a_message_that_brings_up_a_fault_is_a_dead_letter_and_takes_no_other_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    assert parts.deliverer.deliver(batch(b"a", b"half", b"bad", b"poison", b"b"))
    assert parts.taken == [["a", "half", "poison", "b"], ["a"], ["half"], ["poison"], ["b"]]
    assert [value for value, _ in parts.letters] == [b"half", b"bad", b"poison"]
    assert parts.letters[-1][1] == "a bug of ours, please report it: LookupError"
    assert parts.deliverer.counts["dead_letters"] == 3
    assert "what its spans say" not in "".join(record.getMessage() for record in caplog.records)


def test_a_batch_that_is_over_is_not_tried_again() -> None:
    parts = Parts([NOT_NOW, NOT_NOW])
    left = batch(b"a")
    left.abandoned.set()
    assert not parts.deliverer.deliver(left)
    assert len(parts.taken) == 1
    assert parts.deliverer.counts["spans"] == 0


def test_spans_that_can_never_be_there_are_counted_and_hold_up_nothing() -> None:
    parts = Parts([IngestResult(safe=True, rejected=1, reason="PostHog rejected 1 events (400)")])
    assert parts.deliverer.deliver(batch(b"a", b"b"))
    assert parts.deliverer.counts["rejected_spans"] == 1
