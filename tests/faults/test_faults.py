"""Faults, one a test: events delivered, lost and doubled, counted at a server with PostHog's limits.

The requests are real. The clock of back-offs and leases is not.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.delivery import Backlog, DeliveryClient, EncodedEvent, Entry, Outbox
from otel_posthog.delivery.spool.database import open_spool_file
from otel_posthog.delivery.spool.entries import EVENT
from otel_posthog.delivery.spool.spool import Spool
from tests.delivery.capture_server import Answer, CaptureServer, capture_server
from tests.delivery.support import Clock
from tests.delivery.support import options as delivery_options

COUNT = 100


class Names:
    """A converter of numbers: every third is an event of product analytics, the others are AI events."""

    event_kind = EVENT

    def __init__(self, content: Callable[[int], Any] = lambda _: "some text") -> None:
        self.content = content

    def stored(self, events: list[EncodedEvent], kind: str) -> list[EncodedEvent]:  # hides nothing
        return events

    def events(self, loads: Iterable[int]) -> Iterator[dict[str, Any]]:
        for load in loads:
            yield {
                "event": "$ai_generation" if load % 3 else "llm_completion_success",
                "uuid": str(uuid.UUID(int=load)),
                "distinct_id": "user-1",
                "timestamp": "2026-11-20T11:59:00+00:00",
                "properties": {"number": load, "content": self.content(load)},
            }

    def entries(self, loads: Iterable[int]) -> list[Entry]:
        return [Entry("number", str(load).encode(), 1000.0) for load in loads]

    def load(self, entry: Entry) -> int:
        return int(entry.body)


class Rig:
    def __init__(
        self, endpoint: str, directory: Path | None, names: Names | None = None, **options: Any
    ) -> None:
        self.clock = clock = Clock()
        self.delivery = DeliveryClient(
            delivery_options(**{"endpoint": endpoint, "timeout": 0.5, "compression": "gzip"} | options),
            clock=clock,
            now=clock.now,
            sleep=clock.sleep,
            random=lambda: 0.5,
        )
        names = names or Names()
        spool = None
        if directory is not None:
            spool = Spool(
                directory, "here", max_bytes=10**9, lease_seconds=60.0, clock=clock, now=lambda: clock.seconds
            )
        self.backlog = Backlog(
            spool,
            self.delivery,
            names,
            max_batch_bytes=4_000_000,
            patience=20.0,
            max_age=30 * 86_400.0,
            clock=clock,
            now=clock,
        )
        self.outbox = Outbox(
            self.delivery,
            names,
            self.backlog,
            max_queue_bytes=64 * 1024 * 1024,
            max_batch_bytes=4_000_000,
            flush_interval=1.0,
            clock=clock,
            start=self.no_thread,
        )

    @staticmethod
    def no_thread(_: object) -> None:
        raise RuntimeError("the tests flush by hand")

    def enqueue(self, count: int = COUNT) -> None:
        for number in range(count):
            self.outbox.enqueue(number, 500)

    def flush(self, rounds: int = 30, between: float = 60.0) -> None:
        """Flush until nothing waits any more, for half an hour at most."""
        for _ in range(rounds):
            self.outbox.flush(200.0)
            self.clock.seconds += between
            stats = self.outbox.stats()
            if not stats["queue"]["waiting"] and not stats["spool"].get("entries"):
                break
        self.delivery.close()


def counted(server: CaptureServer, count: int = COUNT) -> tuple[int, int, int]:
    """Return the numbers of delivered, lost and doubled events."""
    copies = Counter(event["properties"]["number"] for event in server.events)
    return len(copies), count - len(copies), copies.total() - len(copies)


@pytest.fixture(params=["memory", "spool"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "spool" else None


PASSING = [408, 429, 500, 501, 502, 503, 504, 507, 520, 599]
A_PERSON = [201, 202, 204, 301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 410, 415, 418, 422, 451]


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("status", [*PASSING, *A_PERSON, 413])
def test_a_passing_status_loses_nothing(status: int, times: int, directory: Path | None) -> None:
    """404 on the AI route means an older PostHog; on the other route it means a wrong address."""
    with capture_server() as server:
        server.faults += [Answer(status)] * times
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


FAULTS: dict[str, str | None] = {
    "no answer": None,
    "reset before the body": "reset at once",
    "reset in the body": "reset in the body",
    "silence": "silence",
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_connection_loses_nothing(fault: str, times: int, directory: Path | None) -> None:
    with capture_server() as server:
        server.faults += [FAULTS[fault]] * times
        rig = Rig(server.url, directory, timeout=0.2)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


def test_a_connection_that_breaks_after_posthog_took_the_events_doubles_them_under_one_uuid(
    directory: Path | None,
) -> None:
    """A client cannot know. PostHog merges events with the same uuid, name, timestamp and distinct id."""
    with capture_server() as server:
        server.faults += ["reset after taking it"]
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        delivered, lost, _ = counted(server)
        assert (delivered, lost) == (COUNT, 0)
        assert len({event["uuid"] for event in server.events}) == COUNT
        assert len({(event["uuid"], event["timestamp"]) for event in server.events}) == COUNT


@pytest.mark.parametrize("poison", [0, 7, 50, 99])
def test_one_bad_event_of_a_hundred_is_the_only_one_missing(poison: int, directory: Path | None) -> None:
    with capture_server() as server:
        server.is_poison = lambda event: event["properties"]["number"] == poison
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT - 1, 1, 0)
        name = "$ai_generation" if poison % 3 else "llm_completion_success"
        assert rig.delivery.stats()["refused"] == {name: {"invalid": 1}}
        if directory is not None:
            assert rig.outbox.stats()["spool"]["dead_letters"] == 1


@pytest.mark.parametrize("number", [3, 4])
def test_one_event_of_20_mb_arrives_cut_and_costs_no_other(number: int, directory: Path | None) -> None:
    big = "a word of it " * (20_000_000 // 13)
    with capture_server() as server:
        rig = Rig(server.url, directory, Names(lambda load: big if load == number else "some text"))
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)
        [cut] = [event for event in server.events if event["properties"]["number"] == number]
        assert "[cut: " in cut["properties"]["content"]


@pytest.mark.parametrize("reason", ["quota_limited"])
def test_a_200_that_reports_the_quota_as_used_up_is_no_delivery(reason: str, directory: Path | None) -> None:
    with capture_server() as server:
        server.faults += [Answer(200, b'{"status":"Ok","quota_limited":["events"]}')] * 2
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        refused = rig.delivery.stats()["refused"]
        assert {each for reasons in refused.values() for each in reasons} == {reason}
        assert sum(count for reasons in refused.values() for count in reasons.values()) == COUNT
        assert counted(server) == (0, COUNT, 0)


def test_a_web_page_in_place_of_posthog_keeps_everything(directory: Path | None) -> None:
    with capture_server() as server:
        server.faults += [Answer(200, b"<html>Log in to the hotel's network</html>")]
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


def test_without_an_ai_route_everything_goes_to_the_other(directory: Path | None) -> None:
    with capture_server(has_ai_route=False) as server:
        rig = Rig(server.url, directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)
        assert [request.path for request in server.requests].count("/i/v0/ai/batch/") == 1


@pytest.mark.parametrize("jump", [-1e9, -3600.0, 3600.0, 1e9])
def test_a_wall_clock_that_jumps_changes_nothing(
    jump: float, directory: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_server() as server:
        server.faults += [Answer(503)] * 3
        rig = Rig(server.url, directory)
        jumps = itertools.chain([0.0], itertools.repeat(jump))
        before = rig.clock.now
        monkeypatch.setattr(
            rig.delivery._sender,
            "_now",
            lambda: before().fromtimestamp(max(before().timestamp() + next(jumps), 0.0), before().tzinfo),
        )
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


def test_a_host_name_that_resolves_only_later_loses_nothing(
    directory: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_host = socket.getaddrinfo
    failures = iter(range(3))

    def look_up(host: Any, *rest: Any, **named: Any) -> Any:
        if host == "posthog.test":
            if next(failures, None) is not None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return resolve_host(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with capture_server() as server:
        rig = Rig(f"http://posthog.test:{server.server_port}", directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


def test_a_server_that_speaks_no_tls_gets_nothing_and_nothing_is_lost(tmp_path: Path) -> None:
    with capture_server() as server:
        rig = Rig(server.url.replace("http://", "https://"), tmp_path)
        rig.enqueue()
        rig.flush(rounds=2)
        assert counted(server) == (0, COUNT, 0)
        assert rig.outbox.stats()["spool"]["entries"] == COUNT
        later = Rig(server.url, tmp_path)
        later.clock.seconds = rig.clock.seconds + 120
        later.flush()
        assert counted(server) == (COUNT, 0, 0)


def test_an_untrusted_certificate_is_not_accepted(tmp_path: Path) -> None:
    """No prompt goes to a server whose identity is not proved."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(_self_signed(key))
    with capture_server() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        rig = Rig(server.url.replace("http://", "https://"), tmp_path)
        rig.enqueue()
        rig.flush(rounds=1)
        assert counted(server) == (0, COUNT, 0)
        assert rig.outbox.stats()["spool"]["entries"] == COUNT


