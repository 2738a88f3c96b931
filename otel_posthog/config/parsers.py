"""Parsers of option values, one for each kind of value.

A parser takes an argument or the text of an environment variable and returns the value, or raises
`ValueError` with a text that states what is expected. `resolve` adds the name of the option.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel_posthog.conversion.context_attributes import ARGUMENT_PREFIXES, ARGUMENTS
from otel_posthog.conversion.privacy.personal_data import KINDS
from otel_posthog.runtime.install_hint import install_hint

EVENT_FAMILIES = frozenset({"ai", "llm_completion", "llm_generation"})

_YEAR = 31_536_000.0
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})


def project_key(value: object) -> str:
    """Return a PostHog project key."""
    text = value.strip() if isinstance(value, str) else ""
    if text and text.isascii() and text.isprintable() and " " not in text:
        return text
    raise ValueError("a project key such as phc_... is expected")


def secret(value: object) -> str:
    """Return a key of the application's own."""
    if isinstance(value, str) and len(value.strip()) >= 16:
        return value.strip()
    raise ValueError("a secret of 16 characters or more is expected")


def url(value: object) -> str:
    """Return an address with a scheme and a host."""
    text = value.strip() if isinstance(value, str) else ""
    with contextlib.suppress(ValueError):  # brackets that do not close, a port that is no number
        address = urlsplit(text)
        if address.scheme in {"http", "https"} and address.hostname and address.port != 0:
            return text
    raise ValueError("a URL such as https://us.i.posthog.com is expected")


def _listed(value: object) -> frozenset[str] | None:
    """Return the texts in a list, or between commas; None if `value` is neither."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, _LISTS) and all(isinstance(each, str) for each in value):
        return frozenset(each.strip() for each in value if each.strip())
    return None


_LISTS = (list, tuple, set, frozenset)


def families(value: object) -> frozenset[str]:
    """Return names of event families, from a list or a text with commas."""
    listed = _listed(value)
    if listed and listed <= EVENT_FAMILIES:
        return listed
    raise ValueError("expected a comma-separated list of: " + ", ".join(sorted(EVENT_FAMILIES)))


def redaction(value: object) -> dict[str, str | None]:
    """Return the patterns to redact by name; a built-in kind has None.

    The application's own patterns are regular expressions of `re`. One such as `(a+)+$` may take
    exponentially long, and nothing bounds that.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text[:1] in ("{", "[") else text.split(",")
        except ValueError:
            raise ValueError("names with commas, or JSON, are expected") from None
    named: dict[str, str | None] = {}
    for each in [value] if isinstance(value, Mapping) else value if isinstance(value, _LISTS) else ():
        if isinstance(each, Mapping):
            named |= {_own_name(name): _pattern(name, pattern) for name, pattern in each.items()}
        elif isinstance(each, str) and each.strip().lower() in KINDS:
            named[each.strip().lower()] = None
        elif each != "":
            raise ValueError(f"{each!r} is not one of: {', '.join(KINDS)}")
    if named:
        return named
    raise ValueError("expected one or more of: " + ", ".join(KINDS) + ", or patterns by name")


def _own_name(name: object) -> str:
    if isinstance(name, str) and re.fullmatch(r"\w[\w -]{0,40}", name) and name.lower() not in KINDS:
        return name
    raise ValueError(f"{name!r} is no name for a pattern of your own")


def _pattern(name: str, pattern: object) -> str:
    if not isinstance(pattern, str) or not pattern:
        raise ValueError(f"the pattern {name} is no regular expression: a text is expected")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {name} is no regular expression: {error}") from None
    return pattern


def boolean(value: object) -> bool:
    """Return a boolean, also from a word."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("true or false is expected")


def seconds(value: object) -> float:
    """Return a number of seconds, a year at most."""
    number = _number(value)
    if 0 < number <= _YEAR:
        return number
    raise ValueError("a number of seconds above zero, a year at most, is expected")


def queue_bytes(value: object) -> int:
    """Return the size of a queue in bytes."""
    return _bytes(value, 8192)


def spool_bytes(value: object) -> int:
    """Return the size of a spool in bytes."""
    return _bytes(value, 1024 * 1024)


def batch_bytes(value: object) -> int:
    """Return the size of a request body in bytes."""
    return _bytes(value, 8192, 16 * 1024 * 1024)  # PostHog takes bodies of 20 MB


def _bytes(value: object, least: int, most: int | None = None) -> int:
    """Return a whole number of bytes within bounds; the error states them."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    if text.isdecimal() and least <= int(text) and (most is None or int(text) <= most):
        return int(text)
    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"a whole number of bytes, {bounds}, is expected")


def sample_rates(value: object) -> dict[str, float]:
    """Return rates by feature, `*` for all others, from a number, a mapping or text such as `0.1,meme=1`."""
    rates: dict[str, float] = {}
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, str):
        parts = [part.rpartition("=") for part in value.split(",") if part.strip()]
        pairs = [(feature if sign else "*", rate) for feature, sign, rate in parts]
    else:
        pairs = [("*", value)]
    for feature, rate in pairs:
        name = feature.strip() if isinstance(feature, str) else ""
        number = _number(rate)
        if not name or name in rates or not 0 <= number <= 1:
            rates.clear()
            break
        rates[name] = number
    if not rates:
        raise ValueError("a rate from 0 to 1, or rates such as 0.1,meme=1 (each feature once), is expected")
    return {"*": 1.0, **rates}


