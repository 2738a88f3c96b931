"""Checks of the values that are sent if content is hidden: numbers, flags, known words, identifiers.

A check returns the value, or the part of it that may be sent, or None. No sentence in any script passes: an
identifier has no blank, no quote and no letter beyond ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from otel_posthog.conversion.operations import SAFE_OPERATIONS

ValueCheck = Callable[[Any], Any]

_IDENTIFIER = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:/@+~#-]{0,197}={0,2}")  # LiteLLM's ids are base64
_MODEL = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:/@+~#,-]{0,199}")  # Pydantic AI: `fallback:one,another`
_CLASS_OR_CODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:$-]{0,119}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_.-]{1,64}){0,8}/?")
_SCHEMES = frozenset({"", "http", "https", "ws", "wss"})
SIZE = re.compile(r"auto|[0-9]{1,5}(?:x[0-9]{1,5})?|[0-9](?:\.[0-9])?k", re.IGNORECASE)
RATIO = re.compile(r"auto|[0-9]{1,3}:[0-9]{1,3}", re.IGNORECASE)


def as_is(value: Any) -> Any:
    """Return the value unchanged: it is ours, or the application gave it to PostHog."""
    return value


def figure(value: Any) -> Any:
    """Return the value if it is a finite number."""
    return value if type(value) is int or (type(value) is float and isfinite(value)) else None


def flag(value: Any) -> Any:
    """Return the value if it is a boolean."""
    return value if type(value) is bool else None


def matches(pattern: re.Pattern[str]) -> ValueCheck:
    """Return a check for texts that match the whole pattern."""

    def check(value: Any) -> Any:
        return value if type(value) is str and pattern.fullmatch(value) else None

    return check


identifier = matches(_IDENTIFIER)
model = matches(_MODEL)


def identifiers(value: Any) -> Any:
    """Return the identifiers in a list."""
    return [each for each in value if identifier(each)] or None if isinstance(value, list | tuple) else None


def joined(value: Any) -> Any:
    """Return the identifiers in a text that are separated by commas."""
    return ",".join(identifiers(value.split(",")) or ()) or None if type(value) is str else None


def word(*vocabulary: str) -> ValueCheck:
    """Return a check for words of the vocabulary; upper and lower case are equal."""
    words = frozenset(vocabulary)

    def check(value: Any) -> Any:
        return value if type(value) is str and value.lower() in words else None

    return check


def error(value: Any) -> Any:
    """Return a class or code, else `_OTHER`: another text may quote a prompt."""
    return value if type(value) is str and _CLASS_OR_CODE.fullmatch(value) else "_OTHER"


_USER = re.compile(r"^([^/?#]*//)[^/?#]*@")


def address(value: Any) -> Any:
    """Return an address without its query, user and password."""
    if type(value) is not str:
        return None
    try:  # the user is cut first: `[SECRET]@host` would parse as an IPv6 address
        parts = urlsplit(_USER.sub(r"\1", value if "://" in value else f"//{value}", count=1))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not identifier(host) or not _PATH.fullmatch(parts.path):
        return None
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f"{scheme}{host}{'' if port is None else f':{port}'}{parts.path}"


def span_name(value: Any) -> Any:
    """Return a span's name if it is an identifier, or an operation and a model."""
    operation, blank, of_model = value.partition(" ") if type(value) is str else ("", "", "")
    if not blank:
        return identifier(value)
    return value if operation.lower() in SAFE_OPERATIONS and model(of_model) else None


def score(value: Any) -> Any:
    """Return a score if it is a number or an identifier."""
    return value if figure(value) is not None else identifier(value)


def tool_choice(value: Any) -> Any:
    """Return a choice such as `auto`, or the tool's name in the shape of the Vercel AI SDK."""
    if not isinstance(value, dict):
        return _choice(value)
    kind, name = _choice(value.get("type")), identifier(value.get("toolName"))
    return {"type": kind, **({"toolName": name} if name else {})} if kind else None


_choice = word("auto", "none", "required", "any", "tool", "function", "validated")

# --- vocabularies ------------------------------------------------------------------------------------

reason = word(
    *("stop", "length", "tool_call", "content_filter", "error", "other", "unknown", "pause_turn"),
    *("no_image", "image_other", "unexpected_tool_call", "too_many_tool_calls", "malformed_response"),
)
tier = word(
    *("auto", "default", "flex", "priority", "scale", "standard", "batch", "on_demand", "reserved"),
    *("performance", "provisioned", "provisioned_throughput", "unspecified"),
)
level = word(
    *("none", "off", "on", "minimal", "low", "medium", "high", "xhigh", "max", "auto", "default"),
    *("dynamic", "adaptive", "enabled", "disabled", "unspecified", "thinking_level_unspecified"),
)
quality = word("auto", "low", "medium", "high", "standard", "hd")
block = word(
    *("safety", "other", "blocklist", "prohibited_content", "image_safety", "model_armor", "jailbreak"),
    *("recitation", "language", "spii", "block_reason_unspecified", "blocked_reason_unspecified"),
)
