"""Applications in Python and Node, a Collector, the gateway, PostHog: acknowledged spans survive every kill.

All parts are real processes. In the end PostHog must have the events of every acknowledged span, under
uuids that follow from the spans, and each uuid with one content.
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
"""Length of PostHog's outage, during which calls go on. The events wait in the gateway's spool with either
Collector, so one of them has the outage of the length that we promise."""

EVENTS = {
    "chat": "$ai_generation",
    "ai.generateText.doGenerate": "$ai_generation",
    "ai.streamText.doStream": "$ai_generation",
    "ai.embed.doEmbed": "$ai_embedding",
    # In Node the span around a call is the root of its trace.
    "ai.generateText": "$ai_trace",
    "ai.streamText": "$ai_trace",
    "ai.embed": "$ai_trace",
}
"""The event of each operation of a span."""


class Applications:
    """Both applications, as processes that make calls on request."""

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
        """The uuids of the events that must arrive."""

    def begin(self, calls: int) -> None:
        """Let each application begin to make calls."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{calls}\n")
            process.stdin.flush()

    def finish(self) -> None:
        """Wait until the spans of both are acknowledged."""
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, self._log.read_text()[-4000:]
            self.sent += [
                event_uuid(trace, span, EVENTS[operation]) for trace, span, operation in json.loads(line)
            ]

    def call(self, calls: int) -> None:
        """Let each application make calls, and wait until they are acknowledged."""
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


def entries_in(spool: Path) -> int:
    """Return the number of entries on disk."""
    with contextlib.closing(sqlite3.connect(spool / "otel-posthog.sqlite3")) as file:
        count: int = file.execute("SELECT count(*) FROM entries").fetchone()[0]
        return count


def fail_during(posthog: CaptureServer, calls: Callable[[], None], seconds: float) -> None:
    """Let PostHog answer 503 and reset connections in turn while calls are made."""
    posthog.faults.extend([Answer(503), "reset at once"] * 10_000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        calls()
        time.sleep(min(1.0, max(end - time.monotonic(), 0.0)))
    posthog.faults.clear()


@pytest.mark.usefixtures("_real_collector", "_rotel", "_node_packages")
@pytest.mark.parametrize("kind", COLLECTORS)
def test_acknowledged_spans_arrive_although_every_part_is_killed(
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
        until(all_arrived, "the first spans arrive")

        # The gateway is killed, and calls go on without it.
        applications.begin(30)
        if kind == "rotel":  # it drops a request if the connection ends before the answer
            applications.finish()
            until(all_arrived, "nothing is in flight")
        gateway.kill()
        if kind == "otelcol":
            applications.finish()
        applications.call(6)
        gateway.start()
        applications.call(6)
        until(all_arrived, "the spans from the time without a gateway arrive")

        fail_during(posthog, lambda: applications.call(3), AWAY_SECONDS[kind])
        until(all_arrived, "the spans from the outage arrive")

        if kind == "otelcol":  # rotel has no queue on disk
            gateway.kill()
            applications.call(6)
            middle.kill()
            middle.start()
            applications.call(6)
            gateway.start()
        else:
            applications.call(6)
            assert middle.end() == 0  # it sends its spans before it exits
            middle.start()
            applications.call(6)
        until(all_arrived, "the spans from before and after the Collector's end arrive")

        # The gateway is killed with events in its spool, and the next one sends them.
        posthog.faults.extend([Answer(503)] * 10_000)
        before = len(applications.sent)
        applications.call(6)
        waiting = len(applications.sent) - before
        until(lambda: entries_in(tmp_path / "spool") >= waiting, "events are in the spool")
        gateway.kill()
        posthog.faults.clear()
        gateway.start()
        until(all_arrived, "the events in the spool arrive")
        assert gateway.end() == 0, gateway.output[-4000:]

    received = Counter(event["uuid"] for event in posthog.events)
    assert len(applications.sent) == len(set(applications.sent)) > 150
    assert set(received) == set(applications.sent)
    contents = {json.dumps(event, sort_keys=True) for event in posthog.events}
    assert len(contents) == len(received)
    users = {event["distinct_id"].partition("_")[0] for event in posthog.events}
    assert users == {"python", "node"}
