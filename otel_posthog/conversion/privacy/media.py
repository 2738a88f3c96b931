"""Short texts instead of images, audio and files in content, so that no base64 is sent.

A `MediaReplacer` makes the text: `placeholder`, or one from `storing`, which lets a function of the
application keep the data and return a URL.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64Error
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from typing import Any

from otel_posthog.conversion.readers.attribute_values import javascript_bytes

__all__ = ["MediaReplacer", "may_hold_base64", "placeholder", "replace_media", "storing"]

MediaReplacer = Callable[["str | None", "str | bytes", "str | None"], str]
"""A function of MIME type, data (bytes or base64) and modality that returns the text to send instead."""

MIN_BASE64 = 512
"""Characters of the shortest run of base64 that is taken for data; a shorter one may be an id or a token."""

MIN_OCTETS = 64
"""Numbered fields of the smallest object that is taken for bytes."""

_DATA_URI = re.compile(
    r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,\s\"']{0,100}){0,5});base64,([A-Za-z0-9+/=_%\\-]*)",
    re.IGNORECASE,
)
_RUN = re.compile(
    r"[A-Za-z0-9+/_%\\=-]{48,}"  # backslashes escape slashes and line ends in a JSON text
    r"(?:[\r\n]+[ \t]*[A-Za-z0-9+/_%\\=-]{48,})*"
    r"(?:[\r\n]+[ \t]*[A-Za-z0-9+/_-]{1,80}={1,2})?"  # a short last line, recognized by its padding
)
_MAX_DEPTH = 40


def replace_media(value: Any, replace: MediaReplacer | None = None, depth: int = 0) -> Any:
    """Return the value with each data URI and each long base64 text in it replaced. Containers are copied."""
    replace = placeholder if replace is None else replace
    kind = type(value)
    if kind is str:
        return _replace_in_text(value, replace)
    if kind is dict:
        if depth >= _MAX_DEPTH:
            return "[nested too deeply]"
        if (data := javascript_bytes(value, MIN_OCTETS)) is not None:
            return replace(None, data, None)
        mime = (
            value.get("mime_type") or value.get("mimeType") or value.get("media_type") or value.get("format")
        )
        copy = {}
        for key, inner in value.items():
            replaced = replace_media(inner, replace, depth + 1)
            if type(key) is str and len(key) >= MIN_BASE64:
                key = _replace_in_text(key, placeholder)  # noqa: PLW2901
            if (
                replaced is not inner
                and type(inner) is str
                and isinstance(mime, str)
                and replaced.startswith("[base64")
            ):
                replaced = replace(mime, inner, None)
            copy[key] = replaced
        return copy
    if kind is list:
        if len(value) >= MIN_BASE64 and all(type(inner) is int and 0 <= inner <= 255 for inner in value):
            return replace(None, bytes(value), None)
        if depth >= _MAX_DEPTH:
            return "[nested too deeply]"
        return [replace_media(inner, replace, depth + 1) for inner in value]
    return replace(None, value, None) if kind is bytes else value


def placeholder(mime: str | None, data: str | bytes, modality: str | None = None) -> str:
    """Return kind, MIME type and size of media: `[image: image/png, 12345 bytes]`."""
    mime = mime.lower() if mime else None
    size = len(data) if isinstance(data, bytes) else len(data.rstrip("=")) * 3 // 4
    kind = modality or (mime or "").partition("/")[0]  # a part may hold a value of any type there
    kind = kind if isinstance(kind, str) else ""
    kind = kind if kind in {"image", "audio", "video", "document"} else "file" if mime else "base64"
    return f"[{kind}: {mime}, {size} bytes]" if mime else f"[{kind}: {size} bytes]"


def may_hold_base64(text: str) -> bool:
    """Whether the text has a data URI or a long stretch without a space, and must be searched."""
    start, last = 0, len(text) - MIN_BASE64
    while start <= last:
        space = text.rfind(" ", start, start + MIN_BASE64)
        if space < 0:
            return True
        start = space + 1
    return ";base64," in text


def storing(store: Callable[[bytes, str | None], str | None], remembered: int = 1024) -> MediaReplacer:
    """Return a `MediaReplacer` that passes media to `store(data, mime_type)` and sends the URL it returns.

    The same data is passed once, as long as it is among the `remembered` latest: a conversation sends its
    images again with every message. If `store` returns None or the data is no base64, the placeholder is
    sent. Data without MIME type and modality is not passed, because it may be an id or a token.
    """
    urls: dict[bytes, str | None] = {}

    def replace(mime: str | None, data: str | bytes, modality: str | None = None) -> str:
        if mime is None and modality is None:
            return placeholder(mime, data, modality)
        try:
            whole = data if isinstance(data, bytes) else b64decode(_as_standard(data), validate=False)
        except (NoBase64Error, ValueError):
            return placeholder(mime, data, modality)
        key = sha256(whole).digest()
        if key not in urls:
            urls[key] = store(whole, mime)
            while len(urls) > remembered:
                urls.pop(next(iter(urls)))
        url = urls[key]
        return url if isinstance(url, str) and url else placeholder(mime, data, modality)

    return replace


def _as_standard(data: str) -> str:
    """Return standard base64 for base64 that is URL-safe, percent-encoded, or without padding."""
    text = data.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=").replace("\\", "")
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return text + "=" * (-len(text) % 4)


def _replace_in_text(text: str, replace: MediaReplacer) -> str:
    if not may_hold_base64(text):
        return text
    text = _DATA_URI.sub(lambda match: replace(match[1] or "text/plain", match[3], None), text)
    return _RUN.sub(partial(_replace_run, replace), text) if len(text) >= MIN_BASE64 else text


def _replace_run(replace: MediaReplacer, match: re.Match[str]) -> str:
    run = match[0]
    data = run if run.isalnum() else re.sub(r"\\[rn]|[\s\\]", "", run)
    return run if len(data) < MIN_BASE64 or _is_repeated_word(data) else replace(None, data, None)


def _is_repeated_word(run: str) -> bool:
    """Whether the run repeats one word, as in `xxxx...` or `testtest...`: padding, no data."""
    period = run.find(run[:64], 1, 128)
    word = run[: max(period, 0)]
    return word.isdigit() or (word.isalpha() and word.islower())
