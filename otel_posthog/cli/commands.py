"""The command line: `otel-posthog demo | local | gateway | consume | replay | doctor`.

A subcommand is a row in `COMMANDS`; what it needs is imported when it is called, not before. The exit status
is 0 only when the thing was done.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_posthog.runtime.install_hint import install_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEFAULT_PORT = 8765

_DONE, _NOT_DONE, _INTERRUPTED = 0, 1, 130


class CommandError(Exception):
    """The thing cannot be done; the text is one sentence for the person who asked."""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]
    extra: str | None = None
    """The extra of the distribution that brings what the subcommand imports."""


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port: a number from 0 (a free one) to 65535 is expected"
        )
    return int(text)


def _local_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)"
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="port (%(default)s; 0 takes a free one)"
    )
    parser.add_argument(
        "--db", metavar="PATH", help="keep the events in this SQLite file (else they go at the end)"
    )


def _local(args: argparse.Namespace) -> int:
    from otel_posthog.local import Inbox
    from otel_posthog.local.console import head
    from otel_posthog.local.store import UnusableFileError

    with _stop_when_told() as told:
        try:
            inbox = Inbox(args.host, args.port, args.db, _say, color=sys.stdout.isatty())
        except OSError as error:
            raise CommandError(_why_not_listening(error, args.host, args.port)) from None
        except UnusableFileError as error:
            raise CommandError(f"{error}; choose another file with --db") from None
        # Being stopped is how it ends, whenever it comes: the thing was done.
        with contextlib.suppress(KeyboardInterrupt), inbox:
            _say(f"Listening at {inbox.url}; the events are at {inbox.url}/_events. Ctrl-C ends.")
            _say(f"Try: POSTHOG_HOST={inbox.url} POSTHOG_API_KEY=phc_local otel-posthog demo")
            _say("")
            _say(head())
            # Not one long wait: a signal that comes just before it begins would not end it.
            while not told:
                time.sleep(0.2)
    return _DONE


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another with --port, or --port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user; choose one above 1023 with --port"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}"


@contextlib.contextmanager
def _stop_when_told() -> Iterator[list[int]]:
    """Let SIGTERM, and a terminal that closes, end things like Ctrl-C does: a temporary file is removed.

    The list holds the signals that came: an interrupt that is raised in a finalizer gets lost.
    """
    told: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        told.append(number)
        raise KeyboardInterrupt

    present = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    # What is ignored, as under nohup, stays ignored.
    ours = [one for one in present if one is not None and signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, stop)
    try:
        yield told
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _demo(_: argparse.Namespace) -> int:
    from otel_posthog.demo.run import run

    return run()


def _gateway_arguments(parser: argparse.ArgumentParser) -> None:
    from otel_posthog.gateway.settings import add_arguments

    add_arguments(parser)


def _gateway(args: argparse.Namespace) -> int:
    from otel_posthog.gateway.server import run
    from otel_posthog.gateway.settings import SettingsError, settings_of

    try:
        run(settings_of(args), _say)
    except SettingsError as error:
        raise CommandError(str(error)) from None
    return _DONE


def _consume_arguments(parser: argparse.ArgumentParser) -> None:
    from otel_posthog.gateway.kafka.settings import add_arguments

    add_arguments(parser)


def _consume(args: argparse.Namespace) -> int:
    from otel_posthog.gateway.kafka.consumer import ConsumeError, run
    from otel_posthog.gateway.kafka.settings import settings_of

    try:
        run(settings_of(args))
    except (ConsumeError, ValueError) as error:
        raise CommandError(str(error)) from None
    return _DONE


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="list | show NAME... | resend [NAME...] | adopt PROJECT | purge NAME...|all | FILE...",
        help="what waits in the spool or was refused (list), one of it (show); send what waits and refused"
        " events, all or those named (resend); make another key's yours (adopt); delete refused events, or"
        " what is named (purge); or files of spans, OTLP/JSON or protobuf, to send",
    )
    parser.add_argument("--spool-dir", type=Path, metavar="DIR", help="the directory of the spool")


def _replay(args: argparse.Namespace) -> int:
    from otel_posthog.cli.replay import ReplayError, replay

    try:
        return _DONE if replay(args.words, args.spool_dir, _say) else _NOT_DONE
    except ReplayError as error:
        raise CommandError(str(error)) from None


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="check this file of own prices")


def _doctor(args: argparse.Namespace) -> int:
    from datetime import date

    from otel_posthog.doctor.checks import look, set_up
    from otel_posthog.doctor.report import as_json, as_table, is_well

    setup = set_up(os.environ, date.today(), args.prices)  # noqa: DTZ011  # the day on this machine
    findings = []
    for name, finding in look(setup):
        findings.append((name, finding))
        if not args.json:
            _say(as_table(name, finding))
    if args.json:
        _say(as_json(findings))
    return _DONE if is_well(findings) else _NOT_DONE


COMMANDS: tuple[Command, ...] = (
    Command("demo", "run a small chat product and see what arrives", lambda _: None, _demo, extra="demo"),
    Command("local", "an inbox on this machine that speaks PostHog's wires", _local_arguments, _local),
    Command(
        "gateway",
        "take spans from an OpenTelemetry Collector and send them on",
        _gateway_arguments,
        _gateway,
        extra="gateway",
    ),
    Command(
        "consume",
        "read the spans that a Collector writes to Kafka and send them on",
        _consume_arguments,
        _consume,
        extra="kafka",
    ),
    Command("replay", "send what waits on disk, was refused, or is in files", _replay_arguments, _replay),
    Command("doctor", "check this set-up: options, key, spool, prices", _doctor_arguments, _doctor),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status; usage errors exit with 2 as argparse does it."""
    args = _parser().parse_args(argv)
    command: Command = args.command
    # A terminal that cannot show a character shows a replacement; it is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return command.run(args)
    except CommandError as error:
        return _fail(command, str(error))
    except ModuleNotFoundError as error:
        if command.extra is None or (error.name or "").partition(".")[0] == "otel_posthog":
            raise
        return _fail(command, f"{error.name} is not installed: {install_hint(command.extra)}")
    except KeyboardInterrupt:
        _fail(command, "stopped")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone (`| head`); the interpreter would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="otel-posthog", description="GenAI spans in, PostHog events out.")
    version = importlib.metadata.version("otel-posthog")
    parser.add_argument("--version", action="version", version=f"otel-posthog {version}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        below = subcommands.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(below)
        below.set_defaults(command=command)
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


def _fail(command: Command, sentence: str) -> int:
    print(f"otel-posthog {command.name}: {sentence}", file=sys.stderr)
    return _NOT_DONE
