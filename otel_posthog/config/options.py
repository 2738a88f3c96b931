"""The table of options: name, environment variables, default and meaning, one row each.

An option is declared here and nowhere else. Arguments, environment variables and the table in
`docs/configuration.md` follow from `OPTIONS`; `resolve.Config` and `resolve.Options` give each its type.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from otel_posthog.config import parsers
from otel_posthog.conversion.privacy.personal_data import KINDS

__all__ = ["OPTIONS", "PREFIX", "Fallback", "Option"]

PREFIX = "OTEL_EXPORTER_POSTHOG_"


class Fallback(NamedTuple):
    """The value that replaces an invalid one if the default would send more than was intended."""

    value: Any
    consequence: str
    """The effect, for the log."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option: an argument, the environment variable `OTEL_EXPORTER_POSTHOG_<NAME>`, or both."""

    name: str
    parse: Callable[[object], Any]
    """Returns the value of an argument or an environment variable; `ValueError` states the kind expected."""
    default: Any
    meaning: str
    other_variables: tuple[str, ...] = ()
    """Environment variables that are read, in this order, if ours is not set."""
    shown_default: str = ""
    argument_only: bool = False
    fallback: Fallback | None = None
    """For an invalid value in the environment; without one the default is used."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set this option. The first one that is set wins."""
        return () if self.argument_only else (PREFIX + self.name.upper(), *self.other_variables)


