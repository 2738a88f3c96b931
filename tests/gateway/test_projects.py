"""Several PostHog projects behind one gateway: the file, the choice of a project, the common answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_posthog.delivery import destination_of
from otel_posthog.delivery.spool.admin import rows
from otel_posthog.forwarder import Forwarder, forwarder
from otel_posthog.gateway.app import Gateway
from otel_posthog.gateway.grpc_service import EXPORT
from otel_posthog.gateway.ingest import ProjectIngest
from otel_posthog.gateway.project_file import ProjectTable, read_projects
from otel_posthog.gateway.projects import Projects
from otel_posthog.gateway.request_handler import RequestHandler
from tests.delivery.capture_server import Answer, CaptureServer, capture_server
from tests.gateway.conftest import StartGateway, run_gateway
from tests.gateway.support import Client
from tests.support.spans import CHAT, PARENT_ID, otlp_request, sdk_span

ACME, BETA = "phc_key_of_acme_nobody_may_read", "phc_key_of_beta_nobody_may_read"
HEADER, ATTRIBUTE = "x-posthog-project", "posthog.project"
FILE = f"""
header = "X-PostHog-Project"
resource_attribute = "{ATTRIBUTE}"

[keys]
acme = "{ACME}"
beta = "{BETA}"
"""


def test_the_file_names_the_projects_and_their_keys() -> None:
    table = read_projects(FILE)
    assert table == ProjectTable(
        keys={"acme": ACME, "beta": BETA}, header=HEADER, resource_attribute=ATTRIBUTE, default=None
    )
    assert "phc_" not in repr(table)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("header = 'x'\n[keys\n", "line 2"),
        ("head = 'x'\n", "line 1: 'head' is not known; known are: header, resource_attribute, default, keys"),
        ("\nheader = 5\n", "line 2: header must be a string that is not empty"),
        ("header = ''\n", "line 1: header must be a string that is not empty"),
        ("header = 'x y'\n", "line 1: header must be a header's name: letters, digits and hyphens"),
        ("header = 'grpc-x'\n", "line 1: header must be a header's name"),
        ("header = 'x-bin'\n", "line 1: header must be a header's name"),
        ("[keys]\na = 'phc_1'\n", "set header, resource_attribute or both: how a request names its project"),
        ("header = 'x'\n", "a table [keys] with at least one project is required"),
        ("header = 'x'\n[keys]\n", "line 2: a table [keys] with at least one project is required"),
        ("header = 'x'\nkeys = 'phc_1'\n", "line 2: a table [keys] with at least one project"),
        ("header = 'x'\n[keys]\n\na = 'phc_1'\nb = 'phc 2'\n", "line 5: project 'b': a project key such as"),
        (
            "header = 'x'\n[keys]\na = ' phx_1'\n",
            "line 3: project 'a': the key is a personal one (phx_...): set it to the project's, phc_...",
        ),
        ("header = 'x'\n[keys]\na = 7\n", "line 3: project 'a': a project key such as"),
        ("header = 'x'\n[keys]\nphc_1 = 'a'\n", "line 3: a project has its name first and then its key"),
        ("header = 'x'\ndefault = 'phc_1'\n[keys]\na = 'phc_1'\n", "line 2: default must be the name of a"),
    ],
)
def test_an_error_in_the_file_names_its_line_and_shows_no_key(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        read_projects(text)
    assert "phc_1" not in str(error.value)
    assert "phx_1" not in str(error.value)
    assert "phc 2" not in str(error.value)


class Gate(NamedTuple):
    client: Client
    posthog: CaptureServer
    forwarders: Mapping[str, Forwarder]


@contextmanager
def gate(
    *,
    header: str | None = HEADER,
    attribute: str | None = ATTRIBUTE,
    default: str | None = None,
    **options: Any,
) -> Iterator[Gate]:
    """Yield an application for two projects."""
    with capture_server() as posthog, ThreadPoolExecutor(4) as executor:
        forwarders = {
            name: forwarder(
                {
                    "api_key": key,
                    "endpoint": posthog.url,
                    "events": "ai",
                    "max_retry_seconds": 0.5,
                    **options,
                },
                environ={},
                spool_drops_oldest=False,
            )
            for name, key in (("acme", ACME), ("beta", BETA))
        }
        ingest_by_name = {name: ProjectIngest(each) for name, each in forwarders.items()}
        projects = Projects(ingest_by_name, header=header, resource_attribute=attribute, default=default)
        try:
            yield Gate(Client(Gateway(RequestHandler(projects), executor)), posthog, forwarders)
        finally:
            for each in forwarders.values():
                each.close(1)


def request_for(*names: str | None) -> ExportTraceServiceRequest:
    """Return a request with a chat for each of the projects, with span ids from 1 on."""
    return otlp_request(
        *(
            sdk_span(CHAT, span_id=number, resource={} if name is None else {ATTRIBUTE: name})
            for number, name in enumerate(names, 1)
        )
    )


def arrived(posthog: CaptureServer) -> dict[str, list[int]]:
    """Return the span ids by the name of the project whose key they came with."""
    names = {ACME: "acme", BETA: "beta"}
    span_ids: dict[str, list[int]] = {}
    for request in posthog.requests:
        ids = [int(event["properties"]["$ai_span_id"], 16) for event in request.body["batch"]]
        span_ids.setdefault(names[request.body["api_key"]], []).extend(ids)
    return {name: sorted(ids) for name, ids in span_ids.items()}


@pytest.mark.parametrize(
    ("arguments", "headers", "names", "status", "expected"),
    [
        ({}, {HEADER: "beta"}, ("acme", None), 200, {"beta": [1, 2]}),
        ({}, {HEADER: "gamma"}, ("acme",), 400, {}),
        ({}, {HEADER: ""}, ("acme",), 200, {"acme": [1]}),
        ({}, {}, ("acme", "beta", "acme"), 200, {"acme": [1, 3], "beta": [2]}),
        ({"default": "acme"}, {}, ("gamma", "beta", None, ""), 200, {"acme": [3, 4], "beta": [2]}),
        ({"default": "acme"}, {HEADER: "gamma"}, ("beta",), 400, {}),
        ({"default": "acme", "attribute": None}, {HEADER: "gamma"}, ("beta",), 400, {}),
        ({"attribute": None}, {}, ("beta",), 400, {}),
        ({"attribute": None, "default": "acme"}, {}, ("beta",), 200, {"acme": [1]}),
        ({"header": None}, {HEADER: "beta"}, ("acme",), 200, {"acme": [1]}),
    ],
)
def test_a_header_or_else_the_resource_chooses_the_project(
    arguments: dict[str, Any],
    headers: dict[str, str],
    names: tuple[str | None, ...],
    status: int,
    expected: dict[str, list[int]],
) -> None:
    with gate(**arguments) as (client, posthog, _):
        answer = client.post(request_for(*names).SerializeToString(), **headers)
        assert answer.status == status
        assert arrived(posthog) == expected


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (None, "must name a project of this gateway"),
        ("gamma", "names 'gamma', which is no project of this gateway"),
        ("a\tb", r"names 'a\tb', which is no project of this gateway"),
        ("g" * 61, f"names '{'g' * 60}...', which is no project of this gateway"),
        (ACME, "must have the name of a project, not a key"),
    ],
)
def test_the_answer_names_the_unknown_project(named: str | None, sentence: str) -> None:
    with gate(attribute=None) as (client, _, _):
        answer = client.post(
            request_for("acme").SerializeToString(), **({} if named is None else {HEADER: named})
        )
    assert answer.status == 400
    assert answer.body.endswith(f"the header {HEADER} {sentence}".encode())
    with gate() as (client, posthog, _):
        answer = client.post(request_for("acme", named, named).SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert (answer.status, partial.rejected_spans) == (200, 2)
        assert partial.error_message == f"the resource attribute {ATTRIBUTE} {sentence}"
        assert arrived(posthog) == {"acme": [1]}


def test_a_number_names_no_project() -> None:
    request = otlp_request(sdk_span(CHAT, resource={ATTRIBUTE: 7}))
    with gate(default="acme") as (client, posthog, _):
        answer = client.post(request.SerializeToString())
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert (partial.rejected_spans, posthog.requests) == (1, [])


def test_nothing_is_inherited_from_a_span_of_an_unknown_project() -> None:
    route = sdk_span({"user.id": "user_42"}, parent=False, span_id=PARENT_ID, resource={ATTRIBUTE: "gamma"})
    request = request_for("acme")
    request.MergeFrom(otlp_request(route))
    with gate(default="acme") as (client, posthog, _):
        assert client.post(request.SerializeToString()).status == 200
        assert "user_42" not in str(posthog.events)
        assert arrived(posthog) == {"acme": [1]}


def test_all_projects_inherit_the_user_of_a_span_without_a_project() -> None:
    route = sdk_span({"user.id": "user_42"}, name="GET /", parent=False, span_id=PARENT_ID)
    request = request_for("acme", "beta")
    request.MergeFrom(otlp_request(route))
    with gate() as (client, posthog, _):
        assert client.post(request.SerializeToString()).status == 200
        assert {event["distinct_id"] for event in posthog.events} == {"user_42"}
        assert arrived(posthog) == {"acme": [1], "beta": [2]}


def test_nothing_is_inherited_from_a_span_of_another_project() -> None:
    route = sdk_span(
        {"user.id": "user_of_acme"}, parent=False, span_id=PARENT_ID, resource={ATTRIBUTE: "acme"}
    )
    request = request_for("acme", "beta")
    request.MergeFrom(otlp_request(route))
    with gate() as (client, posthog, _):
        assert client.post(request.SerializeToString()).status == 200
        [acme, beta] = [request.body for request in posthog.requests]
    if acme["api_key"] == BETA:
        acme, beta = beta, acme
    assert acme["batch"][0]["distinct_id"] == "user_of_acme"
    assert "user_of_acme" not in str(beta)


def test_a_request_succeeds_only_if_all_projects_delivered() -> None:
    with gate() as (client, posthog, _):
        posthog.faults.extend([Answer(503)] * 99)
        both = request_for("acme", "beta").SerializeToString()
        assert client.post(both).status == 503
        assert arrived(posthog).keys() == {
            "acme"
        }  # those of beta are not sent: the sender retries the whole request
        posthog.faults.clear()
        assert client.post(request_for("beta").SerializeToString()).status == 200
        # acme pauses: nothing is sent that the sender has to retry
        sent = len(posthog.requests)
        assert client.post(request_for("beta", "acme").SerializeToString()).status == 503
        assert len(posthog.requests) == sent


def test_with_a_spool_a_halted_project_blocks_no_other(tmp_path: Path) -> None:
    with gate(spool_dir=tmp_path) as (client, posthog, forwarders):
        posthog.faults.append(Answer(401))
        assert client.post(request_for("acme", "beta").SerializeToString()).status == 200
        assert arrived(posthog)["beta"] == [2]
        waiting = {name: each.stats()["spool"]["entries"] for name, each in forwarders.items()}
        assert waiting == {"acme": 1, "beta": 0}


def test_the_gateway_is_ready_while_one_project_delivers() -> None:
    with gate() as (client, posthog, _):
        posthog.faults.append(Answer(401))
        answer = client.post(request_for("acme").SerializeToString())
        assert answer.status == 503
        assert b"project acme: PostHog accepts no events (status_401): check the project API" in answer.body
        problem = b"project acme: PostHog rejects the project key or the account: see the log"
        answer = client.send("GET", "/readyz")
        assert (answer.status, answer.body) == (200, b"ready; " + problem + b"\n")
        posthog.faults.append(Answer(401))
        assert client.post(request_for("beta").SerializeToString()).status == 503
        answer = client.send("GET", "/readyz")
        assert (answer.status, answer.body) == (
            503,
            problem + b"; " + problem.replace(b"acme", b"beta") + b"\n",
        )


# --- processes ---


def test_both_protocols_serve_several_projects(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path
) -> None:
    file = tmp_path / "projects.toml"
    file.write_text(FILE)
    gateway = start_gateway("--grpc-port", "0", "--projects", str(file), key="")
    body = request_for("acme", "beta").SerializeToString()
    answer = requests.post(
        f"{gateway.url}/v1/traces",
        body,
        headers={"Content-Type": "application/x-protobuf", "X-PostHog-Project": "beta"},
        timeout=30,
    )
    assert answer.status_code == 200
    assert arrived(posthog) == {"beta": [1, 2]}
    with grpc.insecure_channel(gateway.grpc_target) as channel:
        call = channel.unary_unary(EXPORT)
        assert call(body, metadata=((HEADER, "acme"),), timeout=30) == b""
        assert call(body, timeout=30) == b""
        error = call.future(body, metadata=((HEADER, "gamma"),)).exception(timeout=30)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.details() == f"the header {HEADER} names 'gamma', which is no project of this gateway"
    assert arrived(posthog) == {"acme": [1, 1, 2], "beta": [1, 2, 2]}
    assert gateway.end() == 0
    assert "phc_" not in gateway.text()


def test_the_log_names_the_rejected_project_and_its_name_in_the_spool(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path
) -> None:
    file, spool = tmp_path / "projects.toml", tmp_path / "spool"
    file.write_text(FILE)
    gateway = start_gateway("--workers", "2", "--projects", str(file), key="", spool_dir=str(spool))
    posthog.faults.append(Answer(401))
    headers = {"Content-Type": "application/x-protobuf", HEADER: "beta"}
    body = request_for(None).SerializeToString()
    assert requests.post(f"{gateway.url}/v1/traces", body, headers=headers, timeout=30).status_code == 200
    [line] = gateway.wait_for_line("takes no events (status_401)")
    assert line["message"].startswith("PostHog at 127.0.0.1 (project beta) takes")
    messages = [each["message"] for each in gateway.lines()]
    [waiting] = rows(spool)
    assert [message for message in messages if message.endswith(" in the spool")] == [
        f"project acme is {destination_of(ACME)} in the spool",
        f"project beta is {waiting.destination} in the spool",
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "No such file or directory"),
        (b"\xff", "the file is not UTF-8 text"),
        (
            b"header = 'x'\n[keys]\nacme = ''\n",
            "line 3: project 'acme': a project key such as phc_... is expected",
        ),
    ],
)
def test_an_invalid_file_ends_the_start_with_one_sentence(
    tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "projects.toml"
    if content is not None:
        file.write_bytes(content)
    done = run_gateway("--port", "0", "--projects", str(file))
    assert (done.returncode, done.stderr) == (
        1,
        f"otel-posthog gateway: --projects: projects.toml: {sentence}\n",
    )
