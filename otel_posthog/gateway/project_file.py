"""The file of `--projects`: which PostHog projects a gateway serves, and how a request names one.

header = "x-posthog-project"
resource_attribute = "posthog.project"
default = "other"

[keys]
acme = "phc_..."
other = "phc_..."
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_posthog.config.parsers import project_key
from otel_posthog.gateway.startup_checks import check_kind
from otel_posthog.runtime.toml_errors import line_in_toml, parse_toml

__all__ = ["ProjectTable", "read_projects"]

_HEADER = re.compile(r"(?!grpc-)[a-z0-9][a-z0-9-]*(?<!-bin)")
"""What may be metadata of gRPC as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTable:
    """Projects by name, and where the name stands."""

    keys: Mapping[str, str] = field(repr=False)
    header: str | None = None
    """Of HTTP, in lower case; of gRPC's metadata."""
    resource_attribute: str | None = None
    default: str | None = None
    """The project of what names none."""


class _WrongError(ValueError):
    """Something in the file is wrong."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path


def read_projects(text: str) -> ProjectTable:
    """The projects of the file.

    Raises:
        ValueError: it is no such file; the text says why, and in which line, and holds no key.
    """
    text = text.removeprefix("\ufeff")
    try:
        return _table(parse_toml(text))
    except _WrongError as error:
        line = line_in_toml(text, error.path)
        raise ValueError(f"{error}" if line is None else f"line {line}: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply to be a file of projects") from None


def _table(content: Mapping[str, Any]) -> ProjectTable:
    known = ("header", "resource_attribute", "default", "keys")
    if strange := [name for name in content if name not in known]:
        raise _WrongError(f"{strange[0]!r} is not known; known are: {', '.join(known)}", strange[0])
    for name in known[:-1]:
        if name in content and not (isinstance(content[name], str) and content[name]):
            raise _WrongError(f"{name} must be a text", name)
    header = content.get("header")
    if header is not None:
        header = header.lower()
        if not _HEADER.fullmatch(header):
            raise _WrongError("header must be the name of one: letters, digits and hyphens", "header")
    if header is None and "resource_attribute" not in content:
        raise _WrongError("header, resource_attribute or both must say where a request names its project")
    keys = content.get("keys")
    if not isinstance(keys, dict) or not keys:
        raise _WrongError("a table [keys] with at least one project is expected", "keys")
    default = content.get("default")
    if default is not None and default not in keys:
        raise _WrongError("default must be the name of a project in [keys]", "default")
    return ProjectTable(
        keys={name: _key(name, value) for name, value in keys.items()},
        header=header,
        resource_attribute=content.get("resource_attribute"),
        default=default,
    )


def _key(name: str, value: object) -> str:
    if name.startswith("phc_"):  # nothing may show it, so neither does this sentence
        raise _WrongError('a project is a name and then its key: acme = "phc_..."', "keys", name)
    try:
        key = project_key(value)
        check_kind(key, "it")
        return key
    except ValueError as error:
        raise _WrongError(f"project {name!r}: {error}", "keys", name) from None
