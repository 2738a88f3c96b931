"""`OTEL_TRACES_EXPORTER=posthog opentelemetry-instrument python app.py`, in processes of its own.

The development environment has `opentelemetry-distro` and an OTLP exporter for HTTP but none for gRPC, which
is the default: the case in which OpenTelemetry's start-up would be given up. CI runs the line again in an
environment with neither.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox

APP = """
import os
from openai import OpenAI
from otel_posthog import ai_context

client = OpenAI(base_url=os.environ["STAND_IN"], api_key="x")
with ai_context(feature="smart_reply", user_id="user_42", chat_id="chat-7"):
    messages = [{"role": "user", "content": "Say hello"}]
    answer = client.chat.completions.create(model="gpt-5.1", messages=messages)
print(answer.choices[0].message.content)
"""


def run(app: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "app.py"
    file.write_text(app)
    return subprocess.run(
        [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, str(file)],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_one_line_sends_every_event_with_its_context(inbox: Inbox, tmp_path: Path) -> None:
    with FakeProviders() as fake_providers:
        done = run(
            APP,
            tmp_path,
            OTEL_TRACES_EXPORTER="posthog",
            POSTHOG_API_KEY="phc_test",
            POSTHOG_HOST=inbox.url,
            STAND_IN=fake_providers.openai_base_url,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.strip()
    events = inbox.events()
    assert Counter(event["event"] for event in events) == {
        "$ai_generation": 1,
        "llm_completion_requested": 1,
        "llm_completion_success": 1,
    }
    for event in events:
        assert event["distinct_id"] == "user_42"
        assert event["properties"]["feature"] == "smart_reply"


WAITS = """
import sys
from opentelemetry import trace

span = trace.get_tracer("app").start_span("chat", attributes={
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5.1"})
trace.get_tracer_provider().force_flush()
import os
os._exit(0)
"""


def test_a_call_that_never_comes_back_is_known(inbox: Inbox, tmp_path: Path) -> None:
    done = run(
        WAITS, tmp_path, OTEL_TRACES_EXPORTER="posthog", POSTHOG_API_KEY="phc_test", POSTHOG_HOST=inbox.url
    )
    assert done.returncode == 0, done.stderr
    assert [event["event"] for event in inbox.events()] == ["llm_completion_requested"]


def test_without_a_key_the_application_runs_with_one_warning(tmp_path: Path) -> None:
    done = run("print('ran')", tmp_path, OTEL_TRACES_EXPORTER="posthog")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert done.stderr.count("POSTHOG_API_KEY") == 1
    assert "Traceback" not in done.stderr


def test_the_exporter_may_stand_beside_another(inbox: Inbox, tmp_path: Path) -> None:
    app = WAITS.replace("span = ", "").replace('"gpt-5.1"})', '"gpt-5.1"}).end()')
    done = run(
        app,
        tmp_path,
        OTEL_TRACES_EXPORTER="console,posthog",
        POSTHOG_API_KEY="phc_test",
        POSTHOG_HOST=inbox.url,
    )
    assert done.returncode == 0, done.stderr
    assert len(inbox.events("$ai_generation")) == 1
    assert '"name": "chat"' in done.stdout


def test_the_sdk_switched_off_sends_nothing(inbox: Inbox, tmp_path: Path) -> None:
    app = WAITS.replace("span = ", "").replace('"gpt-5.1"})', '"gpt-5.1"}).end()')
    done = run(
        app,
        tmp_path,
        OTEL_TRACES_EXPORTER="posthog",
        OTEL_SDK_DISABLED="true",
        POSTHOG_API_KEY="phc_test",
        POSTHOG_HOST=inbox.url,
    )
    assert done.returncode == 0, done.stderr
    assert inbox.events() == []


PRINTS_BATCHING = """
from opentelemetry import trace

[processor] = trace.get_tracer_provider()._active_span_processor._span_processors
outbox = processor.forwarder._outbox
print(type(processor).__name__, outbox.flush_interval, outbox.max_taken)
from otel_posthog import configure
print(configure() is processor)
"""


def test_batch_settings_of_opentelemetry_are_heeded_and_configure_adds_nothing(
    inbox: Inbox, tmp_path: Path
) -> None:
    done = run(
        PRINTS_BATCHING,
        tmp_path,
        OTEL_TRACES_EXPORTER="posthog",
        POSTHOG_API_KEY="phc_test",
        POSTHOG_HOST=inbox.url,
        OTEL_BSP_SCHEDULE_DELAY="250",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="7",
    )
    assert done.stdout == "PostHogSpanProcessor 0.25 7\nTrue\n", done.stderr


@pytest.mark.parametrize(
    ("environ", "arguments", "chosen"),
    [
        ({"OTEL_TRACES_EXPORTER": "posthog"}, (), "none"),
        ({"OTEL_TRACES_EXPORTER": "console, posthog"}, (), "none"),
        ({}, ("--traces_exporter", "posthog"), "none"),
        ({}, ("--traces_exporter=posthog",), "none"),
        ({"OTEL_TRACES_EXPORTER": "posthog", "OTEL_METRICS_EXPORTER": "console"}, (), "console"),
        ({"OTEL_TRACES_EXPORTER": "posthog", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, (), None),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, (), None),
        ({}, (), None),
    ],
)
def test_metrics_default_to_none_only_where_no_otlp_exporter_could_take_them(
    environ: dict[str, str], arguments: tuple[str, ...], chosen: str | None
) -> None:
    from otel_posthog.sdk.environment_variables import prepare

    prepare(environ, arguments)
    assert environ.get("OTEL_METRICS_EXPORTER") == chosen


@pytest.mark.parametrize(
    ("exporter", "disabled", "left"),
    [
        ("posthog", "", "openai"),
        ("posthog", "redis", "redis,openai"),
        ("posthog", "openai", "openai"),
        ("posthog", "*", "*"),
        ("posthog", "otel_posthog_openai", "otel_posthog_openai"),
        ("otlp", "", ""),
    ],
)
def test_of_two_instrumentors_of_the_same_calls_ours_is_loaded(
    exporter: str, disabled: str, left: str
) -> None:
    from otel_posthog.sdk.environment_variables import prepare

    name = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    environ = {"OTEL_TRACES_EXPORTER": exporter, name: disabled}
    prepare(environ)
    assert environ[name] == left
