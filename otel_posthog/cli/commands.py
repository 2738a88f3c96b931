"""The command line: `otel-posthog demo | local | gateway | consume | replay | doctor`.

A subcommand is a row in `COMMANDS` and imports its modules only when it is called. The exit status is 0 only
if the command did its job.
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

from otel_posthog.config.arguments import port
from otel_posthog.runtime.install_hint import install_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEFAULT_PORT = 8765

_DONE, _NOT_DONE, _INTERRUPTED = 0, 1, 130


class CommandError(Exception):
    """A command that cannot do its job; the text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]
    extra: str | None = None
    """The extra of the distribution that the subcommand needs."""


def _local_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)"
    )
    parser.add_argument(
        "--port", type=port, default=DEFAULT_PORT, help="port (%(default)s; 0 takes a free one)"
    )
    parser.add_argument(
        "--db",
        metavar="PATH",
        help="keep the events in this SQLite file (default: delete them at the end)",
    )


def _local(args: argparse.Namespace) -> int:
    from otel_posthog.local import Inbox
    from otel_posthog.local.console import head
    from otel_posthog.local.store import UnusableFileError

    with _interrupt_on_signals() as signals:
        try:
            inbox = Inbox(args.host, args.port, args.db, _print, color=sys.stdout.isatty())
        except OSError as error:
            raise CommandError(_why_not_listening(error, args.host, args.port)) from None
        except UnusableFileError as error:
            raise CommandError(f"{error}; choose another file with --db") from None
        # Stopping it is the normal end, at any moment.
        with contextlib.suppress(KeyboardInterrupt), inbox:
            _print(f"Listening at {inbox.url}; the events are at {inbox.url}/_events. Ctrl-C ends.")
            _print(f"Try: POSTHOG_HOST={inbox.url} POSTHOG_API_KEY=phc_local otel-posthog demo")
            _print("")
            _print(head())
            # Short waits: a signal just before a long one would not end it.
            while not signals:
                time.sleep(0.2)
    return _DONE


def _why_not_listening(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another with --port, or --port 0 for a free one"
    if error.errno == errno.EACCES:
        return f"port {port} may not be used by this user; choose one above 1023 with --port"
    return f"cannot listen on {host}, port {port}: {error.strerror or error}"


@contextlib.contextmanager
def _interrupt_on_signals() -> Iterator[list[int]]:
    """Treat SIGTERM and a closed terminal like Ctrl-C, so that a temporary file is removed.

    The list holds the signals received: an interrupt that is raised in a finalizer gets lost.
    """
    signals: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    present = (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP"))
    # A signal that is ignored, as under nohup, stays ignored.
    ours = [one for one in present if one is not None and signal.getsignal(one) == signal.SIG_DFL]
    for one in ours:
        signal.signal(one, stop)
    try:
        yield signals
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
        run(settings_of(args), _print)
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
        help="list: show waiting entries and refused events; show: print one; resend: send the waiting"
        " entries and the refused events, all or those named; adopt: move the entries of another project to"
        " yours; purge: delete refused events or the entries named; FILE: send a file of spans, OTLP as JSON"
        " or protobuf",
    )
    parser.add_argument("--spool-dir", type=Path, metavar="DIR", help="directory of the spool")


def _replay(args: argparse.Namespace) -> int:
    from otel_posthog.cli.replay import ReplayError, replay

    try:
        return _DONE if replay(args.words, args.spool_dir, _print) else _NOT_DONE
    except ReplayError as error:
        raise CommandError(str(error)) from None


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="check this price file")


def _doctor(args: argparse.Namespace) -> int:
    from datetime import date

    from otel_posthog.doctor.checks import look, set_up
    from otel_posthog.doctor.report import as_json, as_table, is_well

    setup = set_up(os.environ, date.today(), args.prices)  # noqa: DTZ011  # the day on this machine
    findings = []
    for name, finding in look(setup):
        findings.append((name, finding))
        if not args.json:
            _print(as_table(name, finding))
    if args.json:
        _print(as_json(findings))
    return _DONE if is_well(findings) else _NOT_DONE


COMMANDS: tuple[Command, ...] = (
    Command(
        "demo",
        "run a small chat product and show its events",
        lambda _: None,
        _demo,
        extra="demo",
    ),
    Command("local", "run a PostHog-compatible inbox on this machine", _local_arguments, _local),
    Command(
        "gateway",
        "receive spans from a Collector and send events to PostHog",
        _gateway_arguments,
        _gateway,
        extra="gateway",
    ),
    Command(
        "consume",
        "read a Collector's spans from Kafka and send events to PostHog",
        _consume_arguments,
        _consume,
        extra="kafka",
    ),
    Command("replay", "send what the spool holds, or files of spans", _replay_arguments, _replay),
    Command("doctor", "check this set-up: options, key, spool, prices", _doctor_arguments, _doctor),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; argparse exits with 2 after a usage error."""
    args = _parser().parse_args(argv)
    command: Command = args.command
    # A terminal that cannot show a character shows a replacement.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        return command.run(args)
    except CommandError as error:
        return _fail(command, str(error))
    except ImportError as error:
        if command.extra is None or (error.name or "").partition(".")[0] == "otel_posthog":
            raise
        if isinstance(error, ModuleNotFoundError):
            missing = error.name
        elif error.path is None:  # a namespace, as `google` of protobuf, without the module
            missing = f"a package in {error.name}"
        else:
            raise
        return _fail(command, f"{missing} is not installed: {install_hint(command.extra)}")
    except KeyboardInterrupt:
        _fail(command, "stopped")
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); without this the interpreter complains at its exit.
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


def _print(text: str) -> None:
    print(text, flush=True)


def _fail(command: Command, sentence: str) -> int:
    print(f"otel-posthog {command.name}: {sentence}", file=sys.stderr)
    return _NOT_DONE
