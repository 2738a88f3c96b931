"""The metrics of one worker and of several, in the text format of Prometheus."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path

import grpc
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from otel_posthog.gateway.grpc_service import EXPORT
from otel_posthog.gateway.worker_peers import WorkerPeers, merged
from tests.delivery.capture_server import Answer, CaptureServer
from tests.gateway.conftest import KEY, GatewayProcess, StartGateway, some_spans
from tests.support.spans import otlp_request, sdk_span
from tests.support.waiting import until

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
ONLY = ("worker", "0")
TOKEN = "a-token-of-a-test-0123456789"
PROTOBUF = {"Content-Type": "application/x-protobuf"}


def samples_in(text: str) -> Samples:
    """Return the values by name and labels, without the labels of OpenTelemetry's scope."""
    samples: Samples = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {
                name: value for name, value in sample.labels.items() if not name.startswith("otel_scope")
            }
            key = tuple(sorted((name, value) for name, value in labels.items() if value))
            assert key not in samples[sample.name], (sample.name, key)
            samples[sample.name][key] = sample.value
    return samples


def scrape(gateway: GatewayProcess) -> Samples:
    """Scrape on a new connection, and return the values."""
    answer = requests.get(f"{gateway.url}/metrics", timeout=30)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert KEY not in answer.text
    return samples_in(answer.text)


def send(gateway: GatewayProcess, body: bytes) -> int:
    """Send spans on a new connection, and return the status."""
    return requests.post(f"{gateway.url}/v1/traces", body, headers=PROTOBUF, timeout=30).status_code


def test_a_scrape_counts_requests_spans_and_spool_entries(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path
) -> None:
    gateway = start_gateway("--grpc-port", "0", spool_dir=str(tmp_path / "spool"))
    spans = some_spans(3)
    spans.MergeFrom(otlp_request(sdk_span({"http.route": "/"}, span_id=9), sdk_span(span_id=0)))
    assert send(gateway, spans.SerializeToString()) == 200
    assert send(gateway, b"no protobuf") == 400
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        channel.unary_unary(EXPORT)(some_spans(2, first=4).SerializeToString(), timeout=30)
    posthog.faults.append(Answer(401))
    assert send(gateway, some_spans(1, first=6).SerializeToString()) == 200  # into the spool
    assert len(posthog.events) == 5
    samples = scrape(gateway)
    assert samples["otel_posthog_gateway_requests_total"] == {
        (("protocol", "http"), ("status", "200"), ONLY): 2,
        (("protocol", "http"), ("status", "400"), ONLY): 1,
        (("protocol", "grpc"), ("status", "OK"), ONLY): 1,
    }
    assert samples["otel_posthog_gateway_spans_total"] == {
        (("outcome", "accepted"), ONLY): 6,
        (("outcome", "handed_back"), ONLY): 0,
        (("outcome", "ignored"), ONLY): 1,
        (("outcome", "rejected"), ONLY): 1,
    }
    parts = samples["otel_posthog_gateway_request_duration_seconds_count"]
    assert parts == {(("part", part), ONLY): 3 for part in ("decode", "convert", "deliver")}
    assert samples["otel_posthog_gateway_in_flight_bytes"] == {(ONLY,): 0}
    assert samples["otel_posthog_gateway_in_flight_limit_bytes"] == {(ONLY,): 128 << 20}
    assert samples["otel_posthog_gateway_connections"] == {(("protocol", "http"), ONLY): 1}
    assert samples["otel_posthog_gateway_halted"] == {(ONLY,): 1}
    assert samples["otel_posthog_gateway_spool_entries"] == {(): 1}
    assert samples["otel_posthog_gateway_spool_size_bytes"][()] > 100
    assert samples["otel_posthog_gateway_spool_oldest_seconds"][()] >= 0
    assert samples["otel_posthog_gateway_spool_dead_letters"] == {(): 0}
    assert samples["otel_posthog_gateway_spool_full"] == {(): 0}
    exporter = (
        ("otel_component_name", "posthog_span_exporter/0"),
        ("otel_component_type", "posthog_span_exporter"),
        ONLY,
    )
    assert samples["otel_sdk_exporter_span_exported_total"] == {exporter: 5}
    assert samples["process_resident_memory_bytes"][ONLY,] > 1 << 20