def dollars(value: object) -> float:
    """Return an amount of US dollars."""
    number = _number(value)
    if 0 <= number < math.inf:
        return number
    raise ValueError("a number of US dollars, zero or more, is expected")


def _number(value: object) -> float:
    """Return a number, also from its text; NaN for anything else."""
    try:
        return (
            float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
        )
    except (ValueError, OverflowError):
        return math.nan


def field_bytes(value: object) -> int:
    """Return the size of one property in bytes."""
    return _bytes(value, 256)


def share(value: object) -> float:
    """Return a share, 0 to 1."""
    number = _number(value)
    if 0 <= number <= 1:
        return number
    raise ValueError("a number from 0 to 1 is expected")


def names(value: object) -> frozenset[str]:
    """Return names, from a list or a text with commas."""
    listed = _listed(value)
    if listed is not None:
        return listed
    raise ValueError("names, in a list or with commas between them, are expected")


def choice(*allowed: str) -> Callable[[object], str]:
    """Return a parser for one of these words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError("expected one of: " + ", ".join(allowed))

    return parse


def directory(value: object) -> Path:
    """Return the path of a directory, which need not exist yet."""
    if isinstance(value, (str, Path)) and str(value).strip() and not Path(value).expanduser().is_file():
        return Path(value).expanduser().absolute()
    raise ValueError("the path of a directory, made where it is missing, is expected")


_CAPTURE_MODES = {"v0": "v0", "legacy": "v0", "v1": "v1", "analytics_v1": "v1"}


def capture_mode(value: object) -> str:
    """Return the name of PostHog's wire, also from the names in its own SDKs."""
    mode = _CAPTURE_MODES.get(value.strip().lower()) if isinstance(value, str) else None
    if mode is not None:
        return mode
    raise ValueError("expected one of: " + ", ".join(_CAPTURE_MODES))


def compression(value: object) -> str:
    """Return the name of a compression, also from the names in PostHog's own SDKs."""
    word = value.strip().lower() if isinstance(value, str) else value
    name = choice("gzip", "none", "zstd")("none" if word == "identity" else word)
    if name == "zstd" and importlib.util.find_spec("zstandard") is None:
        raise ValueError(f"zstd needs: {install_hint('zstd')}")
    return name


def file(value: object) -> Path:
    """Return the path of an existing file."""
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return Path(value)
    raise ValueError("the path of an existing file is expected")


def updates(value: object) -> bool | str:
    """Return a boolean, or a URL."""
    with contextlib.suppress(ValueError):
        return boolean(value)
    with contextlib.suppress(ValueError):
        return url(value)
    raise ValueError("true, false or a URL is expected")


def a_callable(value: object) -> Callable[..., Any]:
    """Return the function that was passed."""
    if callable(value):
        return value
    raise ValueError("something that can be called is expected")


def context_names(value: object) -> frozenset[str]:
    """Return names of values of `ai_context`, from a list or a text with commas."""
    listed = _listed(value)
    prefixes = tuple(ARGUMENT_PREFIXES)
    for name in (None,) if listed is None else listed:
        if name is None or not (name in ARGUMENTS or (name.startswith(prefixes) and not name.endswith("."))):
            raise ValueError(
                f"expected a comma-separated list of: {', '.join(ARGUMENTS)}, group.<type>, "
                "property.<name>, flag.<key>"
            )
    return listed or frozenset()


def feature_rules(value: object) -> tuple[tuple[str, str, str], ...]:
    """Return (attribute, pattern, feature) of each rule, from `{attribute: {pattern: feature}}` or JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    rules: list[tuple[Any, Any, Any]] = []
    for attribute, features in value.items() if isinstance(value, Mapping) else ():
        for pattern, feature in features.items() if isinstance(features, Mapping) else ((None, None),):
            rules.append((attribute, pattern, feature))
    if value == ():  # none
        return ()
    if not rules or not all(isinstance(part, str) and part for rule in rules for part in rule):
        raise ValueError('expected attributes, patterns and features: {"http.route": {"/memes/*": "meme"}}')
    return tuple(rules)


def media(value: object) -> str | Callable[..., Any]:
    """Return a word for the form of media, or a function, also from its name."""
    if callable(value):
        return value
    word = value.strip() if isinstance(value, str) else ""
    if word.lower() in {"placeholder", "full"}:
        return word.lower()
    named = _named(word)
    if named is not None:
        return named
    raise ValueError("placeholder, full, or a function such as app.media:store is expected")


def function(value: object) -> Callable[..., Any]:
    """Return a function, also from its name."""
    named = value if callable(value) else _named(value.strip()) if isinstance(value, str) else None
    if named is not None:
        return named
    raise ValueError("a function such as app.privacy:mask is expected")


def _named(word: str) -> Callable[..., Any] | None:
    """Return the function of a name such as `app.media:store`; None if it is no such name, or no function."""
    module, _, name = word.partition(":")
    if not module or not name:
        return None
    try:
        named = attrgetter(name)(importlib.import_module(module))
    except Exception as error:  # noqa: BLE001  # importing a module may raise anything
        raise ValueError(f"{word} cannot be imported ({type(error).__name__})") from None
    return named if callable(named) else None


def drop_property(_value: object, _path: str, _event: object) -> None:
    """Drop the property: the `mask` in place of one that is not usable."""


def client(value: object) -> Any:
    """Return a `posthog.Posthog`, or an object with its interface."""
    if all(hasattr(value, name) for name in ("api_key", "host", "capture")):
        return value
    raise ValueError("a posthog.Posthog client is expected")
