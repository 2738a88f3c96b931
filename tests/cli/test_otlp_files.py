from __future__ import annotations

import gzip
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, MetricsData, ResourceMetrics, ScopeMetrics

from otel_posthog.cli import otlp_files
from otel_posthog.cli.otlp_files import json_text as otlp_text
from otel_posthog.cli.otlp_files import spans_of_file
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from tests.support.otlp_json import otlp_json
from tests.support.spans import CHAT, otlp_request, sdk_span

REQUESTS = [otlp_request(*(sdk_span(name=f"{n}.{i}") for i in range(2))) for n in range(3)]
NAMES = [f"{n}.{i}" for n in range(3) for i in range(2)]
DOCUMENTS = [otlp_json(request) for request in REQUESTS]
JSON = [orjson.dumps(document) for document in DOCUMENTS]
PROTOBUF = [request.SerializeToString() for request in REQUESTS]
METRICS = MetricsData(
    resource_metrics=[ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[Metric(name="a", unit="s")])])]
).SerializeToString()

zstd = zstandard.ZstdCompressor().compress


def gz(data: bytes) -> bytes:
    """The same bytes at any time: they name tests."""
    return gzip.compress(data, mtime=0)


def pretty(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def framed(messages: Iterable[bytes]) -> bytes:
    """As the exporter's `exportMessageAsBuffer` writes them."""
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def lines(messages: Iterable[bytes]) -> bytes:
    return b"".join(message + b"\n" for message in messages)


def read(path: Path, content: bytes) -> tuple[list[str], list[str]]:
    """The names of the spans and the sentences."""
    file = path / "spans"
    file.write_bytes(content)
    heard: list[str] = []
    spans = list(spans_of_file(file, heard.append))
    assert all(isinstance(span, SpanView | ContextSpan) for span in spans)
    return [span.name for span in spans if isinstance(span, SpanView)], heard


FORMATS = {
    "lines": lines(JSON),
    "lines of Windows": b"\xef\xbb\xbf" + b"\r\n".join(JSON),
    "lines with blank ones": b"\n\n" + b"\n\n".join(JSON),
    "lines with other signals": lines([b'{"resourceMetrics":[{}]}', b"{}", *JSON, b'{"resourceLogs":[]}']),
    "pretty list": pretty(DOCUMENTS),
    "pretty list after a blank line": b"\n" + pretty(DOCUMENTS),
    "list in a line": orjson.dumps(DOCUMENTS),
    "list with a request a line": b"[\n" + b",\n".join(JSON) + b"\n]\n",
    "list of one begun in its line": b"[" + b",\n".join(JSON) + b"]",
    "protobuf messages": framed(PROTOBUF),
    "protobuf messages, compressed": framed(map(zstd, PROTOBUF)),
    "JSON messages, compressed": framed(map(zstd, JSON)),
    "JSON messages": framed(JSON),
    "messages of both": framed([PROTOBUF[0], zstd(JSON[1]), zstd(PROTOBUF[2])]),
    "bare protobuf": b"".join(PROTOBUF),  # protobuf joins what is written one after the other
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gz,
    "gzip in two members": lambda content: gz(content[:100]) + gz(content[100:]),
    "zstd": zstd,
    "zstd in frames": lambda content: b"".join(
        zstd(content[at : at + 90]) for at in range(0, len(content), 90)
    ),
    "zstd in gzip": lambda content: gz(zstd(content)),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", FORMATS)
def test_a_format_is_recognised_and_read(form: str, compression: str, tmp_path: Path) -> None:
    assert read(tmp_path, COMPRESSIONS[compression](FORMATS[form])) == (NAMES, [])


@pytest.mark.parametrize(
    "content",
    [pretty(DOCUMENTS[0]), b"\n" + pretty(DOCUMENTS[0]), JSON[0], PROTOBUF[0], framed(PROTOBUF[:1])],
)
def test_a_single_request_is_read(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, content) == (NAMES[:2], [])


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", b"\xef\xbb\xbf", b"{}", b"[]", gz(b"")])
def test_a_file_without_content_has_no_spans(content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path, content) == ([], [])


def test_a_bare_request_that_looks_like_a_blank_line_and_a_document_is_no_text(tmp_path: Path) -> None:
    for size in range(200):
        request = otlp_request(sdk_span({**CHAT, "x": "y" * size}, name="n", resource={"a": "{"}))
        content = request.SerializeToString()
        assert read(tmp_path, content) == (["n"], [])


# --- what is broken --------------------------------------------------------------------------------

ODD = orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [None, DOCUMENTS[0]]}]}]})
PLACE = "resourceSpans[0].scopeSpans[0].spans[0] is not an object"


