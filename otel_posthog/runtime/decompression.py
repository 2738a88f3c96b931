"""Inflating a request body under a ceiling: a decompression bomb is stopped as soon as it passes it.

The codecs are a table. gzip and deflate are isa-l's or the standard library's; zstd is there where Python
(3.14) or one of the usual packages has it.
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
    """Makes a body's inflated pieces; of its first part, or of every part."""

__all__ = ["CODECS", "GZIP_MAGIC", "BrokenBodyError", "Codec", "TooMuchError", "inflate", "zstd_codec"]

GZIP_MAGIC = b"\x1f\x8b\x08"

AT_ONCE = 8 * 1024 * 1024
"""What inflates to more than so many bytes is measured before it is made: a bomb takes no more than this."""
MAX_PARTS = 10_000
"""Of a body: programs that compress in parallel write one for 64 KiB or more, others one."""
_PIECE = 256 * 1024
_SLICE = 64 * 1024
"""Bytes given to a decompressor at a time: it hands back, as a copy, what is beyond a part's end."""
_STEP = 256
"""Bytes given to `zstandard` at a time: it makes all that is in them, 11 MB at most."""
_WINDOW_LOG = 27
"""zstd asks for no more than 128 MiB of window, its own default; its format allows terabytes."""


class TooMuchError(ValueError):
    """The inflated body would pass the ceiling."""


class BrokenBodyError(ValueError):
    """The body is not what its encoding says, or ends early."""


class Codec(NamedTuple):
    """How to inflate what has a Content-Encoding."""

    pieces: Pieces
    errors: tuple[type[Exception], ...]


def inflate(codec: Codec, body: bytes, ceiling: int, *, every_part: bool = False) -> bytes:
    """Inflate `body`, to at most `ceiling` bytes.

    gzip and zstd allow several parts (members, frames) one after the other; what follows the first is passed
    over unless `every_part` is wanted.

    Raises:
        TooMuchError: it would be more.
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
        whole = io.BytesIO()  # its bytes are not copied once more, as those of pieces are that are joined
        for piece in codec.pieces(body, every_part):
            whole.write(piece)
        return whole.getvalue()
    except codec.errors as error:
        raise BrokenBodyError(f"the compressed body is damaged: {error}") from None


def _up_to(pieces: Iterator[bytes], ceiling: int) -> Iterator[bytes]:
    """The pieces, until there is more than the ceiling."""
    left = ceiling
    for piece in pieces:
        yield piece
        left -= len(piece)
        if left < 0:
            return


class _Stream(Protocol):
    """What all decompressors have."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class _Body:
    """A body on its way through the decompressors of its parts."""

    def __init__(self, data: bytes) -> None:
        self._view = memoryview(data)
        self._at = 0
        self._parts = 0

    def next(self, size: int) -> memoryview:
        """The next so many bytes, as far as there are."""
        given = self._view[self._at : self._at + size]
        self._at += len(given)
        return given

    def take_back(self, data: bytes) -> None:
        """Have the last bytes given once more, which nobody looked at."""
        self._at -= len(data)

    def has_more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._view)

    def has_ended(self, stream: _Stream, every_part: bool) -> bool:
        """Whether nothing follows the part that the stream has read, or what does is not wanted."""
        self.take_back(stream.unused_data)
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
                given = body.next(_SLICE)
                piece = stream.decompress(given, _PIECE)
                body.take_back(stream.unconsumed_tail)
                yield _checked(piece, stream, is_last=not given)
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
                wants = stream.needs_input
                given = body.next(_SLICE if wants else 0)
                piece = stream.decompress(given, _PIECE)
                yield _checked(piece, stream, is_last=wants and not given)
            if body.has_ended(stream, every_part):
                return

    return Codec(pieces, (module.ZstdError,))


def _checked(piece: bytes, stream: _Stream, *, is_last: bool) -> bytes:
    if is_last and not piece and not stream.eof:
        raise BrokenBodyError("the compressed body ends early")
    return piece


def _zstd_of_zstandard(module: Any) -> Codec:
    def pieces(data: bytes, every_part: bool) -> Iterator[bytes]:
        # Its stream reader does not tell a frame that is cut off from one that ends.
        body = _Body(data)
        while True:
            stream = module.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG).decompressobj()
            while not stream.eof:
                given = body.next(_STEP)
                if not given:
                    raise BrokenBodyError("the compressed body ends early")
                yield stream.decompress(given)
            if body.has_ended(stream, every_part):
                return

    return Codec(pieces, (module.ZstdError,))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


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
    codecs = {"gzip": _of_zlib(16 + zlib.MAX_WBITS), "deflate": _of_zlib(zlib.MAX_WBITS)}
    zstd = zstd_codec()
    return codecs if zstd is None else {**codecs, "zstd": zstd}


#: Content-Encoding -> codec, as far as this machine has them. "deflate" is zlib-wrapped (RFC 1950).
CODECS: dict[str, Codec] = _codecs()
