"""What an option may be: each function reads an argument or an environment's text, or raises ValueError.

The text of the error says what is expected; `config` says of which option.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EVENT_FAMILIES = frozenset({"ai", "llm_completion", "llm_generation"})

_YEAR = 31_536_000.0
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})


def project_key(value: object) -> str:
    """A PostHog project key."""
    text = value.strip() if isinstance(value, str) else ""
    if text and text.isascii() and text.isprintable() and " " not in text:
        return text
    raise ValueError("a project key such as phc_... is expected")


def secret(value: object) -> str:
    """A key of the application's own."""
    if isinstance(value, str) and len(value.strip()) >= 16:
        return value.strip()
    raise ValueError("a secret of 16 characters or more is expected")


def url(value: object) -> str:
    """An address with a scheme and a host."""
    text = value.strip() if isinstance(value, str) else ""
    with contextlib.suppress(ValueError):  # brackets that do not close, a port that is no number
        address = urlsplit(text)
        if address.scheme in {"http", "https"} and address.hostname and address.port != 0:
            return text
    raise ValueError("a URL such as https://us.i.posthog.com is expected")


def families(value: object) -> frozenset[str]:
    """Names of event families, in a list or with commas."""
    if isinstance(value, str):
        names = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        names = list(value)
    else:
        names = []
    if names and all(isinstance(name, str) for name in names) and EVENT_FAMILIES.issuperset(names):
        return frozenset(names)
    raise ValueError("expected a comma-separated list of: " + ", ".join(sorted(EVENT_FAMILIES)))


def boolean(value: object) -> bool:
    """Yes or no."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise ValueError("true or false is expected")


def seconds(value: object) -> float:
    """A number of seconds, a year at most."""
    try:
        number = float(value) if isinstance(value, str | int | float) and value is not True else math.nan
    except ValueError:
        number = math.nan
    if 0 < number <= _YEAR:
        return number
    raise ValueError("a number of seconds above zero, a year at most, is expected")


def number_of_bytes(value: object) -> int:
    """A whole number of bytes."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    if text.isdecimal() and int(text) >= 8192:
        return int(text)
    raise ValueError("a whole number of bytes, at least 8192, is expected")


def spool_bytes(value: object) -> int:
    """The size of a spool."""
    number = number_of_bytes(value)
    if number >= 1024 * 1024:
        return number
    raise ValueError("a whole number of bytes, at least 1048576, is expected")


def batch_bytes(value: object) -> int:
    """The size of a request body."""
    number = number_of_bytes(value)
    if number <= 16 * 1024 * 1024:  # PostHog takes bodies of 20 MB
        return number
    raise ValueError("a whole number of bytes, from 8192 to 16777216, is expected")


def field_bytes(value: object) -> int:
    """The size of one property."""
    text = str(value).strip() if isinstance(value, str | int) else ""
    if text.isdecimal() and int(text) >= 256:
        return int(text)
    raise ValueError("a whole number of bytes, at least 256, is expected")


def share(value: object) -> float:
    """A part of the whole."""
    try:
        number = float(value) if isinstance(value, str | int | float) and value is not True else math.nan
    except ValueError:
        number = math.nan
    if 0 <= number <= 1:
        return number
    raise ValueError("a number from 0 to 1 is expected")


def names(value: object) -> frozenset[str]:
    """Names, in a list or with commas."""
    if isinstance(value, str):
        value = value.split(",")
    if isinstance(value, list | tuple | set | frozenset) and all(isinstance(name, str) for name in value):
        return frozenset(name.strip() for name in value if name.strip())
    raise ValueError("names, in a list or with commas between them, are expected")


def choice(*allowed: str) -> Callable[[object], str]:
    """One of some words."""

    def parse(value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in allowed:
            return value.strip().lower()
        raise ValueError("expected one of: " + ", ".join(allowed))

    return parse


def directory(value: object) -> Path:
    """A directory that is there or can be made."""
    if isinstance(value, (str, Path)) and str(value).strip() and not Path(value).expanduser().is_file():
        return Path(value).expanduser().absolute()
    raise ValueError("the path of a directory, made where it is missing, is expected")


_CAPTURE_MODES = {"v0": "v0", "legacy": "v0", "v1": "v1", "analytics_v1": "v1"}


def capture_mode(value: object) -> str:
    """PostHog's wire, also by the names of its own SDKs."""
    found = _CAPTURE_MODES.get(value.strip().lower()) if isinstance(value, str) else None
    if found is not None:
        return found
    raise ValueError("expected one of: " + ", ".join(_CAPTURE_MODES))


def compression(value: object) -> str:
    """A compression, also by the names of PostHog's own SDKs."""
    word = value.strip().lower() if isinstance(value, str) else value
    found = choice("gzip", "none", "zstd")("none" if word == "identity" else word)
    if found == "zstd" and importlib.util.find_spec("zstandard") is None:
        raise ValueError("zstd needs: pip install 'otel-posthog[zstd]'")
    return found


def file(value: object) -> Path:
    """A file that is there."""
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return Path(value)
    raise ValueError("the path of an existing file is expected")


def a_callable(value: object) -> Callable[..., Any]:
    """A function."""
    if callable(value):
        return value
    raise ValueError("something that can be called is expected")


def media(value: object) -> str | Callable[..., Any]:
    """What becomes of media: a word, or a function, also by its name."""
    if callable(value):
        return value
    word = value.strip() if isinstance(value, str) else ""
    if word.lower() in {"placeholder", "full"}:
        return word.lower()
    found = _named(word)
    if found is not None:
        return found
    raise ValueError("placeholder, full, or a function such as app.media:store is expected")


def function(value: object) -> Callable[..., Any]:
    """A function, also by its name."""
    found = value if callable(value) else _named(value.strip()) if isinstance(value, str) else None
    if found is not None:
        return found
    raise ValueError("a function such as app.privacy:mask is expected")


def _named(word: str) -> Callable[..., Any] | None:
    """The function of a name such as `app.media:store`; None where that is no such name, or no function."""
    module, _, name = word.partition(":")
    if not module or not name:
        return None
    try:
        found = attrgetter(name)(importlib.import_module(module))
    except Exception as error:  # noqa: BLE001  # whatever a module does when it is imported
        raise ValueError(f"{word} cannot be imported ({type(error).__name__})") from None
    return found if callable(found) else None


def nothing(_value: object, _path: str, _event: object) -> None:
    """What stands for a mask that is not usable: no field that it would see leaves."""


def client(value: object) -> Any:
    """A `posthog.Posthog`, or what has its face."""
    if all(hasattr(value, name) for name in ("api_key", "host", "capture")):
        return value
    raise ValueError("a posthog.Posthog client is expected")
