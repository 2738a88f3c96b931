"""Values of JSON with every text in them masked, and definitions of tools without their credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from otel_posthog.conversion.privacy.credentials import SECRET, safe_url
from otel_posthog.conversion.privacy.personal_data import Redactor

__all__ = ["is_remote", "redact_json", "redact_tool"]

MAX_DEPTH = 40
"""Levels of nesting that are looked into; what is deeper is left out, as it is for media."""

_CREDENTIALS = frozenset(
    {"authorization", "proxy_authorization", "authorization_token", "api_key", "x_api_key", "x_goog_api_key"}
)
"""Names under which there is a credential, wherever they stand; hyphens count as underscores."""
_OF_TOOLS = _CREDENTIALS | {
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
"""What describes arguments: a property called `headers` there is no header."""


def redact_json(value: Any, redact: Redactor, depth: int = 0) -> Any:
    """The value with every text in it masked, keys as well; numbers where their digits would be."""
    kind = type(value)
    if kind is str:
        return redact(value)
    if kind is dict:
        if depth >= MAX_DEPTH:
            return "[nested too deeply]"
        if is_remote(value):
            return redact_tool(value, redact, depth)
        made: dict[Any, Any] = {}
        for key, inner in value.items():
            if type(key) is str and type(inner) is str and _named_as(key) in _CREDENTIALS and len(inner) >= 8:
                made[_key(key, redact, made)] = SECRET
            else:
                made[_key(key, redact, made)] = redact_json(inner, redact, depth + 1)
        return made
    if kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            return "[nested too deeply]"
        return [redact_json(inner, redact, depth + 1) for inner in value]
    if kind is int:
        said = str(value) if -(10**40) < value < 10**40 else ""
        found = redact(said)
        return value if found == said else found
    return value


def _key(key: Any, redact: Redactor, taken: Mapping[Any, Any]) -> Any:
    """The key masked; where another one became the same, with a number."""
    made = redact(key) if type(key) is str else key
    return made if made == key or made not in taken else f"{made} {len(taken)}"


def _named_as(key: str) -> str:
    return key.lower().replace("-", "_")


def is_remote(value: Mapping[Any, Any]) -> bool:
    """Whether that is the definition of a server of tools, wherever it stands."""
    return "server_url" in value or "authorization_token" in value or value.get("type") in _REMOTE


_REMOTE = ("mcp", "mcp_server")


def redact_tool(value: Any, redact: Redactor, depth: int = 0) -> Any:
    """The definition of a tool without credentials: headers, tokens, what its server's address holds."""
    if type(value) is list or type(value) is tuple:
        return [redact_tool(inner, redact, depth + 1) for inner in value]
    if type(value) is str and value[:1] in ("{", "["):
        try:
            parsed = orjson.loads(value)
        except ValueError:
            return redact(value)
        made = redact_tool(parsed, redact, depth)
        return value if made == parsed else orjson.dumps(made).decode()
    if type(value) is not dict or depth >= MAX_DEPTH:
        return redact_json(value, redact, depth)
    return {key: _of_tool(_named_as(str(key)), inner, redact, depth + 1) for key, inner in value.items()}


def _of_tool(name: str, value: Any, redact: Redactor, depth: int) -> Any:
    if not value or name in _SCHEMAS:
        return redact_json(value, redact, depth)
    if name in _OF_TOOLS:
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
