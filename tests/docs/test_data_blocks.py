"""Every block of data in the pages is used as what it is: an event, a configuration, a table, a query."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.gateway.project_file import read_projects
from otel_posthog.local import Inbox
from tests.collector.conftest import _real_collector  # noqa: F401 - the fixture
from tests.docs.blocks import Block, blocks
from tests.docs.running import SECONDS, environment
from tests.support.collector import Backend, collector, send
from tests.support.spans import sdk_span
from tests.support.waiting import until

DATA = blocks("json", "yaml", "toml", "sql")
MEASURED = {"$ai_latency"}


def used_as(use: str) -> list[Block]:
    return [block for block in DATA if use in block.expected]


@pytest.mark.parametrize("block", DATA, ids=lambda block: block.place)
def test_a_block_of_data_names_its_use(block: Block) -> None:
    assert len(block.expected) == 1
    assert block.expected.keys() <= {"collector", "event", "exporter", "file", "projects", "query"}


@pytest.mark.parametrize("block", used_as("event"), ids=lambda block: block.place)
def test_an_event_is_one_that_the_program_beside_it_sends(
    block: Block, providers: FakeProviders, tmp_path: Path
) -> None:
    [program] = [
        each.text for each in blocks(page=block.page) if each.expected.get("file") == block.expected["event"]
    ]
    (tmp_path / "app.py").write_text(program)
    shown = json.loads(block.text)
    with Inbox() as inbox:
        subprocess.run(
            ["opentelemetry-instrument", "python", "app.py"],
            cwd=tmp_path,
            env=environment(inbox, providers) | {"OTEL_TRACES_EXPORTER": "posthog"},
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
        [event] = inbox.events(shown["event"])
    properties = event["properties"]
    assert event["distinct_id"] == shown["distinct_id"]
    assert shown["properties"].keys() <= properties.keys()
    for name in shown["properties"].keys() - MEASURED:
        assert shown["properties"][name] == properties[name], name
    for name in shown["properties"].keys() & MEASURED:
        assert type(shown["properties"][name]) is type(properties[name])


@pytest.mark.parametrize("block", used_as("collector"), ids=lambda block: block.place)
def test_a_collector_sends_to_where_the_gateway_beside_it_listens(block: Block) -> None:
    endpoint = yaml.safe_load(block.text)["exporters"]["otlp_http/posthog"]["endpoint"]
    [start] = [
        each.text for each in blocks("bash", page=block.page) if each.expected.get("serves") == "gateway"
    ]
    port = re.search(r"--port (\d+)", start)
    assert port is not None
    assert endpoint == f"http://127.0.0.1:{port[1]}"


@pytest.mark.usefixtures("_real_collector")
@pytest.mark.parametrize("block", used_as("collector"), ids=lambda block: block.place)
def test_a_real_collector_runs_with_it(block: Block, tmp_path: Path) -> None:
    configuration = yaml.safe_load(block.text)
    # Ports that nobody else has; the environment of `collector` names them.
    configuration["receivers"]["otlp"]["protocols"] = {
        "http": {"endpoint": "${env:COLLECTOR_HTTP}"},
        "grpc": {"endpoint": "${env:COLLECTOR_GRPC}"},
    }
    prometheus = {"host": "127.0.0.1", "port": "${env:COLLECTOR_METRICS_PORT}"}
    configuration["service"]["telemetry"] = {
        "metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}
    }
    file = tmp_path / "collector.yaml"
    with Backend() as backend:
        configuration["exporters"]["otlp_http/posthog"]["endpoint"] = backend.url
        file.write_text(yaml.safe_dump(configuration))
        with collector(tmp_path, str(file)) as running:
            send(running, [sdk_span()])
            until(lambda: len(backend.spans) == 1, "the span arrives")


@pytest.mark.parametrize("block", used_as("exporter"), ids=lambda block: block.place)
def test_an_exporter_sends_the_token_that_the_gateway_reads(block: Block) -> None:
    [exporter] = yaml.safe_load(block.text)["exporters"].values()
    assert exporter["headers"]["authorization"] == "Bearer ${env:OTEL_POSTHOG_GATEWAY_TOKEN}"
    assert exporter["endpoint"].startswith("https://")
    assert exporter["tls"].keys() == {"ca_file"}


@pytest.mark.parametrize("block", used_as("projects"), ids=lambda block: block.place)
def test_a_table_of_projects_is_one_to_the_gateway(block: Block) -> None:
    table = read_projects(block.text)
    assert sorted(table.keys) == block.expected["projects"]
    assert table.default == "main"


def _property(properties: str, name: str) -> Any:
    return json.loads(properties).get(name)


@pytest.mark.parametrize("block", used_as("query"), ids=lambda block: block.place)
def test_a_query_restores_sums_of_sampled_events(block: Block) -> None:
    """PostHog's SQL is near enough to SQLite's once its functions are there and properties are looked up."""
    events = [
        ("$ai_generation", {"feature": "tldr", "$ai_total_cost_usd": 0.5, "$sample_rate": 0.1}),
        ("$ai_generation", {"feature": "tldr", "$ai_total_cost_usd": 2.0, "$sample_rate": 1.0}),
        ("$ai_generation", {"feature": "meme", "$ai_total_cost_usd": 0.25}),
        ("$ai_span", {"feature": "meme", "$ai_total_cost_usd": 9.0}),
    ]
    database = sqlite3.connect(":memory:")
    database.create_function("property", 2, _property)
    database.create_function("toFloat", 1, lambda value: None if value is None else float(value))
    database.execute("CREATE TABLE events (event, properties)")
    database.executemany(
        "INSERT INTO events VALUES (?, ?)", [(name, json.dumps(properties)) for name, properties in events]
    )
    query = re.sub(r"properties\.([$\w]+)", r"property(properties, '\1')", block.text)
    rows = {feature: (calls, dollars) for feature, calls, dollars in database.execute(query)}
    database.close()
    assert rows == {"tldr": (11.0, 7.0), "meme": (1.0, 0.25)}