@pytest.mark.parametrize(
    ("content", "names", "sentences"),
    [
        (lines([JSON[0], JSON[1][:50], JSON[2]]), "02", ["line 2: is not JSON ("]),
        (lines([JSON[0], b"\x00\x00", JSON[2]]), "02", ["line 2: is not JSON ("]),
        (lines([JSON[0], b"", b"12", JSON[2]]), "02", ["line 3: the request is not an object"]),
        (lines([JSON[0], b'{"a":1}', JSON[2]]), "02", ["line 2: has no resourceSpans or resourceLogs"]),
        (lines([JSON[0], b"\xff", JSON[2]]), "02", ["line 2: is not JSON ("]),
        (lines([JSON[0], b"[" * 5000, JSON[2]]), "02", ["line 2: is not JSON ("]),
        (lines([JSON[0][:50], JSON[1], JSON[2]]), "12", ["line 1: is not JSON ("]),
        (lines([JSON[0][50:], JSON[1], JSON[2]]), "12", ["line 1: is not JSON ("]),
        (lines(JSON)[:-50], "01", ["line 3: is not JSON ("]),
        (lines([ODD, JSON[1]]), "1", [f"line 1: {PLACE}"]),
        (pretty(orjson.loads(ODD)), "", [PLACE]),
        (
            pretty([DOCUMENTS[0], orjson.loads(ODD), 7]),
            "0",
            [f"request 2: {PLACE}", "request 3: the request is"],
        ),
        (framed([PROTOBUF[0], b"\x0a\xff", PROTOBUF[2]]), "02", ["message 2: is neither JSON nor protobuf"]),
        (framed([PROTOBUF[0], b"{", PROTOBUF[2]]), "02", ["message 2: is not JSON ("]),
        (framed([PROTOBUF[0], b"", PROTOBUF[2]]), "02", []),
        (framed([zstd(JSON[0]), zstd(JSON[1])[:-50], JSON[2]]), "02", ["message 2: "]),
        (
            framed([zstd(JSON[0]), zstd(JSON[1])[:9] + b"?" * 9, JSON[2]]),
            "02",
            ["message 2: its compression is"],
        ),
        (framed([PROTOBUF[0], ODD]), "0", [f"message 2: {PLACE}"]),
        (framed(PROTOBUF)[:-1], "01", ["message 3: the file ends before it does"]),
        (framed(PROTOBUF) + b"\x00\x00", "012", ["message 4: the file ends before it does"]),
        (framed(PROTOBUF) + b"\x00\x00\x00\x01", "012", ["message 4: the file ends before it does"]),
        (framed(PROTOBUF) + b"\xff" * 9, "012", ["message 4: its length of 4,294,967,295 bytes is beyond"]),
        (b"\x00\x10\x00\x00" + PROTOBUF[0], "", ["message 1: the file ends before it does"]),
        (gz(lines(JSON))[:-9], "012", ["the rest of the file: its compression is damaged ("]),
        (gz(lines(JSON)) + b"tail", "012", ["the rest of the file: its compression is damaged ("]),
        (zstd(lines(JSON)) + b"tail", "012", ["the rest of the file: its compression is damaged ("]),
    ],
)
def test_what_is_broken_is_named_and_the_rest_is_read(
    content: bytes, names: str, sentences: list[str], tmp_path: Path
) -> None:
    found, heard = read(tmp_path, content)
    assert "".join(sorted({name[0] for name in found})) == names
    assert len(heard) == len(sentences)
    for sentence, start in zip(heard, sentences, strict=True):
        assert sentence.startswith(start)


