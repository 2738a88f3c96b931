"""What the wires of the provider share: the facts of one request, and what an endpoint makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

CACHED_TOKENS = 64
REASONING_TOKENS = 5
_INPUT_BASE, _OUTPUT_BASE = 10_000, 300


@dataclass(frozen=True)
class Usage:
    """The tokens of one request, which no other request has."""

    number: int

    @property
    def input_tokens(self) -> int:
        """Return all tokens of the prompt, those from a cache among them."""
        return _INPUT_BASE + 7 * self.number

    @property
    def output_tokens(self) -> int:
        """Return all tokens of the answer, those of reasoning among them."""
        return _OUTPUT_BASE + self.number


@dataclass(frozen=True)
class Exchange:
    """A request as an endpoint sees it."""

    number: int
    body: dict[str, Any]
    model: str
    usage: Usage


# A whole answer, or the data of server-sent events: (name or None, JSON or a plain text).
Whole: TypeAlias = dict[str, Any]
Stream: TypeAlias = Iterable[tuple[str | None, "dict[str, Any] | str"]]


def text_of(content: Any) -> str:
    """Return the text of a message's content, whatever its form."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    if isinstance(content, dict):
        return next(
            (text_of(content[key]) for key in ("text", "content", "parts", "output") if content.get(key)), ""
        )
    return ""


def pieces(text: str, size: int = 8) -> list[str]:
    """Cut a text as a stream would."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def vector(size: int) -> list[float]:
    """Return an embedding; its figures mean nothing."""
    return [0.01] * size
