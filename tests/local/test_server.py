"""The inbox over real HTTP, the `posthog` package among its senders."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import requests
from posthog import Posthog

from otel_posthog.local import Inbox, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as opened:
        yield opened


@pytest.fixture
def http_session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def event(name: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"event": name, "uuid": str(uuid.uuid4()), "distinct_id": "u1", "properties": {}, **fields}


def batch(*events: Any) -> dict[str, Any]:
    return {"api_key": "phc_x", "batch": list(events)}


def connect(inbox: Inbox) -> socket.socket:
    port = int(inbox.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def exchange(inbox: Inbox, request: bytes) -> bytes:
    """Send raw bytes and read until the inbox closes."""
    with connect(inbox) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


# --- the real package ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/batch/"),
        ({"gzip": True}, "/batch/"),
        ({"capture_mode": "v1"}, "/i/v1/analytics/events"),
        ({"capture_mode": "v1", "capture_compression": "gzip"}, "/i/v1/analytics/events"),
        ({"capture_mode": "v1", "capture_compression": "deflate"}, "/i/v1/analytics/events"),
    ],
)
def test_the_posthog_package_lands_in_it(inbox: Inbox, options: dict[str, Any], path: str) -> None:
    client = Posthog("phc_x", host=inbox.url, **options)
    for number in range(3):
        client.capture(
            "llm_completion_success",
            distinct_id=f"user_{number}",
            properties={"feature": "tldr", "$session_id": "s1", "$process_person_profile": False},
        )
    client.flush()
    client.shutdown()
    arrived = inbox.events("llm_completion_success")
    assert [one["distinct_id"] for one in arrived] == ["user_0", "user_1", "user_2"]
    for one in arrived:
        assert one["_inbox"]["path"] == path
        assert one["properties"]["feature"] == "tldr"
        assert one["properties"]["$session_id"] == "s1"
        assert one["properties"]["$process_person_profile"] is False
        assert one["properties"]["$lib"] == "posthog-python"
    assert inbox.counts() == {"events": 3, "duplicates": 0, "refused": 0}


def test_the_ai_lane_of_the_posthog_package_lands_in_it(inbox: Inbox) -> None:
    client = Posthog("phc_x", host=inbox.url)
    client.capture_ai("$ai_generation", distinct_id="u", properties={"$ai_input": "x" * 2_000_000})
    client.flush()
    client.shutdown()
    (arrived,) = inbox.events()
    assert arrived["_inbox"]["path"] == "/i/v0/ai/batch/"
    assert len(arrived["properties"]["$ai_input"]) == 2_000_000


# --- storing and giving back -----------------------------------------------------------------------------


def test_a_resend_is_a_duplicate_and_not_stored_twice(inbox: Inbox, http_session: requests.Session) -> None:
    one, other = event(), event()
    for body in (batch(one), batch(one, other)):
        answer = http_session.post(f"{inbox.url}/batch/", json=body)
        assert (answer.status_code, answer.json()) == (200, {"status": "Ok"})
    assert [(got["uuid"], got["_inbox"]["copies"]) for got in inbox.events()] == [
        (one["uuid"], 2),
        (other["uuid"], 1),
    ]
    assert inbox.counts()["duplicates"] == 1


def test_events_are_given_back_as_json_lines(inbox: Inbox, http_session: requests.Session) -> None:
    http_session.post(f"{inbox.url}/batch/", json=batch(event("a"), event("b"), event("a"), event("a\nb")))

    def ask(query: str) -> list[tuple[str, int]]:
        answer = http_session.get(f"{inbox.url}/_events{query}")
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        events = [json.loads(text) for text in answer.text.splitlines()]
        return [(one["event"], one["_inbox"]["id"]) for one in events]

    assert ask("") == [("a", 1), ("b", 2), ("a", 3), ("a\nb", 4)]
    assert ask("?event=a") == [("a", 1), ("a", 3)]
    assert ask("?event=a&after=1") == [("a", 3)]
    assert ask("?event=none") == []
    for after in ("x", "-1", "9" * 30):
        assert http_session.get(f"{inbox.url}/_events?after={after}").status_code == 400


def test_events_are_given_to_http_1_0_too(inbox: Inbox, http_session: requests.Session) -> None:
    http_session.post(f"{inbox.url}/batch/", json=batch(event("a"), event("b")))
    answer = exchange(inbox, b"GET /_events HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert [json.loads(text)["event"] for text in body.splitlines()] == ["a", "b"]


def test_the_page_is_plain_and_counts(inbox: Inbox, http_session: requests.Session) -> None:
    http_session.post(f"{inbox.url}/batch/", json=batch(event(), event()))
    page = http_session.get(inbox.url)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "This is the inbox; events: 2;" in page.text
    assert "/_events" in page.text


def test_two_threads_write_and_nothing_is_lost(inbox: Inbox) -> None:
    shared = [event() for _ in range(40)]

    def write(own: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for one in shared:
                answer = session.post(f"{inbox.url}/batch/", json=batch(one, event(f"own-{own}")))
                assert answer.status_code == 200

    threads = [threading.Thread(target=write, args=(own,)) for own in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inbox.counts() == {"events": 40 + 2 * 40, "duplicates": 40, "refused": 0}


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (("/batch/", b"{", {}), 400),
        (("/batch/", b'{"batch": []}', {}), 401),
        (
            ("/batch/", json.dumps(batch(event("$ai_span", properties={"x": "x" * 983_040}))).encode(), {}),
            413,
        ),
        (("/i/v0/ai/batch/", json.dumps(batch(event("hello"))).encode(), {}), 400),
        (("/i/v0/ai/otel", b"{}", {}), 404),
        (("/i/v0/e/", b" " * 2_000_001, {}), 413),
        (("/batch/", b" " * 20_000_001, {}), 413),
        (("/i/v0/e/", gzip.compress(b" " * 2_000_001), {}), 413),
        (("/i/v1/analytics/events", b"{}", {}), 401),
        (("/i/v1/analytics/events", b"{}", {"Authorization": "Bearer phc_x"}), 400),
    ],
)
def test_refusals_leave_the_connection_usable_and_keep_nothing(
    inbox: Inbox,
    http_session: requests.Session,
    request_: tuple[str, bytes, dict[str, str]],
    status: int,
) -> None:
    path, body, headers = request_
    answer = http_session.post(inbox.url + path, data=body, headers=headers)
    assert answer.status_code == status
    assert inbox.counts() == {"events": 0, "duplicates": 0, "refused": 1}
    if "/v1/" in path:
        assert set(answer.json()) == {"error", "error_description", "error_uri"}
    assert http_session.post(f"{inbox.url}/batch/", json=batch(event())).status_code == 200


def test_one_connection_serves_many_requests(inbox: Inbox) -> None:
    port = int(inbox.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    own = connection.sock.getsockname()
    for path, status in (("/batch/", 200), ("/nowhere", 404), ("/batch/", 200)):
        connection.request("POST", path, json.dumps(batch(event())))
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
        assert connection.sock.getsockname() == own
    connection.close()
    assert inbox.counts()["events"] == 2


def test_a_sender_that_waits_for_100_is_told_to_go_on(inbox: Inbox) -> None:
    text = json.dumps(batch(event())).encode()
    with connect(inbox) as connection:
        head = (
            f"POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\nExpect: 100-continue\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(text)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_is_read_and_the_next_request_found_behind_it(inbox: Inbox) -> None:
    port = int(inbox.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(2):
        text = json.dumps(batch(event())).encode()
        connection.request("POST", "/batch/", iter([text[:10], text[10:]]), encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"Ok"}')
    connection.close()
    assert inbox.counts()["events"] == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        b"POST /batch/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /batch/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST /batch/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_a_broken_body_is_400_and_ends_the_connection(inbox: Inbox, request_: bytes) -> None:
    answer = exchange(inbox, request_)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in answer


def test_a_stalled_body_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.05)
    with Inbox() as inbox, connect(inbox) as connection:
        connection.sendall(b"POST /batch/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_an_endless_body_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MAX_DISCARDED", 3_000_000)
    with Inbox() as inbox, connect(inbox) as connection:
        connection.sendall(b"POST /e/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000000\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011  # reset or broken pipe, as the machine has it
            connection.sendall(b" " * 200_000_000)
    assert inbox._refused == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8765", 200),
        ("127.0.0.1:8765", 200),
        ("[::1]:8765", 200),
        ("inbox.localhost", 200),
        ("host.docker.internal:8765", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8765", 403),
        ("[", 403),
        ("", 403),
    ],
)
def test_pages_of_others_cannot_read_it_through_a_name_of_theirs(
    inbox: Inbox, http_session: requests.Session, host: str, status: int
) -> None:
    for path in ("/", "/_events"):
        assert http_session.get(inbox.url + path, headers={"Host": host}).status_code == status


@pytest.mark.parametrize(("path", "status"), [("/batch/", 405), ("/e", 405), ("/nothing", 404), ("//[", 404)])
def test_other_gets(inbox: Inbox, http_session: requests.Session, path: str, status: int) -> None:
    assert http_session.get(inbox.url + path).status_code == status


# --- talking ---------------------------------------------------------------------------------------------


def test_it_says_each_new_event_once_and_each_refusal(http_session: requests.Session) -> None:
    said: list[str] = []
    with Inbox(echo=said.append) as inbox:
        one = event("llm_completion_failed", properties={"error_type": "RateLimitError"})
        for _ in range(2):
            http_session.post(f"{inbox.url}/batch/", json=batch(one))
        http_session.post(f"{inbox.url}/batch\x1b/", data=b"{}")
    assert len(said) == 2
    assert said[0].split()[1:2] == ["llm_completion_failed"]
    # It has no timestamp of its own and is shown with that of its arrival.
    assert said[0][0].isdigit()
    assert said[0].endswith("! RateLimitError")
    assert said[1].startswith("refused with 404: /batch")
    assert said[1].isprintable()


def test_colour_is_for_who_asks(http_session: requests.Session) -> None:
    said: list[str] = []
    with Inbox(echo=said.append, color=True) as inbox:
        http_session.post(f"{inbox.url}/batch/", json=batch(event("llm_completion_failed")))
    assert said[0].startswith("\x1b[31m")


def test_a_broken_pipe_of_the_reader_is_no_reason_to_refuse(http_session: requests.Session) -> None:
    def echo(_: str) -> None:
        raise BrokenPipeError

    with Inbox(echo=echo) as inbox:
        assert http_session.post(f"{inbox.url}/batch/", json=batch(event())).status_code == 200
        assert inbox.counts()["events"] == 1


def test_what_cannot_be_kept_is_503_and_can_be_sent_again(
    inbox: Inbox, http_session: requests.Session
) -> None:
    body = batch(event(properties={"x": "x" * 200_000}))
    inbox._store._db.execute("PRAGMA max_page_count = 10")
    answer = http_session.post(f"{inbox.url}/batch/", json=body)
    assert (answer.status_code, inbox.counts()["events"]) == (503, 0)
    assert "full" in answer.text
    inbox._store._db.execute("PRAGMA max_page_count = 100000")
    assert http_session.post(f"{inbox.url}/batch/", json=body).status_code == 200
    assert inbox.counts() == {"events": 1, "duplicates": 0, "refused": 1}


# --- coming and going ------------------------------------------------------------------------------------


def test_closing_leaves_no_thread_no_connection_and_no_file(http_session: requests.Session) -> None:
    before = set(threading.enumerate())
    with Inbox() as inbox:
        http_session.post(f"{inbox.url}/batch/", json=batch(event()))
        scratch = inbox._scratch
        assert scratch is not None
        assert scratch.exists()
        with connect(inbox) as idle:
            idle.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 404 ")
            started = time.monotonic()
            inbox.close()
            assert time.monotonic() - started < 5
            assert idle.recv(1) == b""
    assert not scratch.exists()
    assert set(threading.enumerate()) == before
    with pytest.raises(requests.ConnectionError):
        http_session.get(inbox.url)


def test_a_given_file_stays(tmp_path: Path, http_session: requests.Session) -> None:
    for count in (1, 2):
        with Inbox(db=tmp_path / "kept.db") as inbox:
            http_session.post(f"{inbox.url}/batch/", json=batch(event()))
            assert len(inbox.events()) == count


def test_a_taken_port_or_a_wrong_file_leaves_nothing_open(tmp_path: Path, inbox: Inbox) -> None:
    with pytest.raises(OSError, match="in use"):
        Inbox(port=int(inbox.url.rpartition(":")[2]), db=tmp_path / "never.db")
    assert not (tmp_path / "never.db").exists()
    (tmp_path / "letter").write_text("Dear reader, this is no database at all. " * 30)
    with pytest.raises(Exception, match="letter"):
        Inbox(db=tmp_path / "letter")


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    with Inbox() as inbox:
        assert inbox.url.startswith("http://127.0.0.1:")
    with Inbox(host="::1") as inbox:
        assert inbox.url.startswith("http://[::1]:")
        assert requests.get(inbox.url, timeout=10).status_code == 200