OPTIONS: tuple[Option, ...] = (
    Option(
        "api_key",
        parsers.project_key,
        None,
        "The key of your PostHog project (`phc_...`).",
        other_variables=("POSTHOG_API_KEY", "POSTHOG_PROJECT_API_KEY"),
        shown_default="none: nothing is sent, and one warning is logged",
    ),
    Option(
        "endpoint",
        parsers.url,
        "https://us.i.posthog.com",
        "PostHog's address. Addresses of the app, such as `https://eu.posthog.com`, are mapped to those of "
        "ingestion.",
        other_variables=("POSTHOG_HOST",),
        fallback=Fallback("", "nothing is sent until it is corrected"),
    ),
    Option(
        "events",
        parsers.families,
        frozenset({"ai", "llm_completion"}),
        "The families of events to send: `ai` (`$ai_generation` and its kin), `llm_completion` (requested, "
        "success, failed), `llm_generation` (one flat event per call). A list, or names with commas.",
        shown_default="ai,llm_completion",
    ),
    Option(
        "capture_content",
        parsers.boolean,
        True,
        "Whether prompts, answers, tool arguments and error texts leave the process. If false, only "
        "numbers, identifiers, known words, and your own context and properties do. Also false if "
        "`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` turns content off.",
        shown_default="true",
        fallback=Fallback(False, "no content is sent until it is corrected"),
    ),
    Option(
        "private_features",
        parsers.names,
        frozenset(),
        "Features (`ai_context(feature=...)`) whose calls are sent as with `capture_content=False`. A list, "
        "or names with commas.",
        shown_default="none",
    ),
    Option(
        "content_sample_rate",
        parsers.share,
        1.0,
        "The share of traces, 0 to 1, that are sent with content; events of all others are sent as with "
        "`capture_content=False`. The trace id decides, so every process decides alike.",
        fallback=Fallback(0.0, "no content is sent until it is corrected"),
    ),
    Option(
        "mask",
        parsers.function,
        None,
        "A function, or its name as `module:function`. It gets `(value, path, event)` for each property "
        "with content and each custom property, and returns the value to send. The property is dropped if "
        "it returns None, raises, or takes more than a second.",
        fallback=Fallback(
            parsers.drop_property, "no property that it would get is sent until it is corrected"
        ),
    ),
    Option(
        "max_content_bytes",
        parsers.field_bytes,
        None,
        "The largest size in bytes of one property with content, as JSON; 256 or more. Longer ones are cut, "
        "with a marker.",
        shown_default="none but PostHog's limits of an event",
    ),
    Option(
        "media",
        parsers.media,
        "placeholder",
        "The form in which base64 images, audio and files are sent: `placeholder` (kind, MIME type and "
        "size), `full` (the data, up to PostHog's 8 MiB per event), or a function, also by name as "
        "`module:function`, that gets `(data, mime_type)` and returns a URL. A placeholder is sent if it "
        "returns None or raises.",
    ),
    Option(
        "features",
        parsers.feature_rules,
        (),
        "Rules that name the feature of a call without one, by attributes of the spans above it: "
        '`{"http.route": {"/memes/*": "meme"}, "messaging.destination.name": {"*": "{}"}}`. Patterns are '
        "those of a shell; `{}` is the attribute's value. The outermost span that a rule matches decides; "
        "if several rules match it, the first does. JSON in the environment.",
        shown_default="none",
    ),
    Option(
        "baggage_send",
        parsers.context_names,
        frozenset(),
        "Values of `ai_context` to send to other services in OpenTelemetry's baggage, with every traced "
        "request: `feature`, `user_id`, `chat_id` ..., `group.<type>`, `property.<name>`, `flag.<key>`.",
        shown_default="none",
    ),
    Option(
        "baggage_accept",
        parsers.context_names,
        frozenset(),
        "Values of such baggage to accept from other services, by the same names. Anyone who can send a "
        "request can send baggage.",
        shown_default="none",
    ),
    Option(
        "hash_user_ids",
        parsers.secret,
        None,
        "A secret of 16 characters or more. Distinct ids become pseudonyms (HMAC-SHA-256 with the secret), "
        "and names of users are not sent. Services with the same secret use the same pseudonyms.",
        fallback=Fallback(
            secrets.token_hex(32), "users have pseudonyms of this process alone until it is corrected"
        ),
    ),
    Option(
        "sample_rate",
        parsers.sample_rates,
        {"*": 1.0},
        "The share of traces to keep, 0 to 1, for all features or for each: `0.1,meme=1`, or as an argument "
        '`{"*": 0.1, "meme": 1.0}`. A trace is kept whole or not at all, alike in every process. Failed '
        "calls, expensive calls and feedback are always kept. `$sample_rate` is the probability that an "
        "event was kept.",
        shown_default="1: all",
    ),
    Option(
        "sample_keep_cost",
        parsers.dollars,
        0.5,  # twice the dearest single image in the price table, and a hundred turns of a chat and more
        "US dollars. A call that costs more is kept, whatever `sample_rate` is.",
    ),
    Option(
        "redact",
        parsers.redaction,
        None,
        "Data to redact in content, error texts and properties: `email`, `phone`, `card`, `iban`, `ssn`, "
        '`ip`, `secret`, as a list or with commas, and patterns of your own, `{"employee": "E[0-9]{6}"}` '
        "(JSON in the environment). Keys and tokens of providers are always redacted.",
        shown_default="none but keys of providers",
        fallback=Fallback(dict.fromkeys(KINDS), "every built-in kind is redacted until it is corrected"),
    ),
    Option(
        "cost",
        parsers.choice("client", "server"),
        "client",
        "Who computes the cost of a call: `client` (this package, from an offline price table) or `server` "
        "(PostHog).",
    ),
    Option(
        "prices",
        parsers.file,
        None,
        "A JSON or TOML file with prices of your own.",
        shown_default="built-in table",
    ),
    Option(
        "price_updates",
        parsers.updates,
        False,
        "Whether to fetch new prices at the start and once a day: `true` from the repository of "
        "`genai-prices` on GitHub, or a URL of yours. They are used within half an hour.",
        shown_default="false",
    ),
    Option(
        "timeout",
        parsers.seconds,
        10.0,
        "The most seconds for one request to PostHog, for one `export()`, and for the last flush at the end "
        "of the process.",
    ),
    Option(
        "compression",
        parsers.compression,
        "gzip",
        "The compression of request bodies: `gzip`, `none` or `zstd`. `zstd` needs the extra `zstd` and the "
        "v1 wire; v0 requests use `gzip` instead.",
        other_variables=("POSTHOG_CAPTURE_COMPRESSION",),
    ),
    Option(
        "capture_mode",
        parsers.capture_mode,
        "v0",
        "PostHog's wire for events other than AI events: `v0`, or `v1`, whose answer has a result for each "
        "event.",
        other_variables=("POSTHOG_CAPTURE_MODE",),
    ),
    Option(
        "max_queue_bytes",
        parsers.queue_bytes,
        64 * 1024 * 1024,
        "The most bytes of spans in memory. Beyond it the oldest go to the spool; without a spool they are "
        "dropped and counted.",
        shown_default="67108864 (64 MiB)",
    ),
    Option(
        "spool_dir",
        parsers.directory,
        None,
        "A directory for spans and events that cannot be sent now. Processes may share it; each sends what "
        "the others left.",
        shown_default="none: everything waits in memory",
    ),
    Option(
        "spool_max_bytes",
        parsers.spool_bytes,
        1024**3,
        "The most bytes in the spool, 1048576 (1 MiB) or more. Beyond it the oldest entries are dropped and "
        "counted.",
        shown_default="1073741824 (1 GiB)",
    ),
    Option(
        "durability",
        parsers.choice("overflow", "always"),
        "overflow",
        "When a span goes to the spool. `overflow`: if there is no room in memory, if it could not be sent "
        "within `max_retry_seconds`, or if it is left at the end. `always`: before the call that ends the "
        "span returns.",
    ),
    Option(
        "max_age",
        parsers.seconds,
        30 * 86_400.0,
        "Seconds after which an entry of the spool is no longer sent. PostHog keeps AI events for 30 days.",
        shown_default="2592000 (30 days)",
    ),
    Option(
        "flush_interval",
        parsers.seconds,
        1.0,
        "The most seconds that a span waits for others before its batch is sent.",
    ),
    Option(
        "max_batch_bytes",
        parsers.batch_bytes,
        4 * 1024 * 1024,
        "The target size of a request body in bytes, before compression.",
        shown_default="4194304 (4 MiB)",
    ),
    Option(
        "max_retry_seconds",
        parsers.seconds,
        300.0,
        "The most seconds to retry a batch before it goes to the spool. Without a spool it stays in memory "
        "and is retried later.",
    ),
    Option(
        "before_send",
        parsers.a_callable,
        None,
        "A function that gets each event as a dict and returns it, changed or not, or None to drop it.",
        argument_only=True,
    ),
    Option(
        "client",
        parsers.client,
        None,
        "An existing `posthog.Posthog` client. Its key, host, `privacy_mode`, `super_properties`, "
        "`before_send`, `disabled` and `historical_migration` are used.",
        argument_only=True,
    ),
)