def _self_signed(key_file: Path) -> bytes:
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def test_a_proxy_that_refuses_at_first_loses_nothing(
    directory: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the client an HTTP proxy is a server whose requests have whole addresses."""
    with capture_server() as server:
        judge = server.judge
        refusals = iter(range(2))

        def through(request: Any) -> Answer:
            assert request.path.startswith("http://posthog.test")
            request.path = request.path.removeprefix("http://posthog.test")
            return Answer(503) if next(refusals, None) is not None else judge(request)

        monkeypatch.setattr(server, "judge", through)
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        rig = Rig("http://posthog.test", directory)
        rig.enqueue()
        rig.flush()
        assert counted(server) == (COUNT, 0, 0)


@pytest.mark.parametrize("seconds", [5.0, 60.0, 3600.0, 86_400.0, 7 * 86_400.0])
def test_an_outage_loses_nothing(
    seconds: float, directory: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_server() as server:
        rig = Rig(server.url, directory)
        judge, over = server.judge, rig.clock.seconds + seconds
        monkeypatch.setattr(
            server, "judge", lambda request: judge(request) if rig.clock.seconds >= over else Answer(503)
        )
        enqueued = 0
        while rig.clock.seconds < over:
            for _ in range(10):
                rig.outbox.enqueue(enqueued, 500)
                enqueued += 1
            rig.outbox.flush(30.0)
            rig.clock.seconds += seconds / 10
        rig.flush()
        assert counted(server, enqueued) == (enqueued, 0, 0)


def test_a_burst_of_20_000_loses_nothing(directory: Path | None) -> None:
    with capture_server() as server:
        rig = Rig(server.url, directory, timeout=10.0)

        def burst(start: int) -> None:
            for number in range(start, 20_000, 8):
                rig.outbox.enqueue(number, 2500)

        threads = [threading.Thread(target=burst, args=(start,)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rig.flush()
        assert counted(server, 20_000) == (20_000, 0, 0)


@pytest.mark.skipif(not hasattr(os, "statvfs"), reason="needs a file system that can be full")
def test_a_full_disk_during_an_outage_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads that cannot be written to disk wait in memory."""
    from otel_posthog.delivery.spool import spool as module

    def small(directory: Path) -> Any:
        connection = open_spool_file(directory)
        connection.execute("PRAGMA max_page_count = 12")
        return connection

    monkeypatch.setattr(module, "open_spool_file", small)
    with capture_server() as server:
        rig = Rig(server.url, tmp_path, max_retry_seconds=5.0)
        server.faults += [Answer(503)] * 12
        rig.enqueue(2000)
        rig.flush()
        assert counted(server, 2000) == (2000, 0, 0)
