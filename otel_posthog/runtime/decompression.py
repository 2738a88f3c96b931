"""Inflation of request bodies up to a ceiling: a decompression bomb is rejected as soon as it passes it.

`CODECS` is the table of codecs. gzip and deflate come from isa-l or the standard library; zstd comes from
Python 3.14 or from a package, if either has it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

_zlib: Any = zlib
with contextlib.suppress(ImportError):  # depends on the platform
    from isal import isal_zlib as _zlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pieces = Callable[[bytes, bool], Iterator[bytes]]
    """Yields a body's inflated pieces, of its first part or (if True) of every part."""

__all__ = ["CODECS", "GZIP_MAGIC", "BrokenBodyError", "Codec", "TooMuchError", "inflate", "zstd_codec"]

GZIP_MAGIC = b"\x1f\x8b\x08"

AT_ONCE = 8 * 1024 * 1024
"""A body that inflates to more bytes is measured before it is built: a bomb takes no more memory."""
MAX_PARTS = 10_000
"""Parts of one body. Programs that compress in parallel write one per 64 KiB or more, others only one."""
_PIECE = 256 * 1024
_SLICE = 64 * 1024
"""Input bytes for a decompressor at a time: it returns those beyond a part's end as a copy."""
_STEP = 256
"""Input bytes for `zstandard` at a time: it inflates all of them at once, to 11 MB at most."""
_WINDOW_LOG = 27
"""The largest window of zstd, 128 MiB, its own default; the format allows terabytes."""


class TooMuchError(ValueError):
    """The inflated body would pass the ceiling."""


class BrokenBodyError(ValueError):
    """The body does not have its encoding, or ends early."""


class Codec(NamedTuple):
    """The way to inflate bodies with one Content-Encoding."""

    pieces: Pieces
    errors: tuple[type[Exception], ...]


def inflate(codec: Codec, body: bytes, ceiling: int, *, every_part: bool = False) -> bytes:
    """Return `body` inflated to at most `ceiling` bytes.

    A gzip or zstd body may have several parts (members, frames). Those after the first are ignored, unless
    `every_part` is True.

    Raises:
        TooMuchError: it would have more bytes.
        BrokenBodyError: it is damaged, or ends early.
    """
    try:
        start = b"".join(_up_to(codec.pieces(body, every_part), min(AT_ONCE, ceiling)))
        if len(start) <= min(AT_ONCE, ceiling):
            return start
        del start
        size = 0
        for piece in codec.pieces(body, every_part):
            size += len(piece)
            if size > ceiling:
                raise TooMuchError(f"the inflated body is larger than {ceiling:,} bytes")
        whole = io.BytesIO()  # unlike `join`, its value needs no second copy
        for piece in codec.pieces(body, every_part):
            whole.write(piece)
        return whole.getvalue()
    except codec.errors as error:
        raise BrokenBodyError(f"the compressed body is damaged: {error}") from None


def _up_to(pieces: Iterator[bytes], ceiling: int) -> Iterator[bytes]:
    """Yield the pieces, up to the first that passes the ceiling."""
    left = ceiling
    for piece in pieces:
        yield piece
        left -= len(piece)
        if left < 0:
            return


class _Stream(Protocol):
    """The attributes that all decompressors have."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class _Body:
    """The unread rest of a body, read by one decompressor per part."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0
        self._parts = 0

    def next(self, size: int) -> memoryview:
        """Return the next `size` bytes, or fewer at the end."""
        data = self._view[self._at : self._at + size]
        self._at += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Let `next` return these bytes again: the last ones, which a decompressor did not use."""
        self._at -= len(data)

    def has_more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._view)

    def has_ended(self, stream: _Stream, every_part: bool) -> bool:
        """Whether the part that the stream has read was the last one to read."""
        self.unread(stream.unused_data)
        self._parts += 1
        if self._parts >= MAX_PARTS:
            raise BrokenBodyError(f"the compressed body has more than {MAX_PARTS:,} parts")
        return not (every_part and self.has_more())


def _of_zlib(window_bits: int) -> Codec:
    def pieces(data: bytes, every_part: bool) -> Iterator[bytes]:
        body = _Body(data)
        while True:
            stream = _zlib.decompressobj(window_bits)
            while not stream.eof:
                data_in = body.next(_SLICE)
                piece = stream.decompress(data_in, _PIECE)
                body.unread(stream.unconsumed_tail)
                yield _checked(piece, stream, is_last=not data_in)
            if body.has_ended(stream, every_part):
                return

    return Codec(pieces, (zlib.error, _zlib.error))


def _zstd_of_python(module: Any) -> Codec:
    def pieces(data: bytes, every_part: bool) -> Iterator[bytes]:
        body = _Body(data)
        while True:
            options = {module.DecompressionParameter.window_log_max: _WINDOW_LOG}
            stream = module.ZstdDecompressor(options=options)
            while not stream.eof:
                needs_input = stream.needs_input
                data_in = body.next(_SLICE if needs_input else 0)
                piece = stream.decompress(data_in, _PIECE)
                yield _checked(piece, stream, is_last=needs_input and not data_in)
            if body.has_ended(stream, every_part):
                return

    return Codec(pieces, (module.ZstdError,))


def _checked(piece: bytes, stream: _Stream, *, is_last: bool) -> bytes:
    if is_last and not piece and not stream.eof:
        raise BrokenBodyError("the compressed body ends early")
    return piece


def _zstd_of_zstandard(module: Any) -> Codec:
    def pieces(data: bytes, every_part: bool) -> Iterator[bytes]:
        # zstandard's stream reader does not distinguish a truncated frame from a complete one.
        body = _Body(data)
        while True:
            stream = module.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG).decompressobj()
            while not stream.eof:
                data_in = body.next(_STEP)
                if not data_in:
                    raise BrokenBodyError("the compressed body ends early")
                yield stream.decompress(data_in)
            if body.has_ended(stream, every_part):
                return

    return Codec(pieces, (module.ZstdError,))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


#: Modules with zstd, the best first, and the function that makes a codec of each.
_ZSTD_SOURCES: tuple[tuple[str, Callable[[Any], Codec]], ...] = (
    ("compression.zstd", _zstd_of_python),
    ("backports.zstd", _zstd_of_python),
    ("zstandard", _zstd_of_zstandard),
)


def zstd_codec() -> Codec | None:
    """Return the zstd codec of this Python, or None if it has none."""
    for name, make in _ZSTD_SOURCES:
        module = _module(name)
        if module is not None:
            return make(module)
    return None


def _codecs() -> dict[str, Codec]:
    codecs = {"gzip": _of_zlib(16 + zlib.MAX_WBITS), "deflate": _of_zlib(zlib.MAX_WBITS)}
    zstd = zstd_codec()
    return codecs if zstd is None else {**codecs, "zstd": zstd}


#: Content-Encoding -> codec, of those that are installed. "deflate" is zlib-wrapped (RFC 1950).
CODECS: dict[str, Codec] = _codecs()
