"""One cell of the matrix: a program in a process of its own, between a provider and an inbox."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_posthog.local import Inbox
from tests.framework_matrix.catalogue import Framework, Way
from tests.framework_matrix.checker import SLOW_ANSWER, Evidence, Outcome
from tests.framework_matrix.environments import ROOT, interpreter
from tests.framework_matrix.provider import Provider

_LONGEST = 420.0
_OURS = "otel_posthog_openai,otel_posthog_gemini"


@dataclass(frozen=True)
class Cell:
    """A framework, a way, and how long answers take."""

    framework: Framework
    way: Way
    slow: bool = False

    @property
    def title(self) -> str:
        """Return its name in progress lines."""
        return f"{self.framework.name} / {self.way.name} / {'slow' if self.slow else 'fast'}"


def run(
    cell: Cell, place: Path, scenarios: str = "", known_stderr: Iterable[str] = (), *, bare: bool = False
) -> Evidence:
    """Run a cell, and return what the provider, the inbox and stderr have of it.

    With `bare` the product is not switched on: the lines that stderr has then are not its doing.
    """
    with (
        Provider(SLOW_ANSWER if cell.slow else 0.0) as provider,
        Inbox() as inbox,
        tempfile.TemporaryDirectory() as scratch,
    ):
        outcomes = Path(scratch) / "outcomes"
        environment = _environment(cell, provider.url, outcomes, scenarios, bare=bare)
        environment["MATRIX_PACKAGES"] = str(place)
        with _receiver(cell, inbox.url) as receiver:
            environment |= receiver
            started = time.monotonic()
            process = subprocess.Popen(
                _command(cell, place),
                env=environment,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                _, stderr = process.communicate(timeout=_LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                _, stderr = process.communicate()
                stderr += f"\nthe program did not end within {_LONGEST:.0f} s"
            seconds = time.monotonic() - started
        lines = outcomes.read_text().splitlines() if outcomes.exists() else []
        return Evidence(
            requests=provider.requests,
            events=inbox.events(),
            stderr=new_lines(stderr, known_stderr),
            outcomes=[Outcome(**json.loads(line)) for line in lines],
            unknown_paths=list(provider.unknown),
            exit_code=process.returncode,
            seconds=seconds,
            tells_agents=cell.way.tells_agents,
            slow=cell.slow,
        )


def _command(cell: Cell, place: Path) -> list[str]:
    if cell.framework.language == "node":
        return ["node", str(cell.framework.program)]
    python = interpreter(place)
    if cell.way.zero_code:
        return [str(python.parent / "opentelemetry-instrument"), str(python), str(cell.framework.program)]
    return [str(python), str(cell.framework.program)]


def _environment(cell: Cell, provider: str, outcomes: Path, scenarios: str, *, bare: bool) -> dict[str, str]:
    """Return what the program may know of this machine: no key, no option of the developer's own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(outcomes.parent),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "POSTHOG_API_KEY": "phc_matrix",
        "OPENAI_API_KEY": "key-of-nobody",
        "OPENAI_BASE_URL": f"{provider}/v1",
        "OPENAI_API_BASE": f"{provider}/v1",
        "GOOGLE_API_KEY": "key-of-nobody",
        "GOOGLE_GEMINI_BASE_URL": provider,
        "MATRIX_PROVIDER": provider,
        "MATRIX_OUTCOMES": str(outcomes),
        "MATRIX_SCENARIOS": scenarios,
        "MATRIX_UNSEEN": ",".join(cell.way.unseen),
        "MATRIX_WAY": cell.way.name,
        "MATRIX_CALL": cell.way.call,
        "MATRIX_PROCESSOR": cell.way.processor,
        # Whoever would talk to others than the provider finds no way out.
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "ANONYMIZED_TELEMETRY": "false",
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    environment |= cell.way.environment
    if not cell.way.zero_code:
        return environment if bare else environment | {"MATRIX_CONFIGURE": "1"}
    environment |= {
        "MATRIX_ZERO_CODE": "1",
        "OTEL_TRACES_EXPORTER": "none" if bare else "posthog",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    if bare:
        environment["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] += f",{_OURS}"
    return environment


@contextlib.contextmanager
def _receiver(cell: Cell, inbox: str) -> Iterator[Mapping[str, str]]:
    """Give the variables by which the program's events reach the inbox, by a gateway if they are OTLP."""
    if cell.framework.language != "node":
        yield {"POSTHOG_HOST": inbox}
        return
    command = [sys.executable, "-m", "otel_posthog.cli", "gateway", "--port", "0"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "POSTHOG_API_KEY": "phc_matrix",
        "POSTHOG_HOST": inbox,
    }
    gateway = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert gateway.stdout is not None
        port = next(match[1] for line in gateway.stdout if (match := re.search(r"port (\d+)", line)))
        yield {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    finally:
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(30)


def new_lines(stderr: str, known: Iterable[str]) -> list[str]:
    """Return the lines of stderr that are not known, whatever figures and addresses are in them.

    Lines that are indented belong to the one before: in tracebacks of others our frames may stand.
    """
    known_shapes = set(map(_shape, known))
    return [line for line in stderr.splitlines() if line[:1].strip() and _shape(line) not in known_shapes]


def _shape(line: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\d+", "#", line.strip())


def listing(evidence: Evidence) -> str:
    """Return the events of a cell, one a line, for a person who looks into a fault."""
    names = ("feature", "$ai_span_name", "$ai_model", "$ai_provider", "$ai_input_tokens", "$ai_output_tokens")
    return "\n".join(
        _line(event, names) for event in sorted(evidence.events, key=lambda each: each["timestamp"])
    )


def _line(event: dict[str, Any], names: tuple[str, ...]) -> str:
    properties = event["properties"]
    place = " ".join(
        f"{label}={str(properties.get(name))[-6:]}"
        for label, name in (("trace", "$ai_trace_id"), ("span", "$ai_span_id"), ("parent", "$ai_parent_id"))
    )
    rest = " ".join(f"{name.removeprefix('$ai_')}={properties[name]}" for name in names if name in properties)
    return f"{event['timestamp'][11:23]} {event['event']:25} {place} {rest}"
