"""Every block of a shell in the pages runs on loopback, and what it promises comes of it."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from posthog import Posthog

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox
from tests.docs.blocks import README, Block, blocks, project
from tests.docs.programs import PROGRAMS
from tests.docs.running import SECONDS, check_events, check_output, environment
from tests.gateway.kafka.conftest import kafka  # noqa: F401 - the fixture
from tests.gateway.kafka.topics import protobuf, write
from tests.support.kafka_broker import Broker
from tests.support.paths import ROOT
from tests.support.spans import otlp_request, sdk_span
from tests.support.waiting import until

SHELL = blocks("bash")
FOR_PEOPLE = ("make ", "pip install ")
"""Commands that are checked and not run: a test runs no tests, and changes no environment."""
RUN = [block for block in SHELL if "serves" not in block.expected and not block.text.startswith(FOR_PEOPLE)]


def serving(server: str) -> list[Block]:
    return [block for block in SHELL if block.expected.get("serves") == server]


@contextmanager
def started(block: Block, variables: dict[str, str], place: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a block that starts a server, on a free port; SIGTERM must end it well."""
    text = block.text.replace("/var/lib/otel-posthog", str(place)).replace("--port 14318", "--port 0")
    command, _, last = text.rstrip().rpartition("\n")
    last = last if last.startswith("exec ") else f"exec env {last}"
    with subprocess.Popen(
        ["bash", "-euc", f"{command}\n{last}"],
        cwd=place,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_a_shell_block_runs_and_does_what_it_promises(
    block: Block, providers: FakeProviders, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(PROGRAMS[block.expected.get("app", "call")])
    for other in blocks(page=block.page):
        if "file" in other.expected:
            (tmp_path / other.expected["file"]).write_text(other.text)
    with Inbox() as inbox:
        done = subprocess.run(
            ["bash", "-euc", block.text],
            cwd=tmp_path,
            env=environment(inbox, providers) | block.expected.get("environment", {}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        check_output(block, done)
        check_events(block, inbox)


@pytest.mark.parametrize("block", serving("gateway"), ids=lambda block: block.place)
def test_a_gateway_starts_as_written_and_forwards_a_span(block: Block, tmp_path: Path) -> None:
    with Inbox() as inbox:
        with started(block, environment(inbox), tmp_path) as gateway:
            assert gateway.stdout is not None
            port = int(gateway.stdout.readline().rstrip(".\n").rpartition(" ")[2])
            answer = requests.post(
                f"http://127.0.0.1:{port}/v1/traces",
                otlp_request(sdk_span()).SerializeToString(),
                headers={"Content-Type": "application/x-protobuf"},
                timeout=SECONDS,
            )
        assert answer.status_code == 200
        assert len(inbox.events("$ai_generation")) == 1


@pytest.mark.parametrize("block", serving("local"), ids=lambda block: block.place)
def test_the_inbox_starts_as_written_and_prints_an_event(block: Block, tmp_path: Path) -> None:
    free = block._replace(text=block.text.replace("otel-posthog local", "otel-posthog local --port 0"))
    with Inbox() as unused, started(free, environment(unused), tmp_path) as local:
        assert local.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", local.stdout.readline())
        assert url is not None
        Posthog("phc_test", host=url[0], sync_mode=True).capture("signed_up", distinct_id="user_42")
        assert until(lambda: re.search("signed_up.*user_42", local.stdout.readline()), "the event is printed")  # type: ignore[union-attr]


@pytest.mark.parametrize("block", serving("consume"), ids=lambda block: block.place)
def test_a_consumer_starts_as_written_and_forwards_a_message(
    block: Block,
    kafka: Broker,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    kafka.topic(1, "otlp_spans")
    write(kafka, "otlp_spans", [protobuf(0)])
    here = block._replace(text=block.text.replace("kafka:9092", kafka.address))
    with Inbox() as inbox, started(here, environment(inbox), tmp_path):
        until(lambda: len(inbox.events("$ai_generation")) == 5, "all spans of the message arrive")


@pytest.mark.parametrize(
    "line", sorted({line for block in SHELL for line in block.text.splitlines() if line.startswith("make ")})
)
def test_a_make_target_is_there(line: str) -> None:
    # Running them is CI's first step.
    done = subprocess.run(
        ["bash", "-c", f"{line} --dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_two_commands_come_first_in_the_readme() -> None:
    assert blocks("bash", page=README)[0].text == "make demo\nmake test\n"


def test_an_install_command_names_extras_that_exist() -> None:
    extras = project()["optional-dependencies"]
    commands = [
        line for block in SHELL for line in block.text.splitlines() if line.startswith("pip install ")
    ]
    assert commands
    for command in commands:
        match = re.fullmatch(r"pip install '\.\[([a-z,]+)\]'", command)
        assert match is not None, command
        assert set(match[1].split(",")) <= set(extras)
