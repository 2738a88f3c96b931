"""A spool that an earlier version wrote is read by this one; `tests/golden/spool` holds it and its events."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from otel_posthog import PostHogSpanExporter, PostHogSpanProcessor, cli
from otel_posthog.local import Inbox
from tests.support.paths import GOLDEN

BEFORE = GOLDEN / "spool" / "0.1.0"
FILE_NAME = "otel-posthog.sqlite3"
KEY = "phc_test"
OTHER_PROJECT = "1c0ab3168ed0f541"
"""The name of the project whose key is `phc_other`."""

OF_SENDER = frozenset({"$lib_version", "$ai_lib_version"})
PRICED = frozenset(
    {"$ai_total_cost_usd", "$ai_input_cost_usd", "$ai_output_cost_usd", "cost_usd", "estimated_cost"}
)
"""Prices change: only their presence is compared."""
CONTENT = frozenset(
    {"$ai_input", "$ai_output_choices", "$ai_tools", "$ai_input_state", "$ai_output_state", "$ai_error"}
    | {"error_message"}
)
PERSON = "user-ada-"
EMAIL = "ada@hush.example"

Event = dict[str, Any]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    with Inbox() as running:
        monkeypatch.setenv("POSTHOG_API_KEY", KEY)
        monkeypatch.setenv("POSTHOG_HOST", running.url)
        yield running


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A copy of the earlier spool, dated now: no entry in it is too old, whatever day it is."""
    directory = tmp_path / "spool"
    directory.mkdir()
    shutil.copyfile(BEFORE / FILE_NAME, directory / FILE_NAME)
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        connection.execute("UPDATE entries SET created = strftime('%s', 'now')")
        connection.commit()
    return directory


def replay(*words: object) -> int:
    return cli.main(["replay", *map(str, words)])


def waits(spool: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines that `replay list` prints of the spool, without the last."""
    capsys.readouterr()
    assert replay("list", "--spool-dir", spool) == 0
    return capsys.readouterr().out.splitlines()[:-1]


def recorded(name: str) -> list[Event]:
    return [json.loads(line) for line in (BEFORE / f"{name}.jsonl").read_text("utf-8").splitlines()]


def ids(events: list[Event]) -> list[tuple[str, str]]:
    return sorted((event["uuid"], event["event"]) for event in events)


def assert_arrived_once(events: list[Event], name: str) -> None:
    """Compare events with those that the earlier version sent."""
    assert {event["_inbox"]["copies"] for event in events} == {1}
    comparable = sorted(map(_comparable, events), key=lambda event: (event["uuid"], event["event"]))
    if os.environ.get("UPDATE_GOLDEN"):
        lines = [json.dumps(event, sort_keys=True, ensure_ascii=False) for event in comparable]
        (BEFORE / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    assert ids(comparable) == ids(recorded(name))
    assert comparable == recorded(name)


def _comparable(event: Event) -> Event:
    envelope = {name: event[name] for name in ("event", "uuid", "distinct_id", "timestamp")}
    properties = {
        name: "priced" if name in PRICED else value
        for name, value in event["properties"].items()
        if name not in OF_SENDER
    }
    return {**envelope, "properties": properties}


@pytest.mark.parametrize("front", [PostHogSpanExporter, PostHogSpanProcessor])
def test_an_application_sends_the_entries_once_and_as_before(
    spool: Path, inbox: Inbox, front: type[PostHogSpanExporter | PostHogSpanProcessor]
) -> None:
    opened = front(spool_dir=spool)
    assert opened.force_flush(60_000)
    left = opened.stats()["spool"]
    opened.shutdown()
    assert_arrived_once(inbox.events(), "waiting")
    assert (left["entries"], left["dead_letters"], left["dropped"], left["buried"]) == (0, 6, {}, {})


def test_dead_letters_are_listed_with_their_reasons(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    letters = [line.split() for line in waits(spool, capsys) if "refused" in line]
    assert [(words[0], words[3], words[-1]) for words in letters] == [
        ("d1", "llm_completion_requested", "too_old"),
        ("d2", "span", "too_old"),
        ("d3", "llm_completion_success", "invalid"),
        ("d4", "$ai_generation", "invalid"),
        ("d5", "llm_completion_success", "invalid"),
        ("d6", "$ai_generation", "invalid"),
    ]


def test_the_command_line_sends_every_entry_and_leaves_none(
    spool: Path, inbox: Inbox, capsys: pytest.CaptureFixture[str]
) -> None:
    exporter = PostHogSpanExporter(spool_dir=spool)
    assert exporter.force_flush(60_000)
    exporter.shutdown()
    for command, name in ((["resend"], "refused"), (["adopt", OTHER_PROJECT], None), (["resend"], "adopted")):
        before = len(inbox.events())
        assert replay(*command, "--spool-dir", spool) == 0
        if name is not None:
            assert_arrived_once(inbox.events()[before:], name)
    assert waits(spool, capsys) == []


def _texts_of_content() -> frozenset[str]:
    """Return whole sentences from earlier events: prompts, answers, arguments of tools, errors."""
    content = [
        value
        for name in ("waiting", "refused")
        for event in recorded(name)
        for property_name, value in event["properties"].items()
        if property_name in CONTENT
    ]
    return frozenset(text for text in _texts(content) if " " in text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


@pytest.mark.parametrize(
    ("environment", "private"),
    [
        pytest.param({"CAPTURE_CONTENT": "false"}, _texts_of_content() | {EMAIL, "hush, "}, id="content"),
        pytest.param({"HASH_USER_IDS": "another secret of sixteen letters"}, {PERSON}, id="users"),
        pytest.param({"REDACT": "email"}, {EMAIL}, id="emails"),
    ],
)
def test_a_process_that_hides_more_sends_nothing_hidden_out_of_the_spool(
    spool: Path,
    inbox: Inbox,
    environment: Mapping[str, str],
    private: frozenset[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = [*recorded("waiting"), *recorded("refused")]
    assert _seen_in(shown, private) == private
    for name, value in environment.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_POSTHOG_{name}", value)
    assert replay("resend", "--spool-dir", spool) == 0
    assert ids(inbox.events()) == ids(shown)
    assert _seen_in(inbox.events(), private) == set()


def _seen_in(events: list[Event], private: frozenset[str]) -> set[str]:
    texts = "\n".join(text for event in events for text in _texts(event))
    return {each for each in private if each in texts}
