"""The file of `--projects`: the PostHog projects of a gateway, and how a request names one.

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
from otel_posthog.gateway.startup_checks import check_project_key
from otel_posthog.runtime.toml_errors import line_in_toml, parse_toml

__all__ = ["ProjectTable", "read_projects"]

_HEADER = re.compile(r"(?!grpc-)[a-z0-9][a-z0-9-]*(?<!-bin)")
"""Names that gRPC also accepts for metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTable:
    """The projects of a gateway, and how a request names its project."""

    keys: Mapping[str, str] = field(repr=False)
    """PostHog project keys by the project's name."""
    header: str | None = None
    """The header with the name, in lower case; over gRPC it is metadata."""
    resource_attribute: str | None = None
    """The resource attribute with the name, if there is no header."""
    default: str | None = None
    """The project of requests and resources that name none."""


class _InvalidError(ValueError):
    """A value in the file is invalid; `path` leads to it."""

    def __init__(self, sentence: str, *path: str) -> None:
        super().__init__(sentence)
        self.path = path


def read_projects(text: str) -> ProjectTable:
    """Return the projects of the file.

    Raises:
        ValueError: the file is invalid; the text has the reason and the line, and no key.
    """
    text = text.removeprefix("\ufeff")
    try:
        return _table(parse_toml(text))
    except _InvalidError as error:
        line = line_in_toml(text, error.path)
        raise ValueError(f"{error}" if line is None else f"line {line}: {error}") from None
    except RecursionError:
        raise ValueError("the file is nested too deeply") from None


def _table(content: Mapping[str, Any]) -> ProjectTable:
    known = ("header", "resource_attribute", "default", "keys")
    if unknown := [name for name in content if name not in known]:
        raise _InvalidError(f"{unknown[0]!r} is not known; known are: {', '.join(known)}", unknown[0])
    for name in known[:-1]:
        if name in content and not (isinstance(content[name], str) and content[name]):
            raise _InvalidError(f"{name} must be a string that is not empty", name)
    header = content.get("header")
    if header is not None:
        header = header.lower()
        if not _HEADER.fullmatch(header):
            raise _InvalidError("header must be a header's name: letters, digits and hyphens", "header")
    if header is None and "resource_attribute" not in content:
        raise _InvalidError("set header, resource_attribute or both: how a request names its project")
    keys = content.get("keys")
    if not isinstance(keys, dict) or not keys:
        raise _InvalidError("a table [keys] with at least one project is required", "keys")
    default = content.get("default")
    if default is not None and default not in keys:
        raise _InvalidError("default must be the name of a project in [keys]", "default")
    return ProjectTable(
        keys={name: _key(name, value) for name, value in keys.items()},
        header=header,
        resource_attribute=content.get("resource_attribute"),
        default=default,
    )


def _key(name: str, value: object) -> str:
    if name.startswith("phc_"):  # a key; the sentence must not show it
        raise _InvalidError('a project has its name first and then its key: acme = "phc_..."', "keys", name)
    try:
        key = project_key(value)
        check_project_key(key, "it")
        return key
    except ValueError as error:
        raise _InvalidError(f"project {name!r}: {error}", "keys", name) from None
