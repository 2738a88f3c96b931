"""The pages for people, and the fenced blocks in them.

An HTML comment above a block, `<!-- test: {...} -->`, states in JSON how it runs and what must come of it. A
block of Python or of a shell has these keys:

- `sends`: by the name of an event, the properties that one event of that name has; a list of such objects
  stands for several events. `null` means that the property is missing, `"*"` that it is there.
- `drops`: names of events that must not arrive.
- `prints`, `logs`: regular expressions that are found in standard output and standard error.
- `before`, `then`: programs of `programs.py` that run before and after a block of Python, in one process.
- `app`: the program of `programs.py` that is `app.py` to a block of a shell.
- `serves`: the block of a shell starts a server that runs until it is stopped: `gateway`, `local`, `consume`.
- `environment`: variables that are set beforehand.

`file` names a block, of any language: the shell blocks of its page find it under that name. Other blocks of
data name their use: `event` (of JSON, made by that file), `collector` and `exporter` (of YAML), `projects`,
`query`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

README = ROOT / "README.md"
PAGES = (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<test>\{.*?\}) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    expected: dict[str, Any]

    @property
    def place(self) -> str:
        """The page and the line, to be found by a person."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str, page: Path | None = None) -> list[Block]:
    """Return the blocks of all pages or of one, in these languages or in any."""
    return [
        block
        for each in ([page] if page else PAGES)
        for block in _blocks(each)
        if not languages or block.language in languages
    ]


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            json.loads(match["test"] or "{}"),
        )
        for match in _BLOCK.finditer(text)
    ]


def project() -> dict[str, Any]:
    """Return the table `project` of `pyproject.toml`."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])