def test_one_scrape_shows_all_workers(start_gateway: StartGateway) -> None:
    gateway = start_gateway("--workers", "3")
    sent = 0

    def every_worker_had_a_request() -> bool:
        nonlocal sent
        for _ in range(10):
            assert send(gateway, some_spans(2, first=2 * sent + 1).SerializeToString()) == 200
            sent += 1
        return len(scrape(gateway)["otel_posthog_gateway_requests_total"]) == 3

    until(every_worker_had_a_request, "each worker got a request")
    samples = scrape(gateway)
    answered = (("protocol", "http"), ("status", "200"))
    by_worker = samples["otel_posthog_gateway_requests_total"]
    assert by_worker.keys() == {(*answered, ("worker", number)) for number in "012"}
    assert sum(by_worker.values()) == sent
    assert sum(samples["otel_posthog_gateway_spans_total"].values()) == 2 * sent
    assert {labels[-1] for labels in samples["process_resident_memory_bytes"]} == {
        ("worker", number) for number in "012"
    }
    assert gateway.end() == 0


def test_before_the_first_span_every_outcome_is_at_0(start_gateway: StartGateway) -> None:
    outcomes = ("accepted", "handed_back", "ignored", "rejected")
    counts = scrape(start_gateway())["otel_posthog_gateway_spans_total"]
    assert counts == {(("outcome", outcome), ONLY): 0 for outcome in outcomes}


def test_metrics_require_the_token(start_gateway: StartGateway) -> None:
    gateway = start_gateway(environ={"OTEL_POSTHOG_GATEWAY_TOKEN": TOKEN})
    url = f"{gateway.url}/metrics"
    assert requests.get(url, timeout=30).status_code == 401
    assert requests.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30).status_code == 200
    assert TOKEN not in gateway.text()


def test_metrics_of_several_projects_name_them(start_gateway: StartGateway, tmp_path: Path) -> None:
    file = tmp_path / "projects.toml"
    file.write_text('header = "x-project"\n[keys]\nacme = "phc_acme"\nbeta = "phc_beta"\n')
    gateway = start_gateway("--projects", str(file), spool_dir=str(tmp_path / "spool"))
    samples = scrape(gateway)
    names = ("acme", "beta")
    of_each = {(("posthog_project", name),): 0 for name in names}
    assert samples["otel_posthog_gateway_halted"] == {(("posthog_project", name), ONLY): 0 for name in names}
    assert samples["otel_posthog_gateway_spool_entries"] == of_each
    exported = samples["otel_sdk_exporter_span_exported_total"]
    assert {dict(labels)["posthog_project"] for labels in exported} == {*names}


# --- texts ---

ONE = """\
# HELP a_total What a is
# TYPE a_total counter
a_total{x="{} 1"} 1.0
a_total 2.0
# HELP all_size Of all
# TYPE all_size gauge
all_size 3.0
"""
OTHER = """\
# HELP a_total What a is
# TYPE a_total counter
a_total 5.0
# HELP b Only here
# TYPE b gauge
b{x="y"} 1e+06
"""


def test_series_of_several_workers_are_grouped_by_family() -> None:
    assert (
        merged({"0": ONE, "1": OTHER}, ["all_"])
        == """\
# HELP a_total What a is
# TYPE a_total counter
a_total{worker="0",x="{} 1"} 1.0
a_total{worker="0"} 2.0
a_total{worker="1"} 5.0
# HELP all_size Of all
# TYPE all_size gauge
all_size 3.0
# HELP b Only here
# TYPE b gauge
b{worker="1",x="y"} 1e+06
"""
    )


def test_workers_find_each_other_and_a_free_number_is_used_again(tmp_path: Path) -> None:
    peers = [WorkerPeers(tmp_path, f"text {number}".__str__) for number in range(3)]
    assert [each.number for each in peers] == [0, 1, 2]
    assert peers[1].others() == {"0": "text 0", "2": "text 2"}
    peers[0].close()
    assert peers[1].others() == {"2": "text 2"}
    (tmp_path / "0.socket").touch()  # left by a worker that was killed
    assert peers[1].others() == {"2": "text 2"}
    peers[0] = WorkerPeers(tmp_path, lambda: "another")
    assert peers[0].number == 0
    assert peers[1].others() == {"0": "another", "2": "text 2"}
    for each in peers:
        each.close()


def test_a_worker_that_hangs_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_posthog.gateway.worker_peers.SECONDS", 0.2)
    over = threading.Event()

    def hang() -> str:
        over.wait(20)
        return ""

    peers = [
        WorkerPeers(tmp_path, lambda: "well"),
        WorkerPeers(tmp_path, hang),
        WorkerPeers(tmp_path, lambda: "well"),
    ]
    began = time.monotonic()
    assert peers[0].others().get("2", "well") == "well"
    assert time.monotonic() - began < 5
    over.set()
    for each in peers:
        each.close()
