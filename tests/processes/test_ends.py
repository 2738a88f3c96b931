"""Ends of a process: its spans arrive, or wait on disk for the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog.local import Inbox
from tests.delivery.capture_server import Answer, capture_server
from tests.processes.conftest import PRELUDE, Run, arrived, environment

PROVIDER = (
    "trace.set_tracer_provider(TracerProvider(shutdown_on_exit=%s)); provider = trace.get_tracer_provider()"
)
ALONE = (
    PROVIDER % True + "; provider.add_span_processor(BatchSpanProcessor(PostHogSpanExporter())); spans(50)"
)
TERMINATE = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"

ENDS = {
    "its last line": ("configure(); spans(50)", 0),
    "sys.exit": ("configure(); spans(50); sys.exit(3)", 3),
    "an exception": ("configure(); spans(50); 1 / 0", 1),
    "spans made at exit": ("import atexit; configure(); atexit.register(spans, 50)", 0),
    "a thread that is still running": (
        "configure(); threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); spans(50)",
        0,
    ),
    "shutdown, twice": (
        "configure(); spans(50); [trace.get_tracer_provider().shutdown() for _ in range(2)]",
        0,
    ),
    "a provider that is never shut down": (
        PROVIDER % False + "; provider.add_span_processor(PostHogSpanProcessor()); spans(50)",
        0,
    ),
    "an exporter under OpenTelemetry's own processor": (ALONE, 0),
    "a flush before os._exit": (
        "handle = configure(); spans(50); assert handle.force_flush(20_000); os._exit(0)",
        0,
    ),
    "SIGTERM": ("configure(); spans(50); " + TERMINATE, -15),
    "SIGTERM with an exporter alone": (ALONE + "; " + TERMINATE, -15),
    "SIGTERM in a loop that waits for nothing": (
        "configure(); spans(50); os.kill(os.getpid(), signal.SIGTERM)\nwhile True: pass",
        -15,
    ),
    "SIGTERM that the application handles": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); configure(); spans(50); " + TERMINATE,
        7,
    ),
    "SIGINT": ("configure(); spans(50); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -2),
    "asyncio": ("import asyncio; configure()\nasync def main(): spans(50)\nasyncio.run(main())", 0),
}


@pytest.mark.parametrize("end", ENDS)
def test_everything_arrives_before_a_process_ends_by(end: str, inbox: Inbox, run: Run) -> None:
    code, returncode = ENDS[end]
    run(code, returncode=returncode)
    assert arrived(inbox) == {"main": 50}


def test_a_slow_posthog_gets_everything_before_the_end(run: Run) -> None:
    with capture_server() as slow:
        slow.delay = 0.15
        run("configure(); spans(2000)", to=slow)
        assert len({event["uuid"] for event in slow.events}) == len(slow.events) == 2000


@pytest.mark.parametrize(
    "end",
    ["", "sys.exit(0)", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"],
    ids=["its last line", "sys.exit", "SIGTERM"],
)
def test_unsent_spans_wait_on_disk_for_the_next_process(
    end: str, inbox: Inbox, run: Run, tmp_path: Path
) -> None:
    returncode = -15 if "SIGTERM" in end else 0
    run("configure(); spans(50);" + end, to=None, returncode=returncode, spool_dir=str(tmp_path), timeout="1")
    assert arrived(inbox) == {}
    run("assert configure().force_flush(20_000)", spool_dir=str(tmp_path))
    assert arrived(inbox) == {"main": 50}


def test_a_next_process_sends_the_backlog_by_itself(inbox: Inbox, run: Run, tmp_path: Path) -> None:
    run("configure(); spans(50)", to=None, spool_dir=str(tmp_path), timeout="1")
    run("configure(); time.sleep(0)", spool_dir=str(tmp_path))
    assert arrived(inbox) == {"main": 50}


def test_the_environment_variables_alone_survive_kill_9(inbox: Inbox, tmp_path: Path) -> None:
    """`kill -9` right after the last span of the one line, and the next process sends everything."""
    app = tmp_path / "app.py"
    app.write_text(PRELUDE + "spans(50); os.kill(os.getpid(), signal.SIGKILL)")
    line = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, str(app)]
    environ = environment(inbox, spool_dir=str(tmp_path / "spool"), durability="always", flush_interval="60")
    environ["OTEL_TRACES_EXPORTER"] = "posthog"
    assert subprocess.run(line, env=environ, check=False, timeout=60).returncode == -signal.SIGKILL
    assert arrived(inbox) == {}
    app.write_text("")
    subprocess.run(line, env=environ, check=True, timeout=60)
    assert arrived(inbox) == {"main": 50}


def test_the_spans_of_another_project_are_left_alone(inbox: Inbox, run: Run, tmp_path: Path) -> None:
    run("configure(); spans(50)", to=None, spool_dir=str(tmp_path), timeout="1", api_key="phc_other")
    run("assert configure().force_flush(20_000)", spool_dir=str(tmp_path))
    assert arrived(inbox) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals of POSIX")
def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    code = "configure(); spans(1); print('made', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        env=environment(None, timeout="60"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.returncode == -signal.SIGTERM


def test_the_end_does_not_wait_for_a_posthog_that_rejects_the_key(run: Run) -> None:
    with capture_server() as server:
        server.judge = lambda _: Answer(401)  # type: ignore[assignment,method-assign]
        done = run("configure(timeout=200); spans(5); trace.get_tracer_provider().shutdown()", to=server)
    assert "check the project API key" in done.stderr
    assert "5 spans or events lost" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_end_still_writes_to_disk(
    number: signal.Signals, inbox: Inbox, run: Run, tmp_path: Path
) -> None:
    code = f"""
configure()
spans(50)
timer = threading.Timer(0.5, os.kill, (os.getpid(), {number.value}))
timer.daemon = True
timer.start()
"""
    returncode = -15 if number == signal.SIGTERM else 0
    run(code, to=None, returncode=returncode, spool_dir=str(tmp_path), timeout="20")
    run("assert configure().force_flush(20_000)", spool_dir=str(tmp_path))
    assert arrived(inbox) == {"main": 50}


def test_a_signal_during_an_export_still_writes_to_disk(inbox: Inbox, run: Run, tmp_path: Path) -> None:
    code = (
        PROVIDER % True
        + "; from opentelemetry.sdk.trace.export import SimpleSpanProcessor"
        + "; provider.add_span_processor(SimpleSpanProcessor(PostHogSpanExporter()))"
        + "; timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))"
        + "; timer.daemon = True; timer.start(); spans(1)"
    )
    run(code, to=None, returncode=-15, spool_dir=str(tmp_path), timeout="4")
    run("assert configure().force_flush(20_000)", spool_dir=str(tmp_path))
    assert arrived(inbox) == {"main": 1}
