"""Every block of the README runs, and its table is what the code says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from otel_posthog.demo.fake_providers.server import FakeProviders
from otel_posthog.local import Inbox
from tests.support.readme import README, blocks, with_options_table
from tests.support.spans import otlp_request, sdk_span

PYTHON, BASH = blocks("python"), blocks("bash")
ROOT = README.parent


@pytest.fixture
def fake_providers() -> Iterator[FakeProviders]:
    with FakeProviders(latency=0) as found:
        yield found


def environment(inbox: Inbox, fake_providers: FakeProviders) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "POSTHOG_API_KEY": "phc_test",
        "POSTHOG_HOST": inbox.url,
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": fake_providers.openai_base_url,
        "GEMINI_API_KEY": "x",
        "GOOGLE_GEMINI_BASE_URL": fake_providers.gemini_base_url,
    }


def test_the_options_table_is_that_of_the_code() -> None:
    text = README.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        README.write_text(with_options_table(text), encoding="utf-8")
    assert README.read_text(encoding="utf-8") == with_options_table(text)


@pytest.mark.parametrize("number", range(len(PYTHON)))
def test_a_python_block_runs(number: int, fake_providers: FakeProviders) -> None:
    with Inbox() as inbox:
        done = subprocess.run(
            [sys.executable, "-c", PYTHON[number]],
            env=environment(inbox, fake_providers),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if "configure()" in PYTHON[number]:
            [generation] = inbox.events("$ai_generation")
            assert generation["properties"]["feature"] == "translation"
        if "capture_metric(" in PYTHON[number]:
            assert {event["event"] for event in inbox.events()} == {"$ai_metric", "$ai_feedback"}


def test_the_gateway_takes_spans_as_the_readme_starts_it(tmp_path: Path) -> None:
    [line] = [block for block in BASH if "otel-posthog gateway" in block]
    for written, here in (
        ("/var/lib/otel-posthog", str(tmp_path)),
        ("phc_...", "phc_test"),
        (" --port 14318", " --port 0"),
    ):
        assert written in line
        line = line.replace(written, here)
    with Inbox() as inbox:
        bin_first = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "POSTHOG_HOST": inbox.url}
        with subprocess.Popen(
            ["bash", "-euc", f"exec env {line}"], env=bin_first, stdout=subprocess.PIPE, text=True
        ) as gateway:
            assert gateway.stdout is not None
            port = int(gateway.stdout.readline().rstrip(".\n").rpartition(" ")[2])
            answer = requests.post(
                f"http://127.0.0.1:{port}/v1/traces",
                otlp_request(sdk_span()).SerializeToString(),
                headers={"Content-Type": "application/x-protobuf"},
                timeout=30,
            )
            gateway.terminate()
            assert gateway.wait(30) == 0
        assert answer.status_code == 200
        assert len(inbox.events("$ai_generation")) == 1


def test_the_one_line_runs_with_the_block_below_it(tmp_path: Path, fake_providers: FakeProviders) -> None:
    [line] = [block for block in BASH if block.startswith("OTEL_TRACES_EXPORTER")]
    (tmp_path / "app.py").write_text(PYTHON[0])
    with Inbox() as inbox:
        done = subprocess.run(
            ["bash", "-euc", line],
            env=environment(inbox, fake_providers),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {event["properties"]["feature"] for event in inbox.events()} == {"smart_reply"}
        assert len(inbox.events()) == 3


def test_what_a_killed_process_made_is_listed_by_the_block_about_it(
    tmp_path: Path, fake_providers: FakeProviders
) -> None:
    [block] = [block for block in BASH if "replay list" in block]
    (tmp_path / "app.py").write_text(
        PYTHON[0].replace("print(", "import os; os.kill(os.getpid(), 9); print(")
    )
    told = {"POSTHOG_HOST": "http://127.0.0.1:9"}
    with Inbox() as inbox:
        done = subprocess.run(
            ["bash", "-uc", block],
            env=environment(inbox, fake_providers) | told,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    requested, span, last = done.stdout.splitlines()
    assert "llm_completion_requested" in requested
    assert " span " in span
    assert last.startswith("2 in ")


def test_the_inbox_starts() -> None:
    [line] = [block for block in BASH if "local" in block]
    command = line.split()
    assert command == ["otel-posthog", "local"]
    started = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:], "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert "http://127.0.0.1:" in started.stdout.readline()
    started.terminate()
    started.communicate(timeout=30)


def test_the_prices_are_some_and_the_doctor_takes_them(tmp_path: Path) -> None:
    [prices] = blocks("toml")
    (tmp_path / "prices.toml").write_text(prices)
    [line] = [block for block in BASH if "doctor" in block]
    done = subprocess.run(
        ["bash", "-c", line],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OTEL_EXPORTER_POSTHOG_PRICES": str(tmp_path / "prices.toml"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "prices.toml, for 2 models" in done.stdout
    assert "genai-prices " in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is one of the README's two requirements")
@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_two_commands_are_there_and_come_first(command: str) -> None:
    # Running them is CI's first step: a test cannot run the tests.
    assert f"{command}\n" in BASH[:2]
    planned = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"otel-posthog demo|-m pytest", planned)


def test_every_local_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
