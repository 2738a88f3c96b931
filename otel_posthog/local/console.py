"""One event as one readable line: time, event, feature, model, tokens, cost, latency, user. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_posthog.local import timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import tzinfo

    Properties = Mapping[str, Any]

ABSENT = "-"

_RED, _DIM, _RESET = "\x1b[31m", "\x1b[2m", "\x1b[0m"


def plain(value: object) -> str:
    """Return `value` as text that cannot move the cursor, colour the terminal or break the line."""
    return "".join(
        "?" if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in str(value)
    )


def columns_of(text: str) -> int:
    """Return the terminal columns of `text`: two for a wide character, none for a combining one."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return `text`, cut or filled to exactly `width` terminal columns."""
    if columns_of(text) > width:
        while columns_of(text) > width - 1:
            text = text[:-1]
        text += "~"
    space = " " * (width - columns_of(text))
    return space + text if right else text + space


def number(value: object) -> float | None:
    """Return the value if it is a finite number, else None: foreign properties may hold anything."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def first(properties: Properties, *names: str) -> Any:
    """Return the first of these properties that is present, else None."""
    return next((properties[name] for name in names if properties.get(name) is not None), None)


def _time(event: Mapping[str, Any], _: Properties, zone: tzinfo | None) -> str | None:
    moment = timestamps.parse(event.get("timestamp"))
    # A naive time is shown as it stands; there is nothing to convert it from.
    shown = moment.astimezone(zone) if moment is not None and moment.tzinfo else moment
    return None if shown is None else shown.strftime("%H:%M:%S.%f")[:-3]


def _tokens(event: Mapping[str, Any], properties: Properties, _: tzinfo | None) -> str | None:
    counts = (
        number(first(properties, "$ai_input_tokens", "prompt_tokens", "input_tokens")),
        number(first(properties, "$ai_output_tokens", "completion_tokens", "output_tokens")),
    )
    if counts == (None, None):
        return None
    # Before a call, and for most failed ones, only an estimate is known.
    estimated = event.get("event") in {"llm_completion_requested", "llm_completion_failed"}
    estimate = "~" if estimated and counts[1] is None else ""
    return estimate + "/".join(ABSENT if count is None else f"{count:.0f}" for count in counts)


def _cost(_: Mapping[str, Any], properties: Properties, __: tzinfo | None) -> str | None:
    cost = number(first(properties, "$ai_total_cost_usd", "cost_usd", "estimated_cost"))
    return None if cost is None else f"${cost:.6f}"


def latency_ms(properties: Properties) -> float | None:
    """Return the latency in milliseconds, from whichever property holds it."""
    seconds = number(properties.get("$ai_latency"))
    return seconds * 1000 if seconds is not None else number(properties.get("latency_ms"))


def _latency(_: Mapping[str, Any], properties: Properties, __: tzinfo | None) -> str | None:
    milliseconds = latency_ms(properties)
    return None if milliseconds is None else f"{milliseconds:.0f} ms"


def _user(event: Mapping[str, Any], properties: Properties, _: tzinfo | None) -> str | None:
    # A personless event's distinct id is a chat or a trace, no user.
    personless = properties.get("$process_person_profile") is False
    user = first(properties, "user_id")
    return user if user is not None else None if personless else event.get("distinct_id")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, its width in terminal columns, and the function that makes its text."""

    head: str
    width: int
    text: Callable[[Mapping[str, Any], Properties, tzinfo | None], object]
    right: bool = False


# Widths hold the longest of our own names: llm_completion_requested, gemini-3-pro-image-preview.
COLUMNS = (
    Column("time", 12, _time),
    Column("event", 24, lambda event, _, __: event.get("event")),
    Column("feature", 14, lambda _, properties, __: properties.get("feature")),
    Column("model", 26, lambda _, properties, __: first(properties, "$ai_model", "model")),
    Column("tokens in/out", 13, _tokens, right=True),
    Column("cost", 11, _cost, right=True),
    Column("latency", 10, _latency, right=True),
    Column("user", 20, _user),
)


def head() -> str:
    """Return the line of column heads."""
    return "  ".join(fit(column.head, column.width, right=column.right) for column in COLUMNS).rstrip()


def line(event: Mapping[str, Any], *, color: bool = False, zone: tzinfo | None = None) -> str:
    """Return the event as one line, with `-` for each absent value.

    `zone` is the time zone of the time column, None for this machine's. With `color` a failure is red and a
    call that has just begun is dim. After the columns, a failure has its type.
    """
    raw = event.get("properties")
    properties: Properties = raw if isinstance(raw, dict) else {}
    cells = []
    for column in COLUMNS:
        value = column.text(event, properties, zone)
        text = ABSENT if value is None or value == "" else plain(value)
        cells.append(fit(text, column.width, right=column.right))
    error = error_of(event, properties)
    text = (
        "  ".join(cells).rstrip()
        if error is None
        else f"{'  '.join(cells)}  ! {fit(plain(error), 40)}".rstrip()
    )
    shade = _RED if error is not None else _DIM if event.get("event") == "llm_completion_requested" else ""
    return f"{shade}{text}{_RESET}" if color and shade else text


def error_of(event: Mapping[str, Any], properties: Properties) -> str | None:
    """Return the type of the failure that the event reports, or None."""
    failed = event.get("event") == "llm_completion_failed" or properties.get("$ai_is_error") in {True, "true"}
    return str(first(properties, "$ai_error_type", "error_type") or "error") if failed else None
