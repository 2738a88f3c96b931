"""Redaction of all texts in JSON values, and of the credentials in definitions of tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from otel_posthog.conversion.privacy.credentials import SECRET, safe_url
from otel_posthog.conversion.privacy.personal_data import Redactor

__all__ = ["is_remote", "redact_json", "redact_tool"]

MAX_DEPTH = 40
"""Levels of nesting that are read; deeper values are dropped, as they are for media."""

_CREDENTIALS = frozenset(
    {"authorization", "proxy_authorization", "authorization_token", "api_key", "x_api_key", "x_goog_api_key"}
)
"""Names of credentials in any object; hyphens count as underscores."""
_TOOL_CREDENTIALS = _CREDENTIALS | {
    "access_token",
    "apikey",
    "auth",
    "client_secret",
    "password",
    "refresh_token",
    "secret",
    "token",
}
_HEADERS = frozenset({"headers", "http_headers", "extra_headers", "env"})
_URLS = frozenset({"server_url", "serverurl", "url", "uri", "endpoint"})
_SCHEMAS = frozenset(
    {
        "parameters",
        "input_schema",
        "inputschema",
        "output_schema",
        "parameters_json_schema",
        "parametersjsonschema",
        "json_schema",
        "schema",
        "properties",
    }
)
"""Names of descriptions of arguments: a property called `headers` in one is no header."""


def redact_json(value: Any, redact: Redactor, depth: int = 0) -> Any:
    """Return the value with each text in it redacted, names of fields too, and numbers by their digits."""
    kind = type(value)
    if kind is str:
        return redact(value)
    if kind is dict:
        if depth >= MAX_DEPTH:
            return "[nested too deeply]"
        if is_remote(value):
            return redact_tool(value, redact, depth)
        redacted: dict[Any, Any] = {}
        for key, inner in value.items():
            if (
                type(key) is str
                and type(inner) is str
                and _normalized(key) in _CREDENTIALS
                and len(inner) >= 8
            ):
                redacted[_redact_key(key, redact, redacted)] = SECRET
            else:
                redacted[_redact_key(key, redact, redacted)] = redact_json(inner, redact, depth + 1)
        return redacted
    if kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            return "[nested too deeply]"
        return [redact_json(inner, redact, depth + 1) for inner in value]
    if kind is int:
        digits = str(value) if -(10**40) < value < 10**40 else ""
        redacted_digits = redact(digits)
        return value if redacted_digits == digits else redacted_digits
    return value


def _redact_key(key: Any, redact: Redactor, taken: Mapping[Any, Any]) -> Any:
    """Return the key redacted, with a number if another key became the same."""
    redacted = redact(key) if type(key) is str else key
    return redacted if redacted == key or redacted not in taken else f"{redacted} {len(taken)}"


def _normalized(key: str) -> str:
    return key.lower().replace("-", "_")


def is_remote(value: Mapping[Any, Any]) -> bool:
    """Whether the object defines a remote server of tools (MCP)."""
    return "server_url" in value or "authorization_token" in value or value.get("type") in _REMOTE


_REMOTE = ("mcp", "mcp_server")


def redact_tool(value: Any, redact: Redactor, depth: int = 0) -> Any:
    """Return the definition of a tool without credentials in headers, tokens and its server's address."""
    if type(value) is list or type(value) is tuple:
        return [redact_tool(inner, redact, depth + 1) for inner in value]
    if type(value) is str and value[:1] in ("{", "["):
        try:
            parsed = orjson.loads(value)
        except ValueError:
            return redact(value)
        redacted = redact_tool(parsed, redact, depth)
        return value if redacted == parsed else orjson.dumps(redacted).decode()
    if type(value) is not dict or depth >= MAX_DEPTH:
        return redact_json(value, redact, depth)
    return {
        key: _redact_tool_field(_normalized(str(key)), inner, redact, depth + 1)
        for key, inner in value.items()
    }


def _redact_tool_field(name: str, value: Any, redact: Redactor, depth: int) -> Any:
    if not value or name in _SCHEMAS:
        return redact_json(value, redact, depth)
    if name in _TOOL_CREDENTIALS:
        return dict.fromkeys(value, SECRET) if type(value) is dict else SECRET
    if name in _HEADERS:
        return dict.fromkeys(value, SECRET) if type(value) is dict else [SECRET]
    if name in _URLS and type(value) is str:
        return safe_url(redact(value), path=True)
    return (
        redact_tool(value, redact, depth)
        if type(value) in (dict, list, tuple)
        else redact_json(value, redact, depth)
    )
