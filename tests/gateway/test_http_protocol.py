"""Slow, numerous or invalid connections do not stop the gateway."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests
import uvicorn

from otel_posthog.gateway.http_protocol import Connection
from otel_posthog.gateway.limits import Limits
from tests.delivery.capture_server import CaptureServer
from tests.gateway.conftest import span_ids
from tests.gateway.support import body_of, gate
from tests.support.spans import sdk_span
from tests.support.waiting import until

SLOW = 500
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"


@contextmanager
def served(limits: Limits) -> Iterator[tuple[str, int]]:
    """Serve the gateway on a thread, and yield its address."""
    with served_before_posthog(limits) as (address, _):
        yield address


@contextmanager
def served_before_posthog(limits: Limits) -> Iterator[tuple[tuple[str, int], CaptureServer]]:
    """Serve the gateway on a thread, and yield its address and the server that receives its events."""
    with (
        gate(limits=limits) as (client, _, posthog),
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listening,
    ):
        config = uvicorn.Config(
            client.app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            until(lambda: server.started, "the server listens")
            yield listening.getsockname()[:2], posthog
        finally:
            server.should_exit = server.force_exit = True
            thread.join(30)


def _is_closed(connection: socket.socket) -> bool:
    """Wait for the other side, and return whether it closed the connection."""
    connection.settimeout(30)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def _post(address: tuple[str, int]) -> int:
    url = f"http://{address[0]}:{address[1]}/v1/traces"
    headers = {"Content-Type": "application/x-protobuf"}
    return requests.post(url, body_of(sdk_span()), headers=headers, timeout=30).status_code


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST /v1", id="part of a line"),
        pytest.param(HEAD + b"X-A: 1\r\n", id="a head without its end"),
    ],
)
def test_a_connection_without_a_complete_head_is_closed(sent: bytes) -> None:
    limits = Limits(head_seconds=0.05)
    with served(limits) as address, socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert _is_closed(connection)
        assert _post(address) == 200


def test_the_head_of_a_second_request_has_the_same_time_limit() -> None:
    with served(Limits(head_seconds=1)) as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += connection.recv(4096)
        connection.sendall(b"GET /heal")
        assert _is_closed(connection)


def test_a_body_that_stops_is_answered_and_the_connection_closed() -> None:
    with served(Limits(chunk_seconds=0.05)) as address, socket.create_connection(address) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nabc")
        connection.settimeout(30)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(4096):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"after 3 bytes" in answer


_H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def _posted(number: int, *more: bytes) -> bytes:
    body = body_of(sdk_span(span_id=number, parent=False))
    return HEAD + b"".join(more) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.parametrize("upgrade", [_H2C, b"Connection: upgrade\r\nUpgrade: websocket\r\n"])
@pytest.mark.parametrize("at_a_time", [1, 7, 200, 10_000])
def test_a_request_that_offers_another_protocol_is_read_as_http_1(upgrade: bytes, at_a_time: int) -> None:
    sent = _posted(1, upgrade) + _posted(2) + _posted(3, upgrade) + _posted(4, b"Connection: close\r\n")
    with (
        served_before_posthog(Limits()) as (address, posthog),
        socket.create_connection(address) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), at_a_time):
            connection.sendall(sent[start : start + at_a_time])
        connection.settimeout(30)
        answers = b""
        while piece := connection.recv(4096):
            answers += piece
        assert answers.count(b"HTTP/1.1 200 OK") == 4
        assert span_ids(posthog) == [1, 2, 3, 4]


def test_a_connection_with_an_endless_head_is_closed() -> None:
    with served(Limits(head=4096)) as address, socket.create_connection(address) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(HEAD)
            for number in range(10_000):
                connection.sendall(b"X-%d: %b\r\n" % (number, b"y" * 100))
        assert _is_closed(connection)
        assert _post(address) == 200


def test_connections_beyond_the_limit_are_closed_until_others_end() -> None:
    with served(Limits(connections=3)) as address:
        first = [socket.create_connection(address) for _ in range(3)]
        for connection in first:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection(address) as fourth:
            assert _is_closed(fourth)
        first[0].close()

        def is_accepted() -> bool:
            with contextlib.suppress(requests.ConnectionError):
                return _post(address) == 200
            return False

        until(is_accepted, "a connection is free again")
        for connection in first:
            connection.close()


def test_good_clients_are_answered_while_hundreds_are_slow() -> None:
    with served(Limits(head_seconds=600, chunk_seconds=600)) as address:
        slow = [socket.create_connection(address) for _ in range(SLOW)]
        for number, connection in enumerate(slow):
            connection.sendall(HEAD if number % 2 else HEAD + b"Content-Length: 9999\r\n\r\n\x0a")
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(_post, [address] * 40)) == {200}
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "request_line",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /v1/traces\xff HTTP/1.1\r\n\r\n",
        b"POST /v1/traces HTTP/9.9\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"No colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a server that has none
    ],
)
def test_invalid_http_is_answered_with_400_or_closed(request_line: bytes) -> None:
    with served(Limits(head_seconds=1, chunk_seconds=1)) as address:
        with socket.create_connection(address) as connection:
            connection.sendall(request_line)
            connection.settimeout(30)
            with contextlib.suppress(ConnectionError):
                answer = connection.recv(4096)
                assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer
        assert _post(address) == 200
