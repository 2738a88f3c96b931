"""Every option, once: its name, its environment variables, its default and what it means.

The table `OPTIONS` is the only place an option is declared; arguments, environment variables and the
table in the docs all follow from it. `resolve` turns arguments and an environment into a frozen
`Config`. A wrong argument raises `ValueError` naming the option; a wrong environment value is reported
through `warn` and the next source is used instead.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from otel_posthog.config import parsers as values

__all__ = ["OPTIONS", "PREFIX", "Config", "Option", "Options", "resolve"]

PREFIX = "OTEL_EXPORTER_POSTHOG_"


@dataclass(frozen=True, slots=True)
class Option:
    """One option: an argument, the environment variable `OTEL_EXPORTER_POSTHOG_<NAME>`, or both."""

    name: str
    parse: Callable[[object], Any]
    default: Any
    meaning: str
    fallbacks: tuple[str, ...] = ()
    """Other environment variables that are read when ours is not set."""
    shown_default: str = ""
    argument_only: bool = False
    instead: tuple[Any, str] | None = None
    """What holds where the environment's value is not usable and the default would send too much, in a
    value and in words."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set this option, the first set one wins."""
        return () if self.argument_only else (PREFIX + self.name.upper(), *self.fallbacks)


OPTIONS: tuple[Option, ...] = (
    Option(
        "api_key",
        values.project_key,
        None,
        "The key of your PostHog project (`phc_...`).",
        fallbacks=("POSTHOG_API_KEY", "POSTHOG_PROJECT_API_KEY"),
        shown_default="none: nothing is sent, one warning says so",
    ),
    Option(
        "endpoint",
        values.url,
        "https://us.i.posthog.com",
        "Where PostHog is; app addresses are mapped to ingestion addresses.",
        fallbacks=("POSTHOG_HOST",),
        instead=("", "until it is, nothing is sent"),
    ),
    Option(
        "events",
        values.families,
        frozenset({"ai", "llm_completion"}),
        "Which events to send: `ai` (`$ai_generation` and its family), `llm_completion` "
        "(requested, success, failed), `llm_generation` (one flat event a call).",
        shown_default="ai,llm_completion",
    ),
    Option(
        "capture_content",
        values.boolean,
        True,
        "Whether prompts, answers, tool arguments and error texts leave the process. Where it is false only "
        "figures, identifiers, known words and your own context and properties do. Also off where "
        "`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` says no.",
        shown_default="true",
        instead=(False, "until it is, no content is sent"),
    ),
    Option(
        "private_features",
        values.names,
        frozenset(),
        "Features (`ai_context(feature=...)`), in a list or with commas, whose calls are sent as with "
        "`capture_content=False`.",
        shown_default="none",
    ),
    Option(
        "content_sample_rate",
        values.share,
        1.0,
        "The share of traces, 0 to 1, whose content is sent; all other events are sent as with "
        "`capture_content=False`. The trace's id decides, alike in every process.",
        instead=(0.0, "until it is, no content is sent"),
    ),
    Option(
        "mask",
        values.function,
        None,
        "A function that gets `(value, path, event)` of each content and custom property and returns what is "
        "sent in its place, given as such or as `module:function`; None leaves the property out, and so does "
        "an exception, or more than a second.",
        instead=(values.nothing, "until it is, no property that it would get is sent"),
    ),
    Option(
        "max_content_bytes",
        values.field_bytes,
        None,
        "The most bytes, 256 or more, that one property with content may have as JSON; what is more is cut, "
        "with a marker.",
        shown_default="none but PostHog's limits of an event",
    ),
    Option(
        "media",
        values.media,
        "placeholder",
        "What stands in an event for base64 images, audio and files: a `placeholder` with kind, MIME "
        "type and size, the data in `full` (up to PostHog's 8 MiB an event), or the URL that a function "
        "returns for `(data, mime_type)`, given as such or as `module:function`; where that returns None, or "
        "fails, a placeholder.",
    ),
    Option(
        "features",
        values.feature_rules,
        (),
        "Which feature a call is of, where nothing says it, by attributes of the spans above: "
        '`{"http.route": {"/memes/*": "meme"}, "messaging.destination.name": {"*": "{}"}}`; patterns as in a '
        "shell, `{}` is the attribute's value. They are tried in the order in which they stand, the first "
        "that fits counts, on the outermost span where one does. As JSON in the environment.",
        shown_default="none",
    ),
    Option(
        "baggage_send",
        values.context_names,
        frozenset(),
        "What of `ai_context` goes to other services in OpenTelemetry's baggage, with every request that is "
        "traced: `feature`, `user_id`, `chat_id` ..., `group.<type>`, `property.<name>`, `flag.<key>`.",
        shown_default="none",
    ),
    Option(
        "baggage_accept",
        values.context_names,
        frozenset(),
        "What of such baggage is believed, by the same names. Whoever can send a request can send baggage.",
        shown_default="none",
    ),
    Option(
        "hash_user_ids",
        values.secret,
        None,
        "A secret of 16 characters or more: distinct ids become pseudonyms (HMAC-SHA-256 with it), names of "
        "users stay out. The same secret gives the same pseudonyms in every service.",
        instead=(secrets.token_hex(32), "until it is, users have pseudonyms of this process alone"),
    ),
    Option(
        "sample_rate",
        values.sample_rates,
        {"*": 1.0},
        "Which part of all traces is kept, from 0 to 1, also by feature: `0.1,meme=1`, or as an argument "
        '`{"*": 0.1, "meme": 1.0}`. Whole traces, the same in every process; failed calls, expensive ones '
        "and feedback always; `$sample_rate` says how likely an event was kept.",
        shown_default="1: all",
    ),
    Option(
        "sample_keep_cost",
        values.dollars,
        0.5,  # twice the dearest single image in the price table, and a hundred turns of a chat and more
        "US dollars; a call that costs more is kept whatever `sample_rate` says.",
    ),
    Option(
        "redact",
        values.redaction,
        None,
        "What is masked in content, error texts and properties: `email`, `phone`, `card`, `iban`, `ssn`,"
        ' `ip`, `secret`, in a list or with commas, and patterns of your own, `{"employee": "E[0-9]{6}"}` '
        "(JSON in the environment). Keys and tokens of providers are masked in any case.",
        shown_default="none but keys of providers",
        instead=(dict.fromkeys(values.REDACTABLE), "until it is, every built-in kind is masked"),
    ),
    Option(
        "cost",
        values.choice("client", "server"),
        "client",
        "Who works out what a call cost: we (`client`, offline price table) or PostHog (`server`).",
    ),
    Option(
        "prices", values.file, None, "A JSON or TOML file of your own prices.", shown_default="built-in table"
    ),
    Option(
        "price_updates",
        values.updates,
        False,
        "Whether new prices are fetched at the start and once a day, from where `genai-prices` has them on"
        " GitHub (`true`) or from a URL of yours; used within half an hour. Nothing is fetched without it.",
        shown_default="false",
    ),
    Option(
        "timeout",
        values.seconds,
        10.0,
        "Seconds that one request to PostHog, one `export()`, and the last sending at the end of the process "
        "may take.",
    ),
    Option(
        "compression",
        values.compression,
        "gzip",
        "How request bodies are compressed: `gzip`, `none`, or `zstd` (extra `zstd`; on the v1 wire, else"
        " `gzip`).",
        fallbacks=("POSTHOG_CAPTURE_COMPRESSION",),
    ),
    Option(
        "capture_mode",
        values.capture_mode,
        "v0",
        "PostHog's wire for events that are no AI events: `v0`, or `v1`, which answers for each event.",
        fallbacks=("POSTHOG_CAPTURE_MODE",),
    ),
    Option(
        "max_queue_bytes",
        values.queue_bytes,
        64 * 1024 * 1024,
        "Bytes of spans that may wait in memory; beyond it the oldest go to the spool, or, without one, are"
        " dropped and counted.",
        shown_default="67108864 (64 MiB)",
    ),
    Option(
        "spool_dir",
        values.directory,
        None,
        "A directory for what cannot be sent now. Processes may share it; each sends what it finds there.",
        shown_default="none: what waits is in memory only",
    ),
    Option(
        "spool_max_bytes",
        values.spool_bytes,
        1024**3,
        "Bytes that may wait there, 1048576 (1 MiB) or more; beyond it the oldest are dropped and counted.",
        shown_default="1073741824 (1 GiB)",
    ),
    Option(
        "durability",
        values.choice("overflow", "always"),
        "overflow",
        "`overflow`: to the spool goes what finds no room in memory, could not be sent within"
        " `max_retry_seconds`, or is left at the end. `always`: a span is there before its end returns.",
    ),
    Option(
        "max_age",
        values.seconds,
        30 * 86_400.0,
        "Seconds after which what is in the spool is not worth sending: PostHog keeps AI events for 30 days.",
        shown_default="2592000 (30 days)",
    ),
    Option("flush_interval", values.seconds, 1.0, "Seconds that a span waits for company before it is sent."),
    Option(
        "max_batch_bytes",
        values.batch_bytes,
        4 * 1024 * 1024,
        "The size of a request body, before compression, that a batch aims at.",
        shown_default="4194304 (4 MiB)",
    ),
    Option(
        "max_retry_seconds",
        values.seconds,
        300.0,
        "Seconds for which a batch that PostHog does not take is tried before it goes to the spool; without"
        " one it waits in memory and is tried again.",
    ),
    Option(
        "before_send",
        values.a_callable,
        None,
        "A function that gets each event as a dict and returns it, changed or not, or None to drop it.",
        argument_only=True,
    ),
    Option(
        "client",
        values.client,
        None,
        "An existing `posthog.Posthog` client, whose key, host, `privacy_mode`, `super_properties`, "
        "`before_send`, `disabled` and `historical_migration` are used.",
        argument_only=True,
    ),
)


