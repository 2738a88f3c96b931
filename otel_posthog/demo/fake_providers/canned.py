"""Canned answers, and the pieces that both wires share.

Answers are a pure function of the request: the text depends on what the prompt asks for, token counts on the
length of a text (four characters a token), vectors on a hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = dict[str, Any]

CREATED = 1_763_600_000  # a fixed second: answers do not depend on the clock
_ANSWERS: tuple[tuple[str, str], ...] = (
    (
        r"tl;?dr|summar",
        "TL;DR: the launch moved to Thursday, Maria owns the list, the venue is booked.",
    ),
    (r"translat", "¡Claro! Nos vemos mañana a las ocho en la plaza, no olvides traer la guitarra."),
    (
        r"smart repl|suggest.{0,20}repl|quick repl",
        '["Sounds great!", "Can we do it tomorrow?", "Tell me more"]',
    ),
    (r"meme|caption", "When the tests pass on the first run and nobody is there to see it."),
    (
        r"auto.?repl|away|out of office",
        "Thanks for writing! I am offline right now and will answer you soon.",
    ),
    (r"mention|@\w", "You called? Here is what I know: the meeting starts at ten, and there will be cake."),
    (r"joke|funny", "I told my computer I needed a break, and it said: no problem, I will go to sleep."),
    (r"weather", "It is sunny with a light breeze, 21 degrees. A good day to leave the umbrella at home."),
    (r"draw|image|picture|photo|paint", "Here is the picture you asked for. I hope you like the colours!"),
    (
        r"hello|\bhi\b|\bhey\b",
        "Hello there! It is lovely to hear from you. What shall we talk about today?",
    ),
)
_DEFAULT = "That is a lovely question. The short answer is yes, the long one needs a bit of patience."
REASONING_TOKENS = {"none": 0, "minimal": 0, "low": 16, "medium": 48, "high": 128, "xhigh": 256}
IMAGE_TOKENS = 258  # what Gemini counts for one small picture; good enough for both services
IMAGE_SIZES = {"1:1": (64, 64), "16:9": (128, 72), "9:16": (72, 128), "4:3": (80, 60), "3:4": (60, 80)}


class Failure(NamedTuple):
    """A failure: its HTTP status, and the words of each wire."""

    status: int
    message: str
    openai_type: str
    openai_code: str
    google_status: str


_FAILURES = {
    429: Failure(
        429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"
    ),
    503: Failure(
        503,
        "The model is overloaded. Please try again later.",
        "server_error",
        "service_unavailable",
        "UNAVAILABLE",
    ),
}


class Reply(NamedTuple):
    """An answer: one JSON body, a stream of server-sent events, or bytes."""

    body: JSON | bytes | None = None
    events: Iterator[tuple[str | None, JSON | str]] | None = None
    status: int = 200


def count_tokens(text: str) -> int:
    """Return the number of tokens of a text: four characters a token."""
    return -(-len(text) // 4)


def answer_text(prompt: str) -> str:
    """Return the canned text for a prompt."""
    return next((text for pattern, text in _ANSWERS if re.search(pattern, prompt, re.IGNORECASE)), _DEFAULT)


def split_text(text: str, size: int = 12) -> list[str]:
    """Return the text in pieces, as a stream sends it."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def cached_tokens(tokens: int) -> int:
    """Return half of a long prompt in whole steps of 128, as the services count what they had cached."""
    return tokens // 2 // 128 * 128 if tokens >= 256 else 0


def digest(*parts: str) -> str:
    """Return a hash of the texts, in hexadecimal."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def vector(text: str, dimensions: int) -> list[float]:
    """Return a vector of about unit length that depends on the text alone."""
    raw = b"".join(
        hashlib.sha256(f"{block}:{text}".encode("utf-8", "replace")).digest()
        for block in range(-(-dimensions // 32))
    )
    scale = 74.0 * dimensions**0.5  # about unit length: a byte around 127.5 has a deviation of 74
    return [round((byte - 127.5) / scale, 6) for byte in raw[:dimensions]]


def png(seed: str, width: int = 64, height: int = 64) -> str:
    """Draw a real PNG, base64: a two-coloured gradient whose colours come from the prompt."""
    red, green, blue, *_ = hashlib.sha256(seed.encode("utf-8", "replace")).digest()
    rows = b"".join(
        b"\0" + bytes(c for x in range(width) for c in (red, (green + 2 * x) % 256, (blue + 2 * y) % 256))
        for y in range(height)
    )

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    )
    return base64.b64encode(png).decode()


def arguments_for(schema: JSON, prompt: str) -> JSON:
    """Return arguments that fit a tool's JSON schema."""
    values: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    words = prompt[-40:].strip()
    return {
        name: (kind.get("enum") or [values.get(str(kind.get("type", "string")).lower(), words)])[0]
        for name, kind in (schema.get("properties") or {}).items()
    }


def shape_answer(text: str, shape: JSON | None, schema: JSON | None, prompt: str) -> str:
    """Return the text, or JSON if the request wants it: by its schema, else an object of our own."""
    if schema:
        return json.dumps(arguments_for(schema, prompt), ensure_ascii=False)
    return json.dumps({"answer": text}, ensure_ascii=False) if shape else text


def text_of(content: Any) -> str:
    """Return all text in the content of a message of either wire."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return text_of(content.get("text") or content.get("content") or content.get("parts") or "")
    if isinstance(content, list):
        return "\n".join(filter(None, map(text_of, content)))
    return ""


def failure_for(model: str, prompt: str) -> Failure | None:
    """Return the failure that the model or prompt asks for, or None."""
    for status, suffix in ((503, "-unavailable"), (429, "-limited")):
        if model.endswith(suffix) or f"[[{status}]]" in prompt:
            return _FAILURES[status]
    return None