def test_metrics_among_protobuf_messages_do_no_harm(tmp_path: Path) -> None:
    assert read(tmp_path, framed([METRICS, *PROTOBUF]))[0] == NAMES


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"\nhello, it is a text",
        b"\x00" * 50,
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xfe{\x00}\x00",
        b'{"name": "package"}',
        b'{"name": "a"}\n{"name": "b"}\n',
        b"[1, 2]",
        pretty(DOCUMENTS)[:-50],
        pretty({"data": DOCUMENTS}),
        PROTOBUF[0][:-9],
        gz(b"hello"),
        gz(lines(JSON))[:12],
        b"\x1f\x8b",
        b"\x1f\x8bhello",
        zstd(b"hello"),
        zstd(lines(JSON))[:4] + b"?" * 50,
    ],
)
def test_a_file_of_something_else_is_refused_with_one_sentence(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the (compression of the )?file ") as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(spans_of_file(tmp_path / "none", pytest.fail))


@pytest.mark.parametrize("content", [zstd(lines(JSON)), framed(map(zstd, PROTOBUF))])
def test_without_zstandard_it_is_said_how_to_get_it(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ValueError, match=r"pip install 'zstandard>=0\.22'"):
        read(tmp_path, content)


# --- what is large ---------------------------------------------------------------------------------


@pytest.fixture
def ceiling(monkeypatch: pytest.MonkeyPatch) -> int:
    size = max(map(len, JSON)) + 100
    for module in (otlp_files, otlp_text):
        monkeypatch.setattr(module, "LARGEST", size)
    return size


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda huge: lines([JSON[0], huge, JSON[2]]), "line 2: has more than "),
        (lambda huge: lines([JSON[0], huge + huge * 100, JSON[2]]), "line 2: has more than "),
        (lambda huge: framed([JSON[0], zstd(huge), JSON[2]]), "message 2: inflated it has more than "),
    ],
)
def test_a_line_or_message_above_the_ceiling_is_left_out(
    make: Callable[[bytes], bytes], sentence: str, ceiling: int, tmp_path: Path
) -> None:
    names, heard = read(tmp_path, make(b" " * ceiling + b"{}"))
    assert names == [*NAMES[:2], *NAMES[4:]]
    assert [each[: len(sentence)] for each in heard] == [sentence]


@pytest.mark.parametrize("content", [pretty(DOCUMENTS), b"".join(PROTOBUF * 4), b"{\n" * 2000])
def test_a_document_above_the_ceiling_is_refused(content: bytes, ceiling: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{ceiling:,} bytes"):
        read(tmp_path, content)


@pytest.mark.parametrize("form", [lines(JSON), framed(PROTOBUF), framed(map(zstd, JSON))])
@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_a_large_file_is_read_in_little_memory(form: bytes, compression: str, tmp_path: Path) -> None:
    file = tmp_path / "spans"
    file.write_bytes(COMPRESSIONS[compression](form * 800))
    next(spans_of_file(file, pytest.fail))  # what is imported on the way
    tracemalloc.start()
    try:
        assert sum(1 for _ in spans_of_file(file, pytest.fail)) == 800 * len(NAMES)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# --- arbitrary bytes -------------------------------------------------------------------------------

CONTENTS = st.sampled_from([*FORMATS.values(), *(make(lines(JSON)) for make in COMPRESSIONS.values())])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CONTENTS, cut=st.integers(0, 3000), at=st.integers(0, 3000), noise=st.binary(max_size=20))
def test_a_damaged_file_gives_views_and_sentences_or_a_value_error(
    content: bytes, cut: int, at: int, noise: bytes, tmp_path: Path
) -> None:
    damaged = content[cut % 7 * (cut % 2) :][: at % len(content)] + noise + content[at % len(content) + cut :]
    try:
        names, heard = read(tmp_path, damaged)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(names) <= len(NAMES)
        assert all("\n" not in sentence for sentence in heard)
