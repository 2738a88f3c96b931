"""The README's blocks, and the table in it that is made from `config.OPTIONS`."""

from __future__ import annotations

import re
from pathlib import Path

from otel_posthog.config.options import OPTIONS

README = Path(__file__).parent.parent.parent / "README.md"
_TABLE = re.compile(r"(<!-- options:.*? -->\n).*?(<!-- /options -->)", re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [text for found, text in _BLOCK.findall(README.read_text(encoding="utf-8")) if found == language]


def with_options_table(readme: str) -> str:
    """The README with the table as it should be."""
    rows = ["| argument | environment variable | default | meaning |", "|---|---|---|---|"]
    for option in OPTIONS:
        variables = ", ".join(f"`{name}`" for name in option.variables) or "none"
        default = option.shown_default or ("none" if option.default is None else f"`{option.default}`")
        rows.append(f"| `{option.name}` | {variables} | {default} | {option.meaning} |")
    return _TABLE.sub(lambda match: match[1] + "\n".join(rows) + "\n" + match[2], readme)
