"""The demo: an afternoon of a small chat product, observed as a real one would be.

Clients, exporter and wire are real. Without keys the far ends are on this machine: fake providers answer for
OpenAI and Gemini, and an inbox takes the events for PostHog.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from google import genai
from google.genai import types
from openai import OpenAI

from otel_posthog.config.resolve import resolve
from otel_posthog.demo import report
from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.demo.product import AFTERNOON, FEATURES, Clients, Moment, do
from otel_posthog.local.console import fit, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

    Say = Callable[[str], None]
    Event = dict[str, Any]

_SHUTDOWN_MILLIS = 2_000
"""The flush before it has done the work; this is for the rest of an interrupted run."""

_LOOPBACK = "127.0.0.1,localhost"

_NEXT = """
Next, your application: OTEL_TRACES_EXPORTER=posthog POSTHOG_API_KEY=phc_... {line} ...
Every event as it is:   {inbox} local  (it prints how to send this demo's events there)"""


def _runnable(command: str) -> str:
    """Return how to call a command of this environment, which `make demo` does not put on the path."""
    if shutil.which(command):
        return command
    beside = Path(sys.executable).parent / command
    return os.path.relpath(beside) if beside.is_file() else command


@dataclass(slots=True)
class Target:
    """The place the events go to, and how to read those that went there."""

    name: str
    arguments: dict[str, Any]
    """The arguments of `configure`."""
    events: Callable[[], Sequence[Event]]
    posthog: str | None = None
    """The address of a real PostHog, whose events can be seen only as they leave."""


@dataclass(slots=True)
class Played:
    """The calls, as the product saw them."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)


def run(
    environ: MutableMapping[str, str] = os.environ,
    out: TextIO | None = None,
    *,
    latency: float | tuple[float, float] = (0.12, 0.5),
    chunk_pause: float = 0.004,
    flush_millis: int = 30_000,
) -> int:
    """Run the demo and return 0 only if every expected event arrived, once.

    `latency` and `chunk_pause`, in seconds, are those of the fake providers; `flush_millis` limits the last
    delivery.
    """
    from otel_posthog import ai_context, configure

    stream = out or sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)  # progress is for now, not for when a buffer is full

    _spare_loopback_the_proxy(environ)
    with contextlib.ExitStack() as stack:
        clients = stack.enter_context(_clients(environ, say, latency, chunk_pause))
        target = stack.enter_context(_target(environ))
        say(f"Events: {target.name}.\n")
        handle = configure(events="ai,llm_completion", **target.arguments)
        stack.callback(handle.shutdown, timeout_millis=_SHUTDOWN_MILLIS)
        played = play(clients, AFTERNOON, ai_context, say)
        flushed = handle.force_flush(timeout_millis=flush_millis)
        events = target.events()
        delivered = handle.stats()["events"]["delivered"]
    if target.posthog and events and not delivered:
        say(
            f"\nNothing arrived: PostHog at {target.posthog} was not reached, or took no event of these"
            f" {played.calls} calls. Check POSTHOG_HOST and POSTHOG_API_KEY."
        )
        return 1
    say("\n" + report.table(report.rows(events)))
    verdict = report.verdict(events, calls=played.calls, failed=len(played.failures))
    remark = "" if target.posthog is None else " Counted as they left; PostHog shows what arrived."
    say(f"\n{verdict.sentence}.{remark}")
    if not flushed:
        say(f"Not everything could be delivered within {flush_millis / 1000:g} seconds.")
    say(_NEXT.format(line=_runnable("opentelemetry-instrument"), inbox=_runnable("otel-posthog")))
    return 0 if verdict.complete and flushed else 1


def play(clients: Clients, moments: Sequence[Moment], context: Callable[..., Any], say: Say) -> Played:
    """Do one moment after the other, each in its `ai_context`; print a line for each, failed or not."""
    played = Played()
    for moment in moments:
        played.calls += 1
        started = time.perf_counter()
        with context(feature=moment.feature, chat_id=moment.chat_id, user_id=moment.user_id):
            try:
                result = do(clients, moment)
            except Exception as error:  # noqa: BLE001  # two clients, two families of errors: all end one call
                played.failures.append(type(error).__name__)
                result = f"failed: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        model = moment.model or FEATURES[moment.feature].model
        cells = [
            fit(plain(cell), width)
            for cell, width in ((moment.feature, 14), (model, 26), (moment.user_id, 10))
        ]
        number = f"{played.calls:>2}/{len(moments)}"
        say(f"{number}  {'  '.join(cells)}  {seconds * 1000:>6,.0f} ms  {fit(plain(result), 48).rstrip()}")
    return played


@contextlib.contextmanager
def _clients(
    environ: MutableMapping[str, str], say: Say, latency: float | tuple[float, float], chunk_pause: float
) -> Iterator[Clients]:
    keys = {name: environ.get(f"{name.upper()}_API_KEY") for name in ("openai", "gemini")}
    missing = [f"{name.upper()}_API_KEY" for name, key in keys.items() if not key]
    with contextlib.ExitStack() as stack:
        here = (
            stack.enter_context(FakeProviders(latency=latency, chunk_pause=chunk_pause)) if missing else None
        )
        if here is None:
            say("Models: the real OpenAI and Gemini; the calls are on your bill.")
        else:
            who = "OpenAI and Gemini" if len(missing) > 1 else "OpenAI" if not keys["openai"] else "Gemini"
            say(f"Models: a stand-in on this machine answers for {who} ({' and '.join(missing)} not set).")
        openai = OpenAI(api_key=keys["openai"]) if keys["openai"] or here is None else _openai_at(here)
        stack.callback(openai.close)
        gemini = _gemini(keys["gemini"] or "stand-in", None if keys["gemini"] or here is None else here)
        stack.callback(gemini.close)
        yield Clients(openai, gemini)


def _openai_at(here: FakeProviders) -> OpenAI:
    # Retries would only delay the one failure that is meant.
    return OpenAI(api_key="stand-in", base_url=here.openai_base_url, max_retries=0)


def _gemini(key: str, here: FakeProviders | None) -> genai.Client:
    options = None if here is None else types.HttpOptions(base_url=here.gemini_base_url)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


@contextlib.contextmanager
def _target(environ: MutableMapping[str, str]) -> Iterator[Target]:
    given = resolve({}, environ)
    if given.api_key:
        left: list[Event] = []

        def tap(event: Event) -> Event:
            left.append(event)
            return event

        name = f"go to PostHog at {given.endpoint}, as POSTHOG_API_KEY is set"
        yield Target(
            name,
            {"api_key": given.api_key, "endpoint": given.endpoint, "before_send": tap},
            lambda: left,
            given.endpoint,
        )
        return
    from otel_posthog.local import Inbox

    with Inbox() as inbox:
        arguments = {"api_key": "phc_local", "endpoint": inbox.url}
        name = "go to an inbox on this machine (POSTHOG_API_KEY not set)"
        yield Target(name, arguments, inbox.events)


def _spare_loopback_the_proxy(environ: MutableMapping[str, str]) -> None:
    """Keep requests to this machine away from a proxy of the environment."""
    for name in ("NO_PROXY", "no_proxy"):
        environ[name] = ",".join(filter(None, (environ.get(name), _LOOPBACK)))