_ENDPOINT = next(option for option in OPTIONS if option.name == "endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All options, resolved. The fields are the names in `OPTIONS`; what they mean stands there."""

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
    """The options as keyword arguments. What they mean stands in `OPTIONS`."""

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


def resolve(
    arguments: Mapping[str, Any], environ: Mapping[str, str], warn: Callable[[str, str], None]
) -> Config:
    """Arguments over the client over the environment over defaults.

    `arguments` that are None count as not given. `warn(variable, sentence)` is called for an
    environment value that cannot be used.

    Raises:
        ValueError: an argument is wrong; the text names it and says what is expected.
        TypeError: there is no option of that name.
    """
    unknown = set(arguments) - {option.name for option in OPTIONS}
    if unknown:
        raise TypeError(f"there is no option {min(unknown)!r}")
    given: dict[str, Any] = {}
    for option in OPTIONS:
        value = arguments.get(option.name)
        if value is not None:
            try:
                given[option.name] = option.parse(value)
            except ValueError as error:
                raise ValueError(f"{option.name}: {error}") from None
    given = {**_of_client(given.get("client")), **given}
    values = {
        option.name: given[option.name] if option.name in given else _from_environ(option, environ, warn)
        for option in OPTIONS
    }
    if "endpoint" not in given and values["endpoint"] == "":
        # Prompts go where they were meant to go, or nowhere: not to another PostHog for a mistyped address.
        values |= {"endpoint": _ENDPOINT.default, "api_key": None}
    if values["durability"] == "always" and values["spool_dir"] is None:
        if "durability" in given:
            raise ValueError("durability: always needs spool_dir, a directory to keep spans in")
        warn(
            PREFIX + "DURABILITY",
            f"{PREFIX}DURABILITY is always, which needs {PREFIX}SPOOL_DIR; it is ignored",
        )
        values["durability"] = "overflow"
    if "capture_content" not in given and not _lets_content_out(environ, warn):
        values["capture_content"] = False
    return Config(**values)


def _of_client(client: Any) -> dict[str, Any]:
    """What an existing `posthog.Posthog` decides about where events go and what they may hold."""
    if client is None:
        return {}
    taken: dict[str, Any] = {"endpoint": client.host or None, "api_key": client.api_key or None}
    if getattr(client, "privacy_mode", False):
        taken["capture_content"] = False
    return {name: value for name, value in taken.items() if value is not None or name == "api_key"}


def _from_environ(option: Option, environ: Mapping[str, str], warn: Callable[[str, str], None]) -> Any:
    for variable in option.variables:
        text = environ.get(variable, "")
        if not text.strip():  # OpenTelemetry: an empty variable is an unset one
            continue
        try:
            return option.parse(text)
        except ValueError as error:
            value, words = option.instead or (None, "it is ignored")
            warn(variable, f"{variable} is not usable: {error}; {words}")
            if option.instead is not None:
                return value
    return option.default


_CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURED = values.TRUE | {"", "span_only", "event_only", "span_and_event"}


def _lets_content_out(environ: Mapping[str, str], warn: Callable[[str, str], None]) -> bool:
    """Whether OpenTelemetry's own variable lets content be captured; a word it does not know does not."""
    word = environ.get(_CAPTURE, "").strip().lower()
    if word not in _CAPTURED | values.FALSE | {"no_content"}:
        warn(
            _CAPTURE, f"{_CAPTURE} is not usable: true or false is expected; until it is, no content is sent"
        )
    return word in _CAPTURED
