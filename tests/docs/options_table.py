"""The table of options in `docs/configuration.md`, made from the table in the code."""

from __future__ import annotations

import re

from otel_posthog.config.options import OPTIONS
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "configuration.md"
_TABLE = re.compile(r"(<!-- options:.*? -->\n).*?(<!-- /options -->)", re.DOTALL)


def with_options_table(page: str) -> str:
    """Return the page with the table as it should be."""
    rows = ["| argument | environment variable | default | meaning |", "|---|---|---|---|"]
    for option in OPTIONS:
        variables = ", ".join(f"`{name}`" for name in option.variables) or "none"
        default = option.shown_default or ("none" if option.default is None else f"`{option.default}`")
        rows.append(f"| `{option.name}` | {variables} | {default} | {option.meaning} |")
    return _TABLE.sub(lambda match: match[1] + "\n".join(rows) + "\n" + match[2], page)
