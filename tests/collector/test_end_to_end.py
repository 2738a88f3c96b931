"""Applications in Python and Node, a Collector, the gateway, PostHog: what is sent arrives, whoever dies.

All parts are processes, the Collectors other people's. What the applications were told is taken has to be at
PostHog in the end, by the uuids that its spans have to have, and each uuid with one content.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from typing_extensions import Self

from otel_posthog.conversion.events.event_envelope import event_uuid
from otel_posthog.demo.fake_providers import FakeProviders
from tests.collector.conftest import node_packages
from tests.delivery.capture_server import Answer, CaptureServer, capture_server
from tests.gateway.conftest import environment
from tests.support.collector import ROOT, Program, collector, rotel
from tests.support.waiting import free_ports, until

APPLICATION = Path(__file__).parent / "application"
TOKEN = "a-token-of-the-gateway"
AWAY_SECONDS = {"otelcol": 30.0, "rotel": 3.0}
"""So long PostHog is away, with calls all the while. What waits is in the gateway's spool, whoever the
Collector is: once it waits for as long as was promised."""

EVENTS = {
    "chat": "$ai_generation",
    "ai.generateText.doGenerate": "$ai_generation",
    "ai.streamText.doStream": "$ai_generation",
    "ai.embed.doEmbed": "$ai_embedding",
    # What stands around a call in Node is the head of its trace.
    "ai.generateText": "$ai_trace",
    "ai.streamText": "$ai_trace",
    "ai.embed": "$ai_trace",
}
"""Which event each operation of a span becomes."""


class Applications:
    """Both, as processes that make calls when told."""

    def __init__(self, place: Path, to: str, provider: str) -> None:
        node = place / "node"
        node.mkdir()
        shutil.copy(APPLICATION / "application.mjs", node)
        (node / "node_modules").symlink_to(node_packages() / "node_modules")
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_OTLP_ENDPOINT": to,
            "OPENAI_BASE_URL": provider,
            "OPENAI_API_KEY": "sk-x",
        }
        self._log = place / "applications.log"
        with self._log.open("wb") as log:
            self._processes = [
                subprocess.Popen(
                    words, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
                for words in (
                    [sys.executable, str(APPLICATION / "application.py")],
                    ["node", str(node / "application.mjs")],
                )
            ]
        self.sent: list[str] = []
        """The uuids of the events that have to arrive."""

    def begin(self, calls: int) -> None:
        """Have each make so many calls."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{calls}\n")
            process.stdin.flush()

    def finish(self) -> None:
        """Wait until both were told that their spans are taken."""
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, self._log.read_text()[-4000:]
            self.sent += [
                event_uuid(trace, span, EVENTS[operation]) for trace, span, operation in json.loads(line)
            ]

    def call(self, calls: int) -> None:
        """Do both."""
        self.begin(calls)
        self.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def posthog() -> Iterator[CaptureServer]:
    with capture_server() as server:
        yield server


def the_collector(place: Path, to: str) -> AbstractContextManager[Program]:
    return collector(place, "gateway.yaml", OTEL_POSTHOG_GATEWAY=to, OTEL_POSTHOG_GATEWAY_TOKEN=TOKEN)


def the_other(place: Path, to: str) -> AbstractContextManager[Program]:
    return rotel(place, to, TOKEN)


COLLECTORS = {"otelcol": the_collector, "rotel": the_other}


def waits_in(spool: Path) -> int:
    """How many events or spans are on disk."""
    with contextlib.closing(sqlite3.connect(spool / "otel-posthog.sqlite3")) as file:
        found: int = file.execute("SELECT count(*) FROM entries").fetchone()[0]
        return found


def be_away(posthog: CaptureServer, calls: Callable[[], None], seconds: float) -> None:
    """Have PostHog refuse everything, each way in turn, while calls are made."""
    posthog.faults.extend([Answer(503), "reset at once"] * 10_000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls()
        time.sleep(min(1.0, max(end - time.monotonic(), 0.0)))
    posthog.faults.clear()


@pytest.mark.usefixtures("_real_collector", "_rotel", "_node_packages")
@pytest.mark.parametrize("kind", COLLECTORS)
def test_what_was_taken_arrives_though_everything_is_killed(
    kind: str, posthog: CaptureServer, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    gateway = Program(
        [sys.executable, "-m", "otel_posthog.cli", "gateway", "--port", port],
        {
            **environment(posthog.url, spool_dir=str(tmp_path / "spool")),
            "OTEL_POSTHOG_GATEWAY_TOKEN": TOKEN,
        },
        port,
        tmp_path / "gateway.log",
    )
    with ExitStack() as running:
        provider = running.enter_context(FakeProviders(latency=0))
        running.callback(gateway.clean_up)
        gateway.start()
        middle = running.enter_context(COLLECTORS[kind](tmp_path, gateway.url))
        applications = running.enter_context(Applications(tmp_path, middle.url, provider.openai_base_url))

        def all_arrived() -> bool:
            return set(applications.sent) <= {event["uuid"] for event in list(posthog.events)}

        applications.call(6)
        until(all_arrived, "what is sent in peace arrives")

        # The gateway dies, and calls go on without it.
        applications.begin(30)
        if kind == "rotel":  # which drops a request that gets no answer before its connection ends
            applications.finish()
            until(all_arrived, "nothing is under way")
        gateway.kill()
        if kind == "otelcol":
            applications.finish()
        applications.call(6)
        gateway.start()
        applications.call(6)
        until(all_arrived, "what was sent while the gateway was dead arrives")

        be_away(posthog, lambda: applications.call(3), AWAY_SECONDS[kind])
        until(all_arrived, "what was sent while PostHog was away arrives")

        if kind == "otelcol":  # rotel has no queue on disk
            gateway.kill()
            applications.call(6)
            middle.kill()
            middle.start()
            applications.call(6)
            gateway.start()
        else:
            applications.call(6)
            assert middle.end() == 0  # at its end it sends what it has
            middle.start()
            applications.call(6)
        until(all_arrived, "what was sent before and after the Collector died arrives")

        # The gateway dies with events in its spool, and another takes them over.
        posthog.faults.extend([Answer(503)] * 10_000)
        before = len(applications.sent)
        applications.call(6)
        waiting = len(applications.sent) - before
        until(lambda: waits_in(tmp_path / "spool") >= waiting, "events are in the spool")
        gateway.kill()
        posthog.faults.clear()
        gateway.start()
        until(all_arrived, "what was in the spool arrives")
        assert gateway.end() == 0, gateway.said[-4000:]

    received = Counter(event["uuid"] for event in posthog.events)
    assert len(applications.sent) == len(set(applications.sent)) > 150
    assert set(received) == set(applications.sent)
    contents = {json.dumps(event, sort_keys=True) for event in posthog.events}
    assert len(contents) == len(received)
    users = {event["distinct_id"].partition("_")[0] for event in posthog.events}
    assert users == {"python", "node"}
