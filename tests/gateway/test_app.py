"""The answers to OTLP over HTTP, and the events that reach PostHog."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_posthog.delivery.spool import backlog
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.decode import JSON, PROTOBUF, RejectedSpans, spans_of
from otel_posthog.gateway.limits import Limits, RequestRejectedError
from tests.delivery.capture_server import Answer as Fault
from tests.gateway.support import KEY, Client, body_of, gate
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, PARENT_ID, SPAN_ID, otlp_request, sdk_span
from tests.support.waiting import until

TOKEN = "a-token-of-the-gateway"
NO_SPOOL = b"PostHog accepts no events now, and there is no spool; send again later"


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("", bytes), ("identity", bytes), ("gzip", gzip.compress), ("GZIP", gzip.compress), ("zstd", _zstd)],
)
def test_every_form_of_a_request_becomes_the_same_event(kind: str, encoding: str, compress: Any) -> None:
    span = sdk_span({**CHAT, "posthog.feature": "meme"})
    with gate() as (client, _, server):
        plain = client.post(body_of(span))
        answer = client.post(compress(body_of(span, kind=kind)), kind=kind, content_encoding=encoding)
    assert (plain.status, answer.status) == (200, 200)
    assert answer.headers["content-type"] == kind
    assert answer.body == (b"{}" if kind == JSON else b"")
    first, second = server.events
    assert first == second
    assert first["properties"]["feature"] == "meme"


def test_the_body_may_come_in_pieces_and_the_path_may_end_in_a_slash() -> None:
    body = body_of(sdk_span())
    with gate() as (client, _, server):
        pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
        assert client.post(*pieces, kind="Application/X-Protobuf; v=1", path="/v1/traces/").status == 200
    assert len(server.events) == 1


def test_an_empty_request_is_accepted() -> None:
    with gate() as (client, _, server):
        assert client.post(b"").status == 200
        assert client.post(b"{}", kind=JSON).status == 200
    assert server.requests == []


def test_spans_that_are_not_genai_are_accepted_and_ignored() -> None:
    with gate() as (client, request_handler, server):
        answer = client.post(body_of(sdk_span({"http.route": "/chat"})))
        assert (answer.status, answer.body) == (200, b"")
        assert request_handler.projects.by_name[""].forwarder.stats()["spans"]["not ours"] == 1
    assert server.requests == []


def test_context_of_a_span_above_in_the_same_request_reaches_the_call() -> None:
    root = sdk_span({"posthog.feature": "meme", "user.id": "u-1"}, span_id=PARENT_ID, parent=False)
    with gate() as (client, _, server):
        client.post(body_of(sdk_span(), root))
    [event] = server.events
    assert (event["properties"]["feature"], event["distinct_id"]) == ("meme", "u-1")


def test_feature_rules_read_spans_that_are_not_genai() -> None:
    root = sdk_span({"http.route": "/memes"}, span_id=PARENT_ID, parent=False)
    with gate(features={"http.route": {"/memes": "meme"}}) as (client, _, server):
        for kind in (PROTOBUF, JSON):
            client.post(body_of(sdk_span(), root, kind=kind), kind=kind)
    assert [event["properties"]["feature"] for event in server.events] == ["meme", "meme"]


def test_a_request_that_is_sent_again_gives_the_same_events() -> None:
    spans = [sdk_span(span_id=number) for number in range(1, 6)]
    with gate() as (client, _, server):
        client.post(body_of(*spans))
        client.post(body_of(*spans))
    assert server.events[:5] == server.events[5:]
    assert len({event["uuid"] for event in server.events}) == 5


_REJECTIONS: list[Any] = [
    pytest.param(b"no protobuf", PROTOBUF, {}, 400, "no OTLP request", id="not protobuf"),
    pytest.param(b"{", JSON, {}, 400, "no JSON", id="not JSON"),
    pytest.param(b"[]", JSON, {}, 400, "not an object", id="JSON of a list"),
    pytest.param(b"[" * 5000, JSON, {}, 400, "no JSON", id="JSON nested too deeply"),
    pytest.param(b"\xff{}", JSON, {}, 400, "no JSON", id="JSON that is not UTF-8"),
    pytest.param(
        b"this is not gzip at all", PROTOBUF, {"content-encoding": "gzip"}, 400, "damaged", id="not gzip"
    ),
    pytest.param(
        gzip.compress(b"x")[:-1], PROTOBUF, {"content-encoding": "gzip"}, 400, "ends early", id="cut"
    ),
    pytest.param(b"x", PROTOBUF, {"content-encoding": "zstd"}, 400, "damaged", id="not zstd"),
    pytest.param(b"x", PROTOBUF, {"content-encoding": "br"}, 415, "Content-Encoding 'br'", id="brotli"),
    pytest.param(b"x", PROTOBUF, {"content-encoding": "gzip, zstd"}, 415, "gzip, zstd", id="two encodings"),
    pytest.param(b"x", "text/plain", {}, 415, "Content-Type must be", id="text"),
    pytest.param(b"x", "", {}, 415, "Content-Type must be", id="no content type"),
    pytest.param(b"x" * 1001, PROTOBUF, {}, 413, "1,000 bytes", id="too large"),
    pytest.param(
        b"", PROTOBUF, {"content-length": "1001"}, 413, "1,000 bytes", id="too large by Content-Length"
    ),
    pytest.param(
        gzip.compress(bytes(1001)),
        PROTOBUF,
        {"content-encoding": "gzip"},
        413,
        "larger than 1,000",
        id="a bomb",
    ),
]


@pytest.mark.parametrize(("body", "kind", "headers", "status", "words"), _REJECTIONS)
def test_an_unreadable_request_is_rejected_with_a_sentence_in_its_own_content_type(
    body: bytes, kind: str, headers: dict[str, str], status: int, words: str
) -> None:
    limits = Limits(body=10_000 if body.startswith(b"[[") else 1000)
    with gate(limits=limits) as (client, request_handler, server):
        answer = client.send("POST", headers={"content-type": kind, **headers}, pieces=(body,))
        assert answer.status == status
        assert answer.headers["content-type"] == (kind if kind in (PROTOBUF, JSON) else PROTOBUF)
        assert words in answer.body.decode("utf-8", "replace")
        assert b"\n" not in answer.body[10:]
        assert request_handler.budget.used == 0
    assert server.requests == []


def test_a_rejection_is_a_status_message() -> None:
    with gate() as (client, _, _):
        in_json = json.loads(client.post(b"{", kind=JSON).body)
        in_protobuf = client.post(b"\xff", kind=PROTOBUF).body
    assert in_json["code"] == 3
    assert in_json["message"].startswith("the body is no JSON")
    sentence = in_protobuf[4:]
    assert in_protobuf[:3] == b"\x08\x03\x12"
    assert in_protobuf[3] == len(sentence)
    assert sentence.decode().startswith("the body is no OTLP request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/traces", 405),
        ("PUT", "/v1/traces", 405),
        ("POST", "/v1/profiles", 404),
        ("GET", "/", 404),
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
def test_paths_and_methods(method: str, path: str, status: int) -> None:
    with gate() as (client, _, _):
        assert client.send(method, path).status == status


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        "Bearer \xe9",
        TOKEN,
    ],
)
def test_without_the_token_nothing_is_accepted(given: str | None) -> None:
    headers = {} if given is None else {"authorization": given}
    with gate(token=TOKEN) as (client, _, server):
        answer = client.post(body_of(sdk_span()), **headers)
    assert answer.status == 401
    assert b"Bearer" in answer.body
    assert server.requests == []


def test_with_the_token_spans_are_accepted() -> None:
    with gate(token=TOKEN) as (client, _, server):
        assert client.post(body_of(sdk_span()), authorization=f"bearer {TOKEN}").status == 200
        assert client.send("GET", "/healthz").status == 200
    assert len(server.events) == 1


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_spans_without_ids_are_rejected_and_the_others_accepted(kind: str) -> None:
    good, bad = sdk_span(), sdk_span(span_id=0)
    with gate() as (client, request_handler, server):
        answer = client.post(body_of(good, bad, kind=kind), kind=kind)
        assert request_handler.stats()["spans"] == {
            "accepted": 1,
            "handed back": 0,
            "rejected": 1,
            "ignored": 0,
        }
    assert answer.status == 200
    if kind == JSON:
        partial = json.loads(answer.body)["partialSuccess"]
        assert partial == {"rejectedSpans": "1", "errorMessage": "a span has no trace id or span id"}
    else:
        message = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert (message.rejected_spans, message.error_message) == (1, "a span has no trace id or span id")
    assert len(server.events) == 1


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_parent_id_of_zeros_means_no_parent(kind: str) -> None:
    request = otlp_request(sdk_span())
    request.resource_spans[0].scope_spans[0].spans[0].parent_span_id = bytes(8)
    body = json.dumps(otlp_json(request)).encode() if kind == JSON else request.SerializeToString()
    with gate() as (client, _, server):
        assert client.post(body, kind=kind).status == 200
    assert "0" * 16 not in str(server.events)


def test_spans_of_an_unreadable_resource_are_all_counted() -> None:
    document = json.loads(body_of(sdk_span(), sdk_span(span_id=2), kind=JSON))
    document["resourceSpans"][0]["resource"] = "no object"
    document["resourceSpans"][0]["scopeSpans"][0]["spans"] *= 3
    with gate() as (client, _, server):
        answer = client.post(json.dumps(document).encode(), kind=JSON)
    assert json.loads(answer.body)["partialSuccess"] == {
        "rejectedSpans": "3",
        "errorMessage": "resourceSpans[0].resource is not an object",
    }
    assert len(server.events) == 1


# --- PostHog accepts no events ---


def test_during_an_outage_without_a_spool_the_sender_has_to_retry() -> None:
    with gate(timeout=0.2) as (client, request_handler, server):
        server.faults.extend([Fault(503)] * 50)
        answer = client.post(body_of(sdk_span()))
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert NO_SPOOL in answer.body
        requests_before = len(server.requests)
        again = client.post(body_of(sdk_span()))  # at once: nothing is sent to PostHog
        assert (again.status, len(server.requests)) == (503, requests_before)
        assert NO_SPOOL in again.body
        assert request_handler.projects.by_name[""].forwarder.stats()["queue"]["waiting"] == 0
    assert server.events == []


def test_after_a_pause_spans_are_sent_to_posthog_again() -> None:
    now = 0.0
    with gate(timeout=0.2, clock=lambda: now) as (client, _, server):
        server.faults.append(Fault(503))
        server.faults.extend([Fault(503)] * 30)
        assert client.post(body_of(sdk_span())).status == 503
        server.faults.clear()
        assert client.post(body_of(sdk_span())).status == 503
        now = 60.0
        assert client.post(body_of(sdk_span())).status == 200
    assert len(server.events) == 1


def test_during_an_outage_with_a_spool_spans_are_accepted_and_sent_later(tmp_path: Path) -> None:
    with gate(timeout=0.2, spool=tmp_path) as (client, request_handler, server):
        server.faults.extend([Fault(503)] * 50)
        for number in (1, 2, 3):  # the first is tried, the others go to disk at once
            assert client.post(body_of(sdk_span(span_id=number))).status == 200
        server.faults.clear()
        assert request_handler.projects.by_name[""].forwarder.flush(20)
    assert len({event["uuid"] for event in server.events}) == 3


def test_an_idle_gateway_sends_what_another_left_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "LOOK_SECONDS", 0.05)
    with gate(spool=tmp_path) as (_, _, idle):
        with gate(timeout=0.2, spool=tmp_path) as (client, _, server):
            server.faults.extend([Fault(503)] * 50)
            assert client.post(body_of(sdk_span())).status == 200
        until(lambda: idle.events, "it arrives")


def test_with_a_full_spool_the_sender_has_to_retry_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    accepted: list[int] = []
    with gate(timeout=0.2, spool=tmp_path, spool_max_bytes=1024 * 1024) as (client, request_handler, server):
        server.faults.extend([Fault(503)] * 500)
        assert request_handler.projects.readiness().problems == []
        for number in range(1, 40):
            answer = client.post(
                body_of(sdk_span({**CHAT, "posthog.property.x": "x" * 60_000}, span_id=number))
            )
            if answer.status == 200:
                accepted.append(number)
            else:
                assert answer.status == 503
                assert b"PostHog accepts no events now, and the spool is full or unusable" in answer.body
        assert 5 < len(accepted) < 39
        assert request_handler.projects.by_name[""].forwarder.stats()["spool"]["dropped"] == {}
        server.faults.clear()
        assert request_handler.projects.by_name[""].forwarder.flush(20)
    sent = {int(event["properties"]["$ai_span_id"], 16) for event in server.events}
    assert sent >= {*accepted}


def test_a_gateway_with_a_full_spool_is_not_ready(tmp_path: Path) -> None:
    with gate(timeout=0.2, spool=tmp_path, spool_max_bytes=1024 * 1024) as (client, _, server):
        server.faults.extend([Fault(503)] * 500)
        big = {**CHAT, "posthog.property.x": "x" * 60_000}
        for number in range(1, 40):
            client.post(body_of(sdk_span(big, span_id=number)))
        ready = client.send("GET", "/readyz")
    assert ready.status == 503
    assert b"the spool is full" in ready.body


def test_the_answer_names_the_key_if_posthog_rejects_it() -> None:
    with gate(timeout=1) as (client, _, server):
        server.faults.append(Fault(401))
        for _ in range(2):  # with a request to PostHog, and without
            answer = client.post(body_of(sdk_span()))
            assert answer.status == 503
            assert (
                b"PostHog accepts no events (status_401): check the project API key (phc_...), and see the"
                b" log of otel-posthog; send again later"
            ) in answer.body


def test_a_gateway_whose_key_is_rejected_is_not_ready() -> None:
    with gate(timeout=1) as (client, _, server):
        server.faults.append(Fault(401))
        assert client.post(body_of(sdk_span())).status == 503
        ready = client.send("GET", "/readyz")
        assert (ready.status, client.send("GET", "/healthz").status) == (503, 200)
    assert b"PostHog rejects the project key" in ready.body
    assert KEY.encode() not in ready.body


def test_events_rejected_for_good_are_counted_and_the_others_accepted() -> None:
    with gate() as (client, _, server):
        server.is_poison = lambda event: event["properties"]["$ai_span_id"].endswith("07")
        answer = client.post(body_of(*[sdk_span(span_id=number) for number in range(1, 11)]))
    message = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, message.rejected_spans) == (200, 1)
    assert message.error_message == "PostHog rejected 1 events (invalid)"
    assert len(server.events) == 9


# --- limits ------------------------------------------------------------------------------------------


def test_a_request_beyond_the_budget_is_rejected_for_now() -> None:
    with gate(limits=Limits(in_flight=5000)) as (client, request_handler, server):
        request_handler.budget.reserve(4500)  # of other requests
        answer = client.post(body_of(sdk_span({**CHAT, "gen_ai.prompt": "x" * 1000})))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert request_handler.budget.used == 4500
        request_handler.budget.release(4500)
        assert client.post(body_of(sdk_span())).status == 200
        assert request_handler.budget.used == 0
    assert len(server.events) == 1


def test_inflated_bytes_count_as_well() -> None:
    with gate(limits=Limits(in_flight=5000)) as (client, _, _):
        body = gzip.compress(body_of(sdk_span({**CHAT, "gen_ai.prompt": "x" * 5000})))
        assert len(body) < 2000
        assert client.post(body, content_encoding="gzip").status == 503


def test_a_body_that_stops_is_rejected_for_now() -> None:
    with gate(limits=Limits(chunk_seconds=0.01)) as (client, request_handler, _):
        answer = client.send("POST", headers={"content-type": PROTOBUF}, pieces=(b"abc",), then={})
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert b"after 3 bytes" in answer.body
        assert request_handler.budget.used == 0


def test_the_bytes_of_a_sender_that_disconnects_are_released() -> None:
    with gate() as (client, request_handler, _):
        gone = {"type": "http.disconnect"}
        answer = client.send("POST", headers={"content-type": PROTOBUF}, pieces=(b"abc",), then=gone)
        assert answer.status == 400
        assert request_handler.budget.used == 0


def test_json_of_too_many_members_is_rejected_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_posthog.gateway.decode.MAX_JSON_MEMBERS", 200)
    commas = body_of(sdk_span({**CHAT, "gen_ai.prompt": 'a, {b}, [c] \\" ' * 300}), kind=JSON)
    with gate() as (client, _, server):
        assert client.post(b"[" + b"{}," * 200 + b"{}]", kind=JSON).status == 413
        assert client.post(commas, kind=JSON).status == 200  # commas in a string are no members
    assert len(server.events) == 1


@pytest.mark.parametrize(
    "text", [rb"\"" * 100_000, rb"\"" * 100_000 + b"\\", b'"' * 7_000_000, b'"' + rb"\n" * 3_000_000 + b'"']
)
def test_strings_in_json_cost_neither_time_nor_memory(text: bytes) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(RequestRejectedError):
            [*spans_of(JSON, b"," * 1_600_000 + text, frozenset(), RejectedSpans())]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
    assert time.process_time() - began < 5  # quotes alone took minutes


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_request_of_too_many_attributes_is_rejected_as_a_whole(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_posthog.gateway.decode.MAX_VALUES", 100)
    with gate() as (client, _, server):
        nested = sdk_span({**CHAT, "a": {"b": ["x"] * 50}})
        assert client.post(body_of(nested, kind=kind), kind=kind).status == 200
        answer = client.post(body_of(nested, nested, kind=kind), kind=kind)
    assert answer.status == 413
    assert len(server.events) == 1


# --- anything ----------------------------------------------------------------------------------------

_GOOD = {
    kind: body_of(sdk_span({**CHAT, "posthog.feature": "meme"}), sdk_span(span_id=SPAN_ID + 1), kind=kind)
    for kind in (PROTOBUF, JSON)
}


_NAMES = [
    *("resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "events", "status"),
    *("key", "value", "stringValue", "arrayValue", "kvlistValue", "values", "traceId", "spanId"),
]


@pytest.fixture(scope="module")
def fuzzed() -> Any:
    with gate() as (client, _, _):
        yield client


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([PROTOBUF, JSON]),
    st.sampled_from(["", "gzip", "zstd", "deflate"]),
    st.booleans(),
    st.binary(max_size=100),
    st.data(),
)
def test_no_body_raises(
    fuzzed: Client, kind: str, encoding: str, is_compressed: bool, noise: bytes, data: st.DataObject
) -> None:
    body = bytearray(_GOOD[kind])
    at = data.draw(st.integers(0, len(body)))
    body[at : at + data.draw(st.integers(0, 20))] = noise
    sent = bytes(body)
    if is_compressed and encoding:
        sent = {"gzip": gzip.compress, "zstd": _zstd}.get(encoding, bytes)(sent)
    answer = fuzzed.post(sent, kind=kind, content_encoding=encoding)
    assert answer.status in (200, 400, 413, 415)
    assert answer.status == 200 or len(answer.body) > 10


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(_NAMES),
                inner,
                max_size=4,
            )
        ),
        max_leaves=30,
    )
)
def test_no_json_raises(fuzzed: Client, document: Any) -> None:
    answer = fuzzed.post(json.dumps(document).encode(), kind=JSON)
    assert answer.status in (200, 400)


def test_a_bug_of_ours_is_a_503_that_shows_no_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with gate() as (client, request_handler, _):

        def fail(*_: object) -> None:
            raise KeyError("a prompt")

        monkeypatch.setattr(request_handler.projects.by_name[""], "ingest", fail)
        answer = client.post(otlp_request(sdk_span()).SerializeToString())
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert b"a prompt" not in answer.body
    assert "please report this" in caplog.text


def test_a_request_that_arrives_during_shutdown_is_rejected_for_now() -> None:
    with gate() as (_, request_handler, _), ThreadPoolExecutor(1) as ended:
        ended.shutdown()
        answer = Client(Gateway(request_handler, ended)).post(body_of(sdk_span()))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
