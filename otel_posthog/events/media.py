"""Base64 stays at home: images, audio and files in content become a short text that says what was there."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["clean", "may_hold_base64", "placeholder"]

MIN_BASE64 = 512
"""Characters from which a run of base64 is taken for data and not for an id or a token."""

MIN_OCTETS = 64
"""Numbered fields from which an object is taken for bytes."""

_DATA_URI = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,\s\"']{0,100}){0,5});base64,([A-Za-z0-9+/=_%\\-]*)",
    re.IGNORECASE,
)
_RUN = re.compile(
    r"[A-Za-z0-9+/_%\\=-]{48,}"  # a backslash: escaped slashes and line ends in a JSON text
    r"(?:[\r\n]+[ \t]*[A-Za-z0-9+/_%\\=-]{48,})*"
    r"(?:[\r\n]+[ \t]*[A-Za-z0-9+/_-]{1,80}={1,2})?"  # the last line, where its padding shows it
)
_MAX_DEPTH = 40


def clean(value: Any, depth: int = 0) -> Any:
    """The value with every data URI and every long base64 text in it replaced. Containers are copied."""
    kind = type(value)
    if kind is str:
        return _clean_text(value)
    if kind is dict:
        if depth >= _MAX_DEPTH:
            return "[nested too deeply]"
        if (octets := _octets(value)) is not None:
            return placeholder(None, octets)
        mime = (
            value.get("mime_type") or value.get("mimeType") or value.get("media_type") or value.get("format")
        )
        made = {}
        for key, inner in value.items():
            cleaned = clean(inner, depth + 1)
            if type(key) is str and len(key) >= MIN_BASE64:
                key = _clean_text(key)  # noqa: PLW2901
            if (
                cleaned is not inner
                and type(inner) is str
                and isinstance(mime, str)
                and cleaned.startswith("[base64")
            ):
                cleaned = placeholder(mime, inner)
            made[key] = cleaned
        return made
    if kind is list:
        if len(value) >= MIN_BASE64 and all(type(inner) is int and 0 <= inner <= 255 for inner in value):
            return placeholder(None, bytes(value))
        return [clean(inner, depth + 1) for inner in value] if depth < _MAX_DEPTH else "[nested too deeply]"
    return placeholder(None, value) if kind is bytes else value


def _octets(value: dict[Any, Any]) -> bytes | None:
    """The bytes of a `Buffer` or `Uint8Array` as JavaScript writes it as JSON."""
    if value.get("type") == "Buffer":
        numbers = value.get("data")
    elif len(value) >= MIN_OCTETS and "0" in value:
        numbers = [*value.values()]
    else:
        return None
    if isinstance(numbers, list) and all(type(each) is int and 0 <= each <= 255 for each in numbers):
        return bytes(numbers)
    return None


def placeholder(mime: str | None, data: str | bytes, modality: str | None = None) -> str:
    """`[image: image/png, 12345 bytes]`: kind, MIME type and size of what is not sent."""
    mime = mime.lower() if mime else None
    size = len(data) if isinstance(data, bytes) else len(data.rstrip("=")) * 3 // 4
    kind = modality or (mime or "").partition("/")[0]
    kind = kind if kind in {"image", "audio", "video", "document"} else "file" if mime else "base64"
    return f"[{kind}: {mime}, {size} bytes]" if mime else f"[{kind}: {size} bytes]"


def may_hold_base64(text: str) -> bool:
    """Whether a look at the whole text is worth it: a data URI, or a long stretch without a space."""
    start, last = 0, len(text) - MIN_BASE64
    while start <= last:
        space = text.rfind(" ", start, start + MIN_BASE64)
        if space < 0:
            return True
        start = space + 1
    return ";base64," in text


def _clean_text(text: str) -> str:
    if not may_hold_base64(text):
        return text
    text = _DATA_URI.sub(lambda match: placeholder(match[1] or "text/plain", match[3]), text)
    return _RUN.sub(_run_replaced, text) if len(text) >= MIN_BASE64 else text


def _run_replaced(match: re.Match[str]) -> str:
    run = match[0]
    data = run if run.isalnum() else re.sub(r"\\[rn]|[\s\\]", "", run)
    return run if len(data) < MIN_BASE64 or _is_repeated_word(data) else placeholder(None, data)


def _is_repeated_word(run: str) -> bool:
    """`xxxx...` or `testtest...`: somebody's padding, and no data."""
    period = run.find(run[:64], 1, 128)
    word = run[: max(period, 0)]
    return word.isdigit() or (word.isalpha() and word.islower())
