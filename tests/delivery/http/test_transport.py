"""The real transport, against a server that enforces PostHog's limits."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context

from otel_posthog.delivery import DeliveryClient
from otel_posthog.delivery.http.transport import MAX_RESPONSE_BYTES, RequestsTransport, TransportError
from tests.delivery.capture_server import Answer, CaptureServer, capture_server
from tests.delivery.support import KEY, Clock, event, events_in, options, send

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[CaptureServer]:
    with capture_server() as running:
        yield running


@pytest.fixture
def transport() -> Iterator[RequestsTransport]:
    opened = RequestsTransport()
    yield opened
    opened.close()


def sending(server: CaptureServer, **changes: Any) -> tuple[DeliveryClient, Clock]:
    clock = Clock()
    chosen = options(**({"endpoint": server.url, "compression": "gzip"} | changes))
    return DeliveryClient(chosen, clock=clock, now=clock.now, sleep=clock.sleep, random=lambda: 1.0), clock


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_events_arrive_as_they_are(server: CaptureServer, compression: str) -> None:
    sent, _ = sending(server, compression=compression)
    events = [event(text="é\N{GRINNING FACE}"), event("llm_completion_success", number=1.5)]
    assert send(sent, events)
    sent.close()
    assert server.events == events


def test_several_requests_use_one_connection(server: CaptureServer) -> None:
    sent, _ = sending(server, max_batch_events=2)
    assert send(sent, [event() for _ in range(10)])
    assert send(sent, [event("llm_completion_success")])
    sent.close()
    assert len(server.requests) == 6
    assert server.connections == 1


def test_a_rejection_keeps_the_connection(server: CaptureServer) -> None:
    server.faults += [Answer(503, b"x" * 1000, (("Retry-After", "9"),)), Answer(400, b"no")]
    sent, clock = sending(server)
    assert not send(sent, [event()])
    assert send(sent, [event()])
    sent.close()
    assert clock.slept == [10.0]
    assert server.connections == 1


def test_a_connection_cut_before_the_answer_is_retried(server: CaptureServer) -> None:
    server.faults.append(None)
    sent, _ = sending(server)
    original = event()
    assert send(sent, [original])
    sent.close()
    assert server.events == [original]


def test_an_oversize_event_costs_no_other_event(server: CaptureServer) -> None:
    sent, _ = sending(server, max_batch_bytes=19_000_000)
    for name in ("$ai_generation", "llm_completion_success"):
        events = [event(name, at=at) for at in range(20)]
        events[7]["properties"]["text"] = '"x' * 6_000_000
        assert send(sent, events)
    sent.close()
    assert [each["properties"]["at"] for each in server.events] == [*range(20), *range(20)]
    assert sent.stats()["cut"] == {"$ai_generation": 1, "llm_completion_success": 1}
    assert {request.path for request in server.requests} == {"/i/v0/ai/batch/", "/batch/"}
    assert len(server.requests) == 2  # no 413 was needed to cut it


def test_without_an_ai_route_large_events_go_to_batch_cut() -> None:
    with capture_server(has_ai_route=False) as server:
        sent, _ = sending(server)
        assert send(sent, [event(text="x" * 2_000_000), event()])
        sent.close()
        assert [request.path for request in server.requests] == ["/i/v0/ai/batch/", "/batch/"]
        assert len(server.events) == 2


def test_a_poison_event_stands_alone(server: CaptureServer) -> None:
    server.is_poison = lambda each: each["properties"].get("poison", False)
    sent, _ = sending(server)
    events = [event(poison=at == 3) for at in range(8)]
    [(rejected, reason)] = sent.deliver(events).rejected
    assert (events_in([rejected]), reason) == ([events[3]], "invalid")
    sent.close()
    assert server.events == [*events[:3], *events[4:]]


def test_a_redirect_is_not_followed(server: CaptureServer) -> None:
    server.faults.append(Answer(307, b"", (("Location", "/batch/"),)))
    sent, _ = sending(server)
    original = event()
    assert events_in(sent.deliver([original]).unsent) == [original]
    sent.close()
    assert len(server.requests) == 1


def test_an_endless_answer_is_read_to_a_bound(server: CaptureServer, transport: RequestsTransport) -> None:
    server.faults.append(Answer(500, b"x" * 10_000_000))
    answer = transport.post(server.url, b"{}", {}, 10)
    assert len(answer.body) == MAX_RESPONSE_BYTES


def test_a_server_that_sends_nothing_is_a_transport_error(transport: RequestsTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TransportError, match=r"^ReadTimeoutError$"):
            transport.post(url, b"{}", {}, 0.05)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://", "http://[", "http://a..b/"])
def test_an_unreachable_server_is_a_transport_error_without_its_address(
    transport: RequestsTransport, url: str
) -> None:
    with pytest.raises(TransportError, match=r"^[A-Za-z]+$"):
        transport.post(url, b"{}", {}, 5)


def test_passwords_of_netrc_are_not_sent(
    server: CaptureServer, transport: RequestsTransport, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    transport.post(server.url + "/batch/", b'{"batch":[]}', {}, 10)
    assert "authorization" not in server.requests[0].headers


def test_a_proxy_of_the_environment_is_used(
    server: CaptureServer, transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    transport.post("http://posthog.invalid/batch/", b'{"batch":[]}', {}, 10)
    assert server.requests[0].path == "http://posthog.invalid/batch/"


def test_its_own_requests_are_not_traced(
    server: CaptureServer, transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    pool = transport._connect(server.url + "/batch/").pool
    original = pool.urlopen

    def watching(*args: Any, **kwargs: Any) -> Any:
        seen.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
        return original(*args, **kwargs)

    monkeypatch.setattr(pool, "urlopen", watching)
    transport.post(server.url + "/batch/", b'{"batch":[]}', {}, 10)
    assert seen == [True]
    assert context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) is None


def test_many_threads_send_at_once(server: CaptureServer) -> None:
    sent, _ = sending(server)
    events = [[event() for _ in range(20)] for _ in range(8)]
    results: list[bool] = []
    threads = [threading.Thread(target=lambda part=part: results.append(send(sent, part))) for part in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.close()
    assert results == [True] * 8
    assert {each["uuid"] for each in server.events} == {each["uuid"] for part in events for each in part}
    assert sent.stats()["delivered"] == {"$ai_generation": 160}


def test_connections_of_many_threads_are_kept(server: CaptureServer) -> None:
    sent, _ = sending(server)
    server.delay = 0.3
    for _ in range(2):
        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(lambda part: send(sent, part), [[event()] for _ in range(16)]))
    sent.close()
    assert server.connections == 16


def test_a_forked_child_opens_its_own_connection(server: CaptureServer) -> None:
    sent, _ = sending(server)
    assert send(sent, [event()])
    old = sent._transport._session  # type: ignore[attr-defined]
    sent.reset_after_fork()
    assert send(sent, [event()])
    sent.close()
    old.close()
    assert server.connections == 2


def test_libraries_do_not_log_the_key(server: CaptureServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults += [None, Answer(503), Answer(401)]
    sent, _ = sending(server, compression="none")
    send(sent, [event(text="secret words")])
    sent.close()
    assert KEY not in caplog.text
    assert "secret words" not in caplog.text


@pytest.mark.parametrize(
    "begins",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b""],
    ids=["in its headers", "in its body", "from its start"],
)
def test_an_answer_that_trickles_in_has_the_time_of_its_request(
    transport: RequestsTransport, begins: bytes
) -> None:
    over = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(begins)
            while not over.wait(0.02):
                connection.sendall(b"x" if begins else b"H")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=trickle, args=(listening,))
        server.start()
        try:
            with pytest.raises(TransportError):
                transport.post(f"http://127.0.0.1:{listening.getsockname()[1]}/", b"{}", {}, 0.3)
        finally:
            over.set()
            server.join(10)


def test_a_connection_is_as_patient_after_an_answer_as_before(
    server: CaptureServer, transport: RequestsTransport
) -> None:
    for _ in range(3):
        assert transport.post(f"{server.url}/batch/", b'{"api_key":"x","batch":[]}', {}, 5).status == 200
    [pool] = {id(each.pool): each.pool for each in transport._connections.values()}.values()
    connection = pool.pool.get()
    assert connection.sock.gettimeout() > 4
    connection.close()
