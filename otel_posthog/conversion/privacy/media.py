"""Base64 stays at home: images, audio and files in content become a short text that says what was there.

That text is made by a `MediaReplacer`: `placeholder`, or what `storing` makes of a function of the application that
keeps the data and returns where.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64Error
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

__all__ = ["MediaReplacer", "may_hold_base64", "placeholder", "replace_media", "storing"]

MediaReplacer = Callable[["str | None", "str | bytes", "str | None"], str]
"""What stands in the place of media: of its MIME type, its data (bytes or base64) and its modality."""

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


def replace_media(value: Any, replace: MediaReplacer | None = None, depth: int = 0) -> Any:
    """The value with every data URI and every long base64 text in it replaced. Containers are copied."""
    replace = placeholder if replace is None else replace
    kind = type(value)
    if kind is str:
        return _clean_text(value, replace)
    if kind is dict:
        if depth >= _MAX_DEPTH:
            return "[nested too deeply]"
        if (octets := _octets(value)) is not None:
            return replace(None, octets, None)
        mime = (
            value.get("mime_type") or value.get("mimeType") or value.get("media_type") or value.get("format")
        )
        made = {}
        for key, inner in value.items():
            cleaned = replace_media(inner, replace, depth + 1)
            if type(key) is str and len(key) >= MIN_BASE64:
                key = _clean_text(key, placeholder)  # noqa: PLW2901
            if (
                cleaned is not inner
                and type(inner) is str
                and isinstance(mime, str)
                and cleaned.startswith("[base64")
            ):
                cleaned = replace(mime, inner, None)
            made[key] = cleaned
        return made
    if kind is list:
        if len(value) >= MIN_BASE64 and all(type(inner) is int and 0 <= inner <= 255 for inner in value):
            return replace(None, bytes(value), None)
        if depth >= _MAX_DEPTH:
            return "[nested too deeply]"
        return [replace_media(inner, replace, depth + 1) for inner in value]
    return replace(None, value, None) if kind is bytes else value


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
    kind = modality or (mime or "").partition("/")[0]  # of whatever type a part says
    kind = kind if isinstance(kind, str) else ""
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


def storing(store: Callable[[bytes, str | None], str | None], remembered: int = 1024) -> MediaReplacer:
    """A `MediaReplacer` that gives media to `store(data, mime_type)` and puts the URL that it returns in its place.

    The same data is given once, as long as it is among the `remembered` latest: a conversation sends its
    images again with every message. None, or data that is no base64, leaves a placeholder. What cannot be
    told from an id or a token for lack of a MIME type is not given.
    """
    known: dict[bytes, str | None] = {}

    def replace(mime: str | None, data: str | bytes, modality: str | None = None) -> str:
        if mime is None and modality is None:
            return placeholder(mime, data, modality)
        try:
            whole = data if isinstance(data, bytes) else b64decode(_as_standard(data), validate=False)
        except (NoBase64Error, ValueError):
            return placeholder(mime, data, modality)
        key = sha256(whole).digest()
        if key not in known:
            known[key] = store(whole, mime)
            while len(known) > remembered:
                known.pop(next(iter(known)))
        url = known[key]
        return url if isinstance(url, str) and url else placeholder(mime, data, modality)

    return replace


def _as_standard(data: str) -> str:
    """Base64 of the URL-safe alphabet, or percent-encoded, or without its padding, in the standard form."""
    text = data.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=").replace("\\", "")
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return text + "=" * (-len(text) % 4)


def _clean_text(text: str, replace: MediaReplacer) -> str:
    if not may_hold_base64(text):
        return text
    text = _DATA_URI.sub(lambda match: replace(match[1] or "text/plain", match[3], None), text)
    return _RUN.sub(partial(_run_replaced, replace), text) if len(text) >= MIN_BASE64 else text


def _run_replaced(replace: MediaReplacer, match: re.Match[str]) -> str:
    run = match[0]
    data = run if run.isalnum() else re.sub(r"\\[rn]|[\s\\]", "", run)
    return run if len(data) < MIN_BASE64 or _is_repeated_word(data) else replace(None, data, None)


def _is_repeated_word(run: str) -> bool:
    """`xxxx...` or `testtest...`: somebody's padding, and no data."""
    period = run.find(run[:64], 1, 128)
    word = run[: max(period, 0)]
    return word.isdigit() or (word.isalpha() and word.islower())
