from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from otel_posthog.cli import commands as cli
from otel_posthog.runtime.install_hint import install_hint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HELD_IN_VAIN = (
    "openai",
    "google",
    "otel_posthog.demo",
    "otel_posthog.local",
    "http.server",
    "sqlite3",
    "otel_posthog.cli.replay",
    "otel_posthog.doctor.checks",
    "genai_prices",
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "otel_posthog.cli", *arguments]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"otel-posthog \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "invalid choice"),
        (["local", "--port", "many"], "'many' is no port"),
        (["local", "--port", "-1"], "'-1' is no port"),
        (["local", "--port", "70000"], "'70000' is no port"),
        (["demo", "--fast"], "unrecognized"),
    ],
)
def test_wrong_usage_is_2_and_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert [one.name for one in cli.COMMANDS] == ["demo", "local", "gateway", "consume", "replay", "doctor"]
    for one in cli.COMMANDS:
        assert one.name in shown
        assert one.help in shown


def test_a_port_in_use_is_one_sentence(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["local", "--port", str(taken)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        f"otel-posthog local: port {taken} is in use; "
        "choose another with --port, or --port 0 for a free one\n"
    )


def test_a_host_that_is_not_here_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["local", "--host", "203.0.113.1", "--port", "0"]) == 1
    assert capsys.readouterr().err.startswith("otel-posthog local: cannot listen on 203.0.113.1, port 0: ")


def test_a_file_that_is_no_inbox_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader, this is no database at all. " * 30)
    assert cli.main(["local", "--port", "0", "--db", str(letter)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(letter) in told
    assert "--db" in told


def test_a_directory_that_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["local", "--port", "0", "--db", str(tmp_path / "no" / "inbox.db")]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(tmp_path / "no" / "inbox.db") in told


@pytest.mark.parametrize("missing", ["openai", "google.genai", "opentelemetry.instrumentation.openai"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Any) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    rows = [cli.Command("demo", "help", lambda _: None, run, extra="demo")]
    monkeypatch.setattr(cli, "COMMANDS", rows)
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == (
        f"otel-posthog demo: {missing} is not installed: {install_hint('demo')}\n"
    )


def test_a_package_that_a_namespace_lacks_is_named_as_a_missing_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For real: protobuf brings the namespace `google`, whether or not `google.genai` is in it."""
    (tmp_path / "bare_namespace").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(_: Any) -> int:
        exec("from bare_namespace import genai")  # a linter would look for the module
        return 0

    monkeypatch.setattr(cli, "COMMANDS", [cli.Command("demo", "help", lambda _: None, run, extra="demo")])
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == (
        f"otel-posthog demo: a package in bare_namespace is not installed: {install_hint('demo')}\n"
    )


def test_a_name_that_an_installed_package_lacks_is_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any) -> int:
        exec("from json import no_such_name")  # as above
        return 0

    monkeypatch.setattr(cli, "COMMANDS", [cli.Command("demo", "help", lambda _: None, run, extra="demo")])
    with pytest.raises(ImportError, match="no_such_name"):
        cli.main(["demo"])


def test_the_demo_without_openai_names_its_extra() -> None:
    """For real: an interpreter in which the package cannot be found."""
    code = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'openai': raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "from otel_posthog.cli import main\n"
        "sys.exit(main(['demo']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"otel-posthog demo: openai is not installed: {install_hint('demo')}\n"
    assert done.stdout == ""


def test_a_module_of_ours_that_is_missing_is_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any) -> int:
        raise ModuleNotFoundError("No module named 'otel_posthog.lost'", name="otel_posthog.lost")

    monkeypatch.setattr(cli, "COMMANDS", [cli.Command("demo", "help", lambda _: None, run, extra="demo")])
    with pytest.raises(ModuleNotFoundError):
        cli.main(["demo"])


def test_ctrl_c_in_the_middle_is_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "COMMANDS", [cli.Command("demo", "help", lambda _: None, run)])
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr().err == "otel-posthog demo: stopped\n"


def test_nothing_of_a_subcommand_is_imported_before_it_is_called() -> None:
    code = (
        "import sys, otel_posthog.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        f"held = [name for name in {HELD_IN_VAIN!r} if name in sys.modules]\n"
        "sys.exit(str(held) if held else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@contextlib.contextmanager
def started(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A command line that is killed if it hangs, so that reading from it comes to an end."""
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    watch = threading.Timer(60, process.kill)
    watch.start()
    try:
        with process:
            yield process
    finally:
        watch.cancel()
        watch.join()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_local_prints_what_arrives_and_ends_when_it_is_told_to(end: signal.Signals, tmp_path: Path) -> None:
    with started("local", "--port", "0", TMPDIR=str(tmp_path), PYTHONIOENCODING="ascii") as process:
        shown = [_line(process) for _ in range(4)]
        url = re.findall(r"http://127\.0\.0\.1:\d+", shown[0])[0]
        event = {"event": "llm_completion_failed", "distinct_id": "u1", "properties": {"feature": "müsli"}}
        body = {"api_key": "phc_x", "batch": [event]}
        assert requests.post(f"{url}/batch/", json=body, timeout=10).status_code == 200
        arrived = _line(process)
        assert requests.get(f"{url}/_events", timeout=10).json()["properties"] == {"feature": "müsli"}
        process.send_signal(end)
        rest, complaint = process.communicate()
    assert (process.returncode, rest, complaint) == (0, "", "")
    assert shown[3].split() == [
        "time",
        "event",
        "feature",
        "model",
        "tokens",
        "in/out",
        "cost",
        "latency",
        "user",
    ]
    # No terminal, no colour; no character for it, a replacement.
    assert arrived.split()[1:] == ["llm_completion_failed", "m?sli", "-", "-", "-", "-", "u1", "!", "error"]
    assert list(tmp_path.iterdir()) == []


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, "it ended early"
    return text


def test_local_keeps_its_file_when_given_one(tmp_path: Path) -> None:
    with started("local", "--port", "0", "--db", str(tmp_path / "kept.db")) as process:
        _line(process)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 0
    assert (tmp_path / "kept.db").exists()


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with started("local", "--port", "0") as unread:
        assert unread.stdout is not None
        assert unread.stderr is not None
        unread.stdout.close()
        assert unread.stderr.read() == ""
    assert unread.returncode == 1
