"""Arguments and the environment become a frozen `Config`.

An invalid argument raises `OptionError`. An invalid environment variable is reported as an `OptionProblem`,
and the fallback or default of its option is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from otel_posthog.config.options import OPTIONS, PREFIX, Option
from otel_posthog.config.parsers import FALSE, TRUE

__all__ = ["Config", "OptionError", "OptionProblem", "Options", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options, resolved: the names of `OPTIONS` in the same order, where each is explained."""

    api_key: str | None
    endpoint: str
    events: frozenset[str]
    capture_content: bool
    private_features: frozenset[str]
    content_sample_rate: float
    mask: Callable[[Any, str, dict[str, Any]], Any] | None
    max_content_bytes: int | None
    media: str | Callable[[bytes, str | None], str | None]
    features: tuple[tuple[str, str, str], ...]
    baggage_send: frozenset[str]
    baggage_accept: frozenset[str]
    hash_user_ids: str | None
    sample_rate: Mapping[str, float]
    sample_keep_cost: float
    redact: Mapping[str, str | None] | None
    cost: str
    prices: Path | None
    price_updates: bool | str
    timeout: float
    compression: str
    capture_mode: str
    max_queue_bytes: int
    spool_dir: Path | None
    spool_max_bytes: int
    durability: str
    max_age: float
    flush_interval: float
    max_batch_bytes: int
    max_retry_seconds: float
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    client: Any


class Options(TypedDict, total=False):
    """All options as keyword arguments: the names of `OPTIONS` in the same order, where each is explained."""

    api_key: str | None
    endpoint: str | None
    events: str | Iterable[str] | None
    capture_content: bool | None
    private_features: str | Iterable[str] | None
    content_sample_rate: float | None
    mask: str | Callable[[Any, str, dict[str, Any]], Any] | None
    max_content_bytes: int | None
    media: str | Callable[[bytes, str | None], str | None] | None
    features: str | Mapping[str, Mapping[str, str]] | None
    baggage_send: str | Iterable[str] | None
    baggage_accept: str | Iterable[str] | None
    hash_user_ids: str | None
    sample_rate: float | str | Mapping[str, float] | None
    sample_keep_cost: float | None
    redact: str | Iterable[str | Mapping[str, str]] | Mapping[str, str] | None
    cost: str | None
    prices: str | Path | None
    price_updates: bool | str | None
    timeout: float | None
    compression: str | None
    capture_mode: str | None
    max_queue_bytes: int | None
    spool_dir: str | Path | None
    spool_max_bytes: int | None
    durability: str | None
    max_age: float | None
    flush_interval: float | None
    max_batch_bytes: int | None
    max_retry_seconds: float | None
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    client: Any


class OptionProblem(NamedTuple):
    """An environment variable that cannot be used. As text: one sentence for the log."""

    variable: str
    problem: str
    """A predicate: `is not usable: true or false is expected`."""
    consequence: str
    """The effect on an application, which runs on in spite of it."""

    def __str__(self) -> str:
        return f"{self.variable} {self.problem}; {self.consequence}"


class OptionError(ValueError):
    """An invalid argument. As text: `name: problem`."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.problem = problem
        """The kind of value that is expected."""


ReportProblem = Callable[[OptionProblem], object]


def _ignore(_problem: OptionProblem) -> None:
    pass


def resolve(
    arguments: Mapping[str, Any], environ: Mapping[str, str], report: ReportProblem = _ignore
) -> Config:
    """Return the options from `arguments`, else the `client` among them, else `environ`, else the defaults.

    An argument that is None is not given. `report` is called for each invalid environment variable.

    Raises:
        OptionError: an argument is invalid.
        TypeError: there is no option of that name.
    """
    unknown = set(arguments) - {option.name for option in OPTIONS}
    if unknown:
        raise TypeError(f"there is no option {min(unknown)!r}")
    parsed: dict[str, Any] = {}
    for option in OPTIONS:
        value = arguments.get(option.name)
        if value is not None:
            try:
                parsed[option.name] = option.parse(value)
            except ValueError as error:
                raise OptionError(option.name, str(error)) from None
    parsed = {**_from_client(parsed.get("client")), **parsed}
    values = {
        option.name: parsed[option.name] if option.name in parsed else _from_environ(option, environ, report)
        for option in OPTIONS
    }
    if "endpoint" not in parsed and values["endpoint"] == "":
        # After a mistyped address, prompts must not go to another PostHog than was intended.
        values |= {"endpoint": _ENDPOINT.default, "api_key": None}
    if values["durability"] == "always" and values["spool_dir"] is None:
        if "durability" in parsed:
            raise OptionError("durability", "always needs spool_dir, a directory to keep spans in")
        needs = f"is always, which needs {PREFIX}SPOOL_DIR"
        report(OptionProblem(PREFIX + "DURABILITY", needs, _IGNORED))
        values["durability"] = "overflow"
    if "capture_content" not in parsed and not _allows_content(environ, report):
        values["capture_content"] = False
    return Config(**values)


_ENDPOINT = next(option for option in OPTIONS if option.name == "endpoint")
_IGNORED = "it is ignored"


def _from_client(client: Any) -> dict[str, Any]:
    """Return the options that an existing `posthog.Posthog` decides: destination and privacy."""
    if client is None:
        return {}
    options: dict[str, Any] = {"endpoint": client.host or None, "api_key": client.api_key or None}
    if getattr(client, "privacy_mode", False):
        options["capture_content"] = False
    return {name: value for name, value in options.items() if value is not None or name == "api_key"}


def _from_environ(option: Option, environ: Mapping[str, str], report: ReportProblem) -> Any:
    for variable in option.variables:
        text = environ.get(variable, "")
        if not text.strip():  # OpenTelemetry: an empty variable is an unset one
            continue
        try:
            return option.parse(text)
        except ValueError as error:
            consequence = _IGNORED if option.fallback is None else option.fallback.consequence
            report(OptionProblem(variable, f"is not usable: {error}", consequence))
            if option.fallback is not None:
                return option.fallback.value
    return option.default


_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ALLOWS = TRUE | {"", "span_only", "event_only", "span_and_event"}
_FORBIDS = FALSE | {"no_content"}


def _allows_content(environ: Mapping[str, str], report: ReportProblem) -> bool:
    """Whether OpenTelemetry's own variable allows content. A word that it does not define forbids it."""
    word = environ.get(_CAPTURE, "").strip().lower()
    if word not in _ALLOWS | _FORBIDS:
        consequence = "no content is sent until it is corrected"
        report(OptionProblem(_CAPTURE, "is not usable: true or false is expected", consequence))
    return word in _ALLOWS
