"""`otel-posthog replay`: list and send spool entries, events that PostHog refused, and files of spans."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from otel_posthog.cli.otlp_files import spans_of_file
from otel_posthog.config.options import PREFIX
from otel_posthog.config.resolve import Config, resolve
from otel_posthog.conversion.context_attributes import inherited
from otel_posthog.conversion.spans.log_contents import LogContents
from otel_posthog.conversion.spans.log_record import LogContent
from otel_posthog.conversion.spans.span_view import ContextSpan, SpanView
from otel_posthog.delivery import destination_of
from otel_posthog.forwarder import Forwarder, forwarder

__all__ = ["ACTIONS", "ReplayError", "replay"]

_TOGETHER = 1000
"""Spans that are converted and sent together."""
_SECONDS = 60.0
"""The most seconds that sending them may take."""
_SPOOL = tuple(PREFIX + name for name in ("SPOOL_DIR", "DURABILITY"))

Say = Callable[[str], None]


class ReplayError(Exception):
    """A replay that cannot be done; the text is one sentence for the user."""


def replay(words: Sequence[str], directory: Path | None, say: Say) -> bool:
    """Run an action of `ACTIONS` on the names after it, or send files; return whether all is done."""
    action, rest = (words[0], words[1:]) if words else ("list", ())
    if action in ACTIONS:
        try:
            return ACTIONS[action](_spool_dir(directory), rest, say)
        except FileNotFoundError as error:
            raise ReplayError(f"there is no spool in {error}; name its directory with --spool-dir") from None
        except sqlite3.Error as error:
            raise ReplayError(f"the spool cannot be read: {error}") from None
    return _send_files(words, say)


def _spool_dir(directory: Path | None) -> Path:
    spool_dir = directory or _config().spool_dir
    if spool_dir is None:
        raise ReplayError("name the spool's directory with --spool-dir or OTEL_EXPORTER_POSTHOG_SPOOL_DIR")
    return spool_dir


def _config() -> Config:
    return resolve({}, os.environ)


def _list(directory: Path, names: Sequence[str], say: Say) -> bool:
    from otel_posthog.delivery.spool.admin import rows

    count = 0
    for row in rows(directory):
        if names and row.name not in names:
            continue
        count += 1
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.created))
        state = f"refused: {row.reason}" if row.reason else "waiting"
        size = f"{row.size:>9,} bytes"
        say(f"{row.name:>8}  {when}Z  {row.event:<26} {size}  project {row.destination}  {state}")
    say(f"{count} in {directory}" if count else f"Nothing waits in {directory}.")
    return True


def _show(directory: Path, names: Sequence[str], say: Say) -> bool:
    from otel_posthog.delivery.spool.admin import show

    for name in _checked(names, "show"):
        body = show(directory, name)
        if body is None:
            raise ReplayError(f"there is no {name}; `otel-posthog replay list` shows the names")
        say(body.decode("utf-8", "replace"))
    return True


def _resend(directory: Path, names: Sequence[str], say: Say) -> bool:
    from otel_posthog.delivery.spool.admin import counts, revive, rows

    wanted = _checked(names)
    there = {row.name for row in rows(directory)} if wanted else set()
    for name in wanted:
        if name.startswith("w"):
            raise ReplayError(f"{name} waits and is sent with all that waits: `resend` without names")
        if name not in there:
            raise ReplayError(f"there is no {name}; `otel-posthog replay list` shows the names")
    by_project = counts(directory)  # before the sender exists: it begins at once
    sender = _sender({"spool_dir": directory})
    mine = sender.project_id
    own = by_project.pop(mine, None)
    if own is None:
        sender.close(0.0)
        say(f"Nothing waits for project {mine}, whose key is set.")
        _show_other_projects(by_project, say)
        return not by_project
    revived = revive(directory, mine, wanted or None)
    say(f"{revived} refused events wait again.")
    before = own.waiting + revived
    sender.flush(_SECONDS)
    stats = sender.stats()
    sender.close(0.0)
    left = stats["spool"]["entries"]
    say(f"{max(before - left, 0)} of {before} that waited are sent; {left} wait.")
    refused = bool(stats["events"]["refused"])
    if refused:
        say("PostHog refused some again; `otel-posthog replay list` shows which.")
    elif left and not stats["requests"]["requests"]:
        say("Another process holds their lease and sends them itself, or the disk is full.")
    _show_other_projects(by_project, say)
    return not left and not refused


def _show_other_projects(by_project: Mapping[str, object], say: Say) -> None:
    for project, count in by_project.items():
        say(
            f"Project {project}, which has another key: {count};"
            f" `otel-posthog replay adopt {project}` moves them to this one."
        )


def _adopt(directory: Path, names: Sequence[str], say: Say) -> bool:
    from otel_posthog.delivery.spool.admin import adopt, rows

    if len(names) != 1 or names[0] not in {row.destination for row in rows(directory)}:
        raise ReplayError("name the project, as `otel-posthog replay list` shows it")
    key = _config().api_key
    if key is None:
        raise ReplayError("set POSTHOG_API_KEY to the key of the project that they move to, phc_...")
    say(f"{adopt(directory, names[0], destination_of(key))} now belong to project {destination_of(key)}.")
    return True


def _purge(directory: Path, names: Sequence[str], say: Say) -> bool:
    from otel_posthog.delivery.spool.admin import counts, purge

    if not names:
        raise ReplayError("name what to delete: `purge all` deletes all refused events")
    deleted = purge(directory, None if list(names) == ["all"] else _checked(names))
    say(f"{deleted} deleted.")
    waiting = sum(count.waiting for count in counts(directory).values())
    if list(names) == ["all"] and waiting:
        say(
            f"`purge all` deletes refused events only; {waiting} still waiting:"
            " `resend` sends them, `purge NAME...` deletes those named."
        )
    return True


def _checked(names: Sequence[str], action: str | None = None) -> list[str]:
    if list(names) == ["all"]:
        return []
    if action and not names:
        raise ReplayError(f"name what to {action}: `otel-posthog replay list` shows the names")
    for name in names:
        if name[:1] not in ("w", "d") or not name[1:].isdecimal() or len(name) > 18:
            raise ReplayError(
                f"{name} is no name such as w12 or d3: `otel-posthog replay list` shows the names"
            )
    return [*names]


def _send_files(words: Sequence[str], say: Say) -> bool:
    files = [Path(word) for word in words]
    for file in files:
        if not file.is_file():
            known = ", ".join(ACTIONS)
            raise ReplayError(f"{file} is neither a file nor one of {known}")
    # Without a spool: an event is either at PostHog or still in the file.
    sender = _sender({}, {name: value for name, value in os.environ.items() if name not in _SPOOL})
    complete = True
    for file in files:
        unreadable: list[str] = []
        complete = _send_file(sender, file, unreadable.append, say) and complete and not unreadable
        for sentence in unreadable[:10]:
            say(f"{file}: {sentence}")
        if len(unreadable) > 10:
            say(f"{file}: and {len(unreadable) - 10} more that cannot be read")
    sender.close(0.0)
    return complete


def _send_file(sender: Forwarder, file: Path, report_unreadable: Say, say: Say) -> bool:
    sent = 0
    complete = True
    try:
        contents = LogContents()
        context_spans = _context_spans(_without_contents(spans_of_file(file, lambda _: None), contents))
        for views in _batches(
            contents.joined(span, 0.0)
            for span in spans_of_file(file, report_unreadable)
            if isinstance(span, SpanView)
        ):
            events, _ = sender.convert(views, _ancestors(views, context_spans))
            # An event that is not sent is still in the file: it must not wait in memory, nor count as lost.
            complete = sender.deliver(events, _SECONDS).safe
            sent += len(views)
            if not complete:
                break
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{file}: {sent:,} spans")
                sys.stderr.flush()
    except ValueError as error:
        raise ReplayError(f"{file}: {error}") from None
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    say(
        f"{file}: {sent:,} spans of model calls, agents and tools"
        + (" sent." if complete else ", not all sent; the file is as it was and can be sent again.")
    )
    return complete


def _without_contents(
    spans: Iterable[SpanView | ContextSpan | LogContent], contents: LogContents
) -> Iterator[SpanView | ContextSpan]:
    """Yield the spans; what log records have of their content goes into `contents`."""
    for span in spans:
        if isinstance(span, LogContent):
            contents.remember(span, 0.0)
        else:
            yield span


ContextSpans = dict[tuple[str, str], ContextSpan]
"""The spans of a file by trace and span id, as far as their children inherit from them."""


def _context_spans(spans: Iterable[SpanView | ContextSpan]) -> ContextSpans:
    """Return them from a first reading: in a file a span is often far from the children that need it."""
    return {
        (span.trace_id, span.span_id): span
        if isinstance(span, ContextSpan)
        else ContextSpan(
            span.trace_id, span.span_id, span.parent_id, inherited(span.attributes), is_genai=True
        )
        for span in spans
    }


def _ancestors(views: Sequence[SpanView], context_spans: ContextSpans) -> list[ContextSpan]:
    """Return the ancestors of the views that are no views here; a missing one stands for the trace."""
    own = {(view.trace_id, view.span_id) for view in views}
    ancestors: ContextSpans = {}
    for view in views:
        key = (view.trace_id, view.parent_id or "")
        while key[1] and key not in own and key not in ancestors:
            ancestors[key] = context_spans.get(key) or ContextSpan(*key, None, {})
            key = (view.trace_id, ancestors[key].parent_id or "")
    return [*ancestors.values()]


def _batches(spans: Iterable[SpanView]) -> Iterator[list[SpanView]]:
    rest = iter(spans)
    while some := [*islice(rest, _TOGETHER)]:
        yield some


def _sender(arguments: dict[str, Any], environ: Mapping[str, str] | None = None) -> Forwarder:
    sender = forwarder(arguments, environ=environ)
    if not sender.enabled:
        raise ReplayError("nothing can be sent: POSTHOG_API_KEY (phc_...) or POSTHOG_HOST is not usable")
    return sender


ACTIONS: dict[str, Callable[[Path, Sequence[str], Say], bool]] = {
    "list": _list,
    "show": _show,
    "resend": _resend,
    "adopt": _adopt,
    "purge": _purge,
}
