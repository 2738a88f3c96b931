"""Every configuration in `collector-config/` runs in the real Collector and does as its comments say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from otel_posthog.conversion.context_attributes import CONTEXT
from otel_posthog.conversion.spans.genai_detection import EVALUATION_EVENT, MARKERS
from tests.support.collector import CONFIGS, Backend, GrpcBackend, attributes_of, collector, send
from tests.support.spans import CHAT, START, sdk_span
from tests.support.waiting import free_ports, until

pytestmark = pytest.mark.usefixtures("_real_collector")

HTTP = {"http.request.method": "GET", "url.path": "/"}
SECOND = 1_000_000_000


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as running:
        yield running


def spans(count: int, first: int = 0, **values: Any) -> list[ReadableSpan]:
    """Return spans of different traces, named by their numbers."""
    return [
        sdk_span(name=str(number), span_id=number + 1, trace_id=number + 1, parent=False, **values)
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("config", ["agent.yaml", "gateway.yaml", "filter-genai.yaml", "redaction.yaml"])
def test_spans_go_to_the_gateway_with_its_token(config: str, backend: Backend, tmp_path: Path) -> None:
    with (
        Backend() as other,
        collector(
            tmp_path,
            config,
            OTEL_POSTHOG_GATEWAY=backend.url,
            OTEL_POSTHOG_GATEWAY_TOKEN="a-token-of-the-gateway",
            OTHER_BACKEND=other.url,
        ) as running,
    ):
        send(running, spans(100))
        until(lambda: len(backend.spans) == 100, "all spans arrive")
    assert sorted(backend.names) == sorted(map(str, range(100)))
    assert {(request.path, request.headers["authorization"]) for request in backend.accepted} == {
        ("/v1/traces", "Bearer a-token-of-the-gateway")
    }


@pytest.mark.parametrize("config", ["agent.yaml", "gateway.yaml"])
def test_no_request_is_larger_than_its_max_size(config: str, backend: Backend, tmp_path: Path) -> None:
    most = yaml.safe_load((CONFIGS / config).read_text())["exporters"]["otlp_http"]["sending_queue"]["batch"]
    with collector(tmp_path, config, OTEL_POSTHOG_GATEWAY=backend.url) as running:
        send(running, spans(5000))
        until(lambda: len(backend.spans) == 5000, "all spans arrive")
    assert max(len(request.spans) for request in backend.accepted) <= most["max_size"] == 2048


@pytest.mark.parametrize("config", ["agent.yaml", "gateway.yaml"])
def test_requests_rejected_for_now_are_retried(config: str, backend: Backend, tmp_path: Path) -> None:
    backend.status = 503
    with collector(tmp_path, config, OTEL_POSTHOG_GATEWAY=backend.url) as running:
        send(running, spans(10))
        until(lambda: backend.rejected >= 3, "it is retried several times")
        backend.status = 200
        until(lambda: len(backend.spans) == 10, "all spans arrive")
    assert backend.names == sorted(map(str, range(10)))


def test_a_queue_on_disk_survives_a_kill_while_the_gateway_is_down(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with collector(tmp_path, "gateway.yaml", OTEL_POSTHOG_GATEWAY=f"http://127.0.0.1:{port}") as running:
        send(running, spans(3000))
        send(running, spans(10, first=3000))
        running.kill()
        running.start()
        send(running, spans(10, first=3010))
        with Backend(port) as backend:
            until(lambda: len({span.name for span in backend.spans}) == 3020, "all spans arrive")
    assert Counter(backend.names) == Counter(map(str, range(3020)))


def test_only_genai_spans_go_to_the_gateway_and_all_to_the_other_backend(
    backend: Backend, tmp_path: Path
) -> None:
    with (
        Backend() as other,
        collector(
            tmp_path, "filter-genai.yaml", OTEL_POSTHOG_GATEWAY=backend.url, OTHER_BACKEND=other.url
        ) as running,
    ):
        send(running, [*spans(20), *spans(30, first=100, attributes=HTTP)])
        until(lambda: len(other.spans) == 50, "all spans arrive at the other backend")
        until(lambda: len(backend.spans) >= 20, "GenAI spans arrive")
    assert backend.names == sorted(map(str, range(20)))
    assert Counter(other.names) == Counter(map(str, [*range(20), *range(100, 130)]))


def test_every_attribute_that_the_gateway_reads_passes_the_filter(backend: Backend, tmp_path: Path) -> None:
    context = {name for names in CONTEXT.values() for name in names}
    wanted = sorted(MARKERS | context | {"posthog.group.team", "posthog.property.plan", "posthog.flag.new"})
    sent = [
        sdk_span({"http.request.method": "GET", name: "x"}, name=name, span_id=at, trace_id=at)
        for at, name in enumerate(wanted, 1)
    ]
    score = sdk_span(HTTP, name="score", events=((EVALUATION_EVENT, START, {}),))
    # Names, and a value, that only look like those of GenAI spans.
    others = {
        "http.ai.x": "x",
        "aiohttp.version": "1",
        "app.feature.x": "y",
        "db.statement": '"gen_ai.system"',
    }
    noise = [sdk_span({name: value}, name="noise") for name, value in others.items()]
    with (
        Backend() as other,
        collector(
            tmp_path, "filter-genai.yaml", OTEL_POSTHOG_GATEWAY=backend.url, OTHER_BACKEND=other.url
        ) as running,
    ):
        send(running, [*noise, *sent, score])
        until(lambda: len(other.spans) == len(noise) + len(sent) + 1, "all spans arrive")
        until(lambda: len(backend.spans) > len(sent), "GenAI spans arrive")
    assert backend.names == sorted([*wanted, "score"])


SENSITIVE = {
    "gen_ai.input.messages": '[{"role":"user","content":"I am ada@example.com, card 4111 1111 1111 1111"}]',
    "gen_ai.output.messages": '[{"role":"assistant","content":"IBAN DE89 3704 0044 0532 0130 00 it is"}]',
    "app.note": "Bearer abcdefghijklmnop1234567 and sk-proj-abcdefghijklmnop1234",
    "http.request.header.authorization": "anything at all",
}
SECRETS = (
    "ada@example.com",
    "4111 1111",
    "DE89 3704",
    "abcdefghijklmnop",
    "anything at all",
    "user_42",
    "Ada",
)


def test_sensitive_values_are_replaced_and_the_others_stay(backend: Backend, tmp_path: Path) -> None:
    plain = {"gen_ai.usage.input_tokens": 4111111111111111, "app.words": "no secret here"}
    users = {"user.id": "user_42", "posthog.distinct_id": "user_42", "user.name": "Ada"}
    event = (("message", START, {"content": "write to ada@example.com"}),)
    with collector(tmp_path, "redaction.yaml", OTEL_POSTHOG_GATEWAY=backend.url, USER_SALT="salt") as running:
        send(running, [sdk_span({**CHAT, **SENSITIVE, **plain, **users}, events=event)])
        until(lambda: backend.spans, "the span arrives")
    [span] = backend.spans
    attributes = attributes_of(span)
    assert not [secret for secret in SECRETS if secret in str(span)]
    assert attributes["gen_ai.input.messages"] == '[{"role":"user","content":"I am ****, card ****"}]'
    assert attributes["gen_ai.output.messages"] == '[{"role":"assistant","content":"IBAN **** it is"}]'
    assert {name: attributes[name] for name in plain} == plain
    assert attributes["user.id"] == attributes["posthog.distinct_id"]
    assert len(attributes["user.id"]) == 64
    assert "user.name" not in attributes
    assert {name: attributes[name] for name in CHAT} == CHAT


KEPT = {
    "fails": {"status": StatusCode.ERROR},
    "slow": {"end": START + 25 * SECOND},
    "writes": {"attributes": {**CHAT, "gen_ai.usage.output_tokens": 5000}},
    "reads": {"attributes": {**CHAT, "llm.token_count.prompt": 60_000}},
}


@pytest.mark.parametrize(("share", "others"), [("0", 0), ("100", 20)])
def test_traces_with_errors_or_expensive_calls_are_kept_and_a_share_of_the_others(
    share: str, others: int, backend: Backend, tmp_path: Path
) -> None:
    kept = [
        span
        for at, (name, values) in enumerate(KEPT.items(), 1000)
        for span in (
            sdk_span(name=name, span_id=at, trace_id=at, **values),  # type: ignore[arg-type]
            sdk_span(HTTP, name=f"above {name}", span_id=at + 500, trace_id=at, parent=False),
        )
    ]
    cheap = {**CHAT, "gen_ai.usage.output_tokens": 10}
    with collector(
        tmp_path,
        "tail-sampling.yaml",
        OTEL_POSTHOG_GATEWAY=backend.url,
        DECISION_WAIT="1s",
        KEEP_PERCENT=share,
    ) as running:
        send(running, [*spans(20, attributes=cheap), *kept])
        until(lambda: len(backend.spans) >= len(kept) + others, "the kept traces arrive")
        # At its shutdown it decides about all other traces.
        running.end()
    whole = sorted([*KEPT, *(f"above {name}" for name in KEPT)])
    assert backend.names == sorted([*whole, *map(str, range(others))])


def test_all_spans_of_a_trace_go_to_one_gateway_and_traces_to_both(tmp_path: Path) -> None:
    with (
        GrpcBackend() as one,
        GrpcBackend() as two,
        collector(tmp_path, "load-balancing.yaml", GATEWAY_1=one.address, GATEWAY_2=two.address) as running,
    ):
        # Three requests with one span of each trace.
        for part in range(3):
            send(running, [sdk_span(trace_id=trace, span_id=trace * 10 + part) for trace in range(1, 41)])
        until(lambda: len(one.spans) + len(two.spans) == 120, "all spans arrive")
    of_one, of_two = ({span.trace_id for span in each.spans} for each in (one, two))
    assert len(of_one) > 5
    assert len(of_two) > 5
    assert not of_one & of_two
    assert len(of_one | of_two) == 40


def test_traces_wait_for_a_gateway_that_is_down(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with (
        GrpcBackend() as one,
        collector(
            tmp_path, "load-balancing.yaml", GATEWAY_1=one.address, GATEWAY_2=f"127.0.0.1:{port}"
        ) as running,
    ):
        send(running, spans(40))
        until(lambda: one.spans, "some arrive at the gateway that runs")
        with GrpcBackend(port) as two:
            until(lambda: len({span.trace_id for span in one.spans + two.spans}) == 40, "all arrive")


def test_posthogs_own_endpoint_never_receives_more_than_100_spans(backend: Backend, tmp_path: Path) -> None:
    with collector(
        tmp_path, "posthog-direct.yaml", POSTHOG_HOST=backend.url, POSTHOG_API_KEY="phc_direct"
    ) as running:
        send(running, spans(1234))
        send(running, spans(30, first=1234))
        until(lambda: len(backend.spans) == 1264, "all spans arrive")
    assert max(len(request.spans) for request in backend.accepted) == 100
    assert {(request.path, request.headers["authorization"]) for request in backend.accepted} == {
        ("/i/v0/ai/otel", "Bearer phc_direct")
    }


def test_every_file_is_tested_here_or_with_kafka() -> None:
    here = Path(__file__).parent
    tests = "".join(file.read_text() for file in here.glob("test_*.py"))
    files = [each.name for each in CONFIGS.glob("*.yaml")]
    assert files
    assert [name for name in files if f'"{name}"' not in tests] == []
