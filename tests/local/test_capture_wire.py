"""The wires as functions: what each takes, refuses and cuts off, without a socket."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import uuid
import zlib
from typing import Any

import pytest

from otel_posthog.local import capture_wire
from otel_posthog.runtime import decompression

V1_HEADERS = {
    "authorization": "Bearer phc_x",
    "posthog-sdk-info": "posthog-python/7.91.1",
    "posthog-attempt": "1",
    "posthog-request-id": "0198c0de-0000-7000-8000-000000000000",
    "posthog-request-timestamp": "2026-11-20T12:00:00Z",
    "content-type": "application/json",
    "user-agent": "test",
}


def event(name: str = "hello", **fields: Any) -> dict[str, Any]:
    return {
        "event": name,
        "uuid": str(uuid.uuid4()),
        "distinct_id": "u1",
        "timestamp": "2026-11-20T12:00:00+00:00",
        "properties": {},
        **fields,
    }


def sized(name: str, size: int) -> dict[str, Any]:
    """An event of exactly ``size`` bytes of compact JSON."""
    one = event(name, properties={"pad": ""})
    room = size - len(json.dumps(one, separators=(",", ":")))
    return {**one, "properties": {"pad": "x" * room}}


def batch(*events: Any, **fields: Any) -> bytes:
    return json.dumps({"api_key": "phc_x", "batch": list(events), **fields}).encode()


def v1(*events: Any, **fields: Any) -> bytes:
    return json.dumps({"created_at": "2026-11-20T12:00:00Z", "batch": list(events), **fields}).encode()


def send(path: str, body: bytes, **headers: str) -> capture_wire.Accepted:
    way = capture_wire.wire_at(path)
    return capture_wire.read(way, {**(V1_HEADERS if way.v1 else {}), **headers}, body)


def refusal(path: str, body: bytes, **headers: str) -> capture_wire.RefusalError:
    with pytest.raises(capture_wire.RefusalError) as caught:
        send(path, body, **headers)
    return caught.value


BATCH, SINGLE, AI, V1 = "/batch/", "/i/v0/e/", "/i/v0/ai/batch/", "/i/v1/analytics/events"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    "path", ["/batch/", "/batch", "/i/v0/e/", "/e/", "/capture/", "/i/v0/ai/batch/", "/i/v1/analytics/events"]
)
def test_every_path_is_served_with_and_without_its_slash(path: str) -> None:
    assert capture_wire.wire_at(path) is capture_wire.wire_at(path.rstrip("/"))


@pytest.mark.parametrize("path", ["/", "/batchx", "/i/v0/ai", "/i/v0/ai/otel", "/flags/"])
def test_unknown_paths_are_404(path: str) -> None:
    with pytest.raises(capture_wire.RefusalError, match="no such path") as caught:
        capture_wire.wire_at(path)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("path", "name", "largest"),
    [
        (BATCH, "$ai_generation", 983_040),
        (SINGLE, "$ai_generation", 983_040),
        (BATCH, "llm_completion_success", 1_000_000),
        (AI, "$ai_generation", 8 * MIB),
    ],
)
def test_an_event_may_be_as_large_as_its_limit_and_takes_the_whole_request_with_it_above(
    path: str, name: str, largest: int
) -> None:
    fits, above, good = sized(name, largest), sized(name, largest + 1), event("$ai_span")
    assert [one["event"] for one in send(path, batch(good, fits)).events] == ["$ai_span", name]
    refused = refusal(path, batch(good, above))
    assert refused.status == 413
    assert f"{largest + 1:,} bytes" in str(refused)


@pytest.mark.parametrize(
    ("path", "largest"), [(BATCH, 20_000_000), (SINGLE, 2_000_000), (AI, 20_000_000), (V1, 10 * MIB)]
)
def test_a_body_may_be_as_large_as_its_limit_on_the_wire(path: str, largest: int) -> None:
    assert refusal(path, b" " * largest).status == 400
    assert refusal(path, b" " * (largest + 1)).status == 413


@pytest.mark.parametrize(
    ("path", "inflated"), [(BATCH, 100_000_000), (SINGLE, 2_000_000), (AI, 100_000_000), (V1, 50 * MIB)]
)
def test_a_bomb_is_stopped_at_the_ceiling(path: str, inflated: int) -> None:
    assert (
        refusal(path, gzip.compress(b" " * (inflated + 1), 1), **{"content-encoding": "gzip"}).status == 413
    )
    assert refusal(path, gzip.compress(b" " * inflated, 1), **{"content-encoding": "gzip"}).status == 400


def test_a_bomb_never_unfolds_in_memory() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(bomb.compress(b"\0" * MIB) for _ in range(300)) + bomb.flush()
    tracemalloc.start()
    refused = refusal(SINGLE, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.status == 413
    assert peak < 10 * MIB


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(batch(event()))[:-9],
        gzip.compress(batch(event()))[:-20] + b"x" * 20,
        b"\x1f\x8b\x08 no gzip at all",
    ],
)
def test_damaged_gzip_is_400(body: bytes) -> None:
    assert refusal(BATCH, body).status == 400
    assert refusal(V1, body, **{"content-encoding": "gzip"}).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"5",
        b'{"api_key": "phc_x", "batch": [{"event": "e", "distinct_id": "u", "properties": {"x": NaN}}]}',
        b'{"api_key": "phc_x", "batch": [{"event": "e\\ud800", "distinct_id": "u"}]}',
        b'{"api_key": "phc_x", "batch": [{"event": "e\xff", "distinct_id": "u"}]}',
        batch(batch=5),
        batch(),
        batch(5),
        batch(event(uuid="not-a-uuid")),
        batch(event(uuid=5)),
        batch(event(event=5)),
        batch(event(event="")),
        batch(event(properties=[])),
        batch(event(distinct_id=None)),
        batch(event(distinct_id="")),
        batch(event(properties=json.loads("[" * 400 + "]" * 400))),
        batch(event(properties={"x": json.loads("[" * 400 + "]" * 400)})),
    ],
    ids=range(18),
)
def test_what_is_no_events_is_400(body: bytes) -> None:
    assert refusal(BATCH, body).status == 400


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"batch": [event()]}).encode(),
        batch(event(), api_key=""),
        batch(event(), api_key=None),
        batch(event(), api_key="phx_personal"),
        json.dumps([event(api_key="a"), event(api_key="b")]).encode(),
        json.dumps([event()]).encode(),
        json.dumps([5]).encode(),
        b"{}",
    ],
)
def test_no_project_key_is_401(body: bytes) -> None:
    assert refusal(BATCH, body).status == 401


def test_the_three_shapes_of_v0() -> None:
    one = event(api_key="phc_x")
    plain = {name: value for name, value in one.items() if name != "api_key"}
    for body in (json.dumps(one), json.dumps([one]), batch(plain).decode()):
        assert send(SINGLE, body.encode()).events == [plain]
        assert send(BATCH, gzip.compress(body.encode())).events == [plain]


def test_the_key_may_stand_in_the_properties() -> None:
    assert send(SINGLE, json.dumps(event(properties={"token": "phc_x"})).encode()).events


@pytest.mark.parametrize(
    ("fields", "distinct_id"),
    [
        ({"distinct_id": 23}, "23"),
        ({"distinct_id": ["a"]}, '["a"]'),
        ({"distinct_id": None, "$distinct_id": "x"}, "x"),
        ({"distinct_id": None, "properties": {"distinct_id": "y"}}, "y"),
        ({"distinct_id": "z" * 222}, "z" * 200),
    ],
)
def test_distinct_ids_become_text_of_at_most_200_characters(fields: dict[str, Any], distinct_id: str) -> None:
    (got,) = send(BATCH, batch(event(**fields))).events
    assert got["distinct_id"] == distinct_id


def test_an_event_without_a_uuid_gets_one() -> None:
    first, second = send(BATCH, batch(event(uuid=""), event(uuid=None))).events
    assert uuid.UUID(first["uuid"]) != uuid.UUID(second["uuid"])


def test_other_events_have_no_place_on_the_ai_wire() -> None:
    refused = refusal(AI, batch(event("$ai_generation"), event("llm_completion_success")))
    assert refused.status == 400
    assert "llm_completion_success" in str(refused)


# --- v1 ---------------------------------------------------------------------------------------------------


def test_v1_answers_for_each_event_and_folds_back_what_it_lifts() -> None:
    good = event(
        "$ai_generation",
        properties={"a": 1},
        options={"process_person_profile": "FALSE", "product_tour_id": 5, "unknown": []},
        session_id="s1",
        window_id=None,
    )
    bad = event(timestamp="2026-11-20T12:00:00")
    accepted = send(V1, v1(good, bad))
    assert accepted.answer == {
        "results": {
            good["uuid"]: {"result": "ok"},
            bad["uuid"]: {"result": "drop", "details": "invalid_event_timestamp"},
        }
    }
    (kept,) = accepted.events
    assert set(kept) == {"event", "uuid", "distinct_id", "timestamp", "properties"}
    assert kept["properties"] == {
        "a": 1,
        "$process_person_profile": False,
        "$product_tour_id": "5",
        "$session_id": "s1",
        "$lib": "posthog-python",
        "$lib_version": "7.91.1",
    }


@pytest.mark.parametrize(
    ("bad", "details"),
    [
        (event(""), "missing_event_name"),
        (event("x" * 201), "event_name_too_long"),
        (event(distinct_id=" "), "missing_distinct_id"),
        (event(distinct_id="x" * 201), "distinct_id_too_large"),
        (event(distinct_id="Anonymous"), "malformed_distinct_id"),
        (event(timestamp="yesterday"), "invalid_event_timestamp"),
        (event(properties=[]), "malformed_event_properties"),
        (event(options=[]), "invalid_options"),
        (event(options={"cookieless_mode": "perhaps"}), "invalid_options"),
        (event(options={"product_tour_id": True}), "invalid_options"),
        (sized("$ai_generation", 8 * MIB + 1), "ai_event_too_big"),
        (sized("hello", 1_000_001), "event_too_big"),
    ],
)
def test_v1_drops_the_one_event_that_is_wrong(bad: dict[str, Any], details: str) -> None:
    good = event()
    accepted = send(V1, v1(bad, good))
    assert [one["uuid"] for one in accepted.events] == [good["uuid"]]
    assert accepted.answer["results"] == {
        bad["uuid"]: {"result": "drop", "details": details},
        good["uuid"]: {"result": "ok"},
    }


def test_v1_takes_events_up_to_the_limit() -> None:
    largest = sized("$ai_generation", 8 * MIB)
    assert send(V1, v1(largest)).answer == {"results": {largest["uuid"]: {"result": "ok"}}}


SAME = event()


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        v1(),
        v1(5),
        v1(batch=5),
        json.dumps({"batch": [event()]}).encode(),
        v1(event(), historical_migration="yes"),
        v1(event(uuid="not-a-uuid")),
        v1(event(uuid=None)),
        v1(event(timestamp=5)),
        v1(event(session_id=5)),
        v1(SAME, SAME),
    ],
    ids=range(11),
)
def test_v1_refuses_the_whole_where_results_cannot_be_told_apart(body: bytes) -> None:
    assert refusal(V1, body).status == 400


@pytest.mark.parametrize("name", [name for name in V1_HEADERS if name != "authorization"])
def test_v1_needs_its_headers(name: str) -> None:
    headers = {key: value for key, value in V1_HEADERS.items() if key != name}
    with pytest.raises(capture_wire.RefusalError, match=name) as caught:
        capture_wire.read(capture_wire.wire_at(V1), headers, v1(event()))
    assert (caught.value.status, caught.value.tag) == (400, "missing_required_headers")


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("authorization", "Basic phc_x", 400),
        ("authorization", "Bearer  ", 401),
        ("authorization", "Bearer phx_personal", 401),
        ("posthog-attempt", "0", 400),
        ("posthog-attempt", "one", 400),
        ("posthog-attempt", "00", 400),
        ("posthog-request-id", "1", 400),
        ("posthog-request-timestamp", "2026-11-20T12:00:00", 400),
        ("content-type", "text/plain", 415),
        ("content-encoding", "br", 415),
        ("content-encoding", "lz4", 415),
    ],
)
def test_v1_refuses_wrong_headers(name: str, value: str, status: int) -> None:
    assert refusal(V1, v1(event()), **{name: value}).status == status


def test_v1_without_authorization_is_401() -> None:
    headers = {key: value for key, value in V1_HEADERS.items() if key != "authorization"}
    with pytest.raises(capture_wire.RefusalError) as caught:
        capture_wire.read(capture_wire.wire_at(V1), headers, v1(event()))
    assert caught.value.status == 401


def test_v1_inflates_gzip_and_deflate() -> None:
    body = v1(event())
    assert len(send(V1, gzip.compress(body), **{"content-encoding": "GZIP"}).events) == 1
    assert len(send(V1, zlib.compress(body), **{"content-encoding": "deflate"}).events) == 1
    # Raw deflate is what the header says in other places; here it is zlib-wrapped.
    assert refusal(V1, zlib.compress(body)[2:-4], **{"content-encoding": "deflate"}).status == 400


def test_v1_without_an_injectable_sdk_name_injects_nothing() -> None:
    (kept,) = send(V1, v1(event()), **{"posthog-sdk-info": "nameless"}).events
    assert kept["properties"] == {}


def test_zstd_is_415_where_this_python_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompression, "CODECS", {"gzip": decompression.CODECS["gzip"]})
    refused = refusal(V1, v1(event()), **{"content-encoding": "zstd"})
    assert refused.status == 415
    assert "zstd" in str(refused)


def test_zstd_is_read_where_a_codec_is_there() -> None:
    """A frame of one raw block, made by hand: it needs no compressor, and shows whichever codec there is."""
    body = v1(event(properties={"pad": "x" * 300}))
    frame = b"\x28\xb5\x2f\xfd\x60" + (len(body) - 256).to_bytes(2, "little")
    frame += ((len(body) << 3) | 1).to_bytes(3, "little") + body
    if decompression.zstd_codec() is None:
        assert refusal(V1, frame, **{"content-encoding": "zstd"}).status == 415
    else:
        assert len(send(V1, frame, **{"content-encoding": "zstd"}).events) == 1
        assert refusal(V1, frame[:-5], **{"content-encoding": "zstd"}).status == 400
        assert refusal(V1, b"no zstd at all", **{"content-encoding": "zstd"}).status == 400
