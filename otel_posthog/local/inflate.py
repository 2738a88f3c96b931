"""Inflating a request body under a ceiling: a decompression bomb is stopped as soon as it passes it.

The codecs are a table. gzip and deflate are the standard library's; zstd is there where Python (3.14) or one
of the usual packages has it. Only the first gzip member is read, as PostHog's server does it.
"""

from __future__ import annotations

import importlib
import io
import zlib
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    # Inflates a body up to a ceiling in bytes; raises TooMuchError or BrokenBodyError.
    Codec = Callable[[bytes, int], bytes]

GZIP_MAGIC = b"\x1f\x8b\x08"


class TooMuchError(ValueError):
    """The inflated body would pass the ceiling."""


class BrokenBodyError(ValueError):
    """The body is not what its encoding says, or ends early."""


class _Stream(Protocol):
    """What zlib's and zstd's decompression objects have in common."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _drain(stream: _Stream, body: bytes, ceiling: int) -> bytes:
    # One byte more than allowed is asked for: it tells "exactly at the ceiling" from "above it".
    data = stream.decompress(body, ceiling + 1)
    if len(data) > ceiling:
        raise TooMuchError(f"the inflated body is larger than {ceiling:,} bytes")
    if not stream.eof:
        raise BrokenBodyError("the compressed body ends early")
    return data


def _zlib_codec(window_bits: int) -> Codec:
    def inflate(body: bytes, ceiling: int) -> bytes:
        try:
            return _drain(zlib.decompressobj(window_bits), body, ceiling)
        except zlib.error as error:
            raise BrokenBodyError(f"the compressed body is damaged: {error}") from None

    return inflate


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _zstd_of_python(module: Any) -> Codec:
    def inflate(body: bytes, ceiling: int) -> bytes:
        try:
            return _drain(module.ZstdDecompressor(), body, ceiling)
        except module.ZstdError as error:
            raise BrokenBodyError(f"the compressed body is damaged: {error}") from None

    return inflate


def _zstd_of_zstandard(module: Any) -> Codec:
    def inflate(body: bytes, ceiling: int) -> bytes:
        try:
            with module.ZstdDecompressor().stream_reader(io.BytesIO(body)) as reader:
                data: bytes = reader.read(ceiling + 1)
        except module.ZstdError as error:
            raise BrokenBodyError(f"the compressed body is damaged: {error}") from None
        if len(data) > ceiling:
            raise TooMuchError(f"the inflated body is larger than {ceiling:,} bytes")
        if not data:  # This reader ends quietly where a frame is cut off; an empty body is no JSON either.
            raise BrokenBodyError("the compressed body ends early")
        return data

    return inflate


#: Who may bring zstd, best first, and how each is used.
_ZSTD_SOURCES: tuple[tuple[str, Callable[[Any], Codec]], ...] = (
    ("compression.zstd", _zstd_of_python),
    ("backports.zstd", _zstd_of_python),
    ("zstandard", _zstd_of_zstandard),
)


def zstd_codec() -> Codec | None:
    """Give the zstd codec of this Python, or None where there is none."""
    for name, make in _ZSTD_SOURCES:
        module = _module(name)
        if module is not None:
            return make(module)
    return None


def _codecs() -> dict[str, Codec]:
    codecs = {"gzip": _zlib_codec(16 + zlib.MAX_WBITS), "deflate": _zlib_codec(zlib.MAX_WBITS)}
    zstd = zstd_codec()
    return codecs if zstd is None else {**codecs, "zstd": zstd}


#: Content-Encoding -> codec, as far as this machine has them. "deflate" is zlib-wrapped (RFC 1950).
CODECS: dict[str, Codec] = _codecs()
