"""Compressed files of spans: gzip or zstd around a whole file, zstd around a single message."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from otel_posthog.runtime import decompression
from otel_posthog.runtime.install_hint import install_hint

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["DamagedError", "damages", "inflate", "inflated", "is_zstd"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_STEP = 1 << 16
_ZSTD_STEP = 1 << 10
"""Bytes given to zstd at a time: it may make 32 MiB of them, and gives all that it made."""


class DamagedError(ValueError):
    """A message that is not what it should be."""


class _Inflated(io.RawIOBase):
    """A stream of pieces. Unlike the readers of gzip and zstandard it gives all that is before damage."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._piece:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        wanted = memoryview(buffer)
        size = min(len(wanted), len(self._piece))
        wanted[:size], self._piece = self._piece[:size], self._piece[size:]
        return size


def inflated(stream: io.BufferedReader, opened: ExitStack) -> io.BufferedReader:
    """Return the content of a file without the compression around it. `opened` closes what is opened here."""
    for magic, pieces in ((_GZIP, _gunzip), (_ZSTD, _unzstd)):
        if stream.peek(len(magic)).startswith(magic):
            stream = opened.enter_context(io.BufferedReader(_Inflated(pieces(stream))))
    return stream


def _gunzip(stream: io.BufferedReader) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream) as members:
        while piece := members.read1(_STEP):
            yield piece


def _unzstd(stream: io.BufferedReader) -> Iterator[bytes]:
    begin = _zstandard().ZstdDecompressor().decompressobj
    frame = None
    while data := stream.read1(_ZSTD_STEP):
        while data:
            frame = frame or begin()
            yield frame.decompress(data)
            data = frame.unused_data
            frame = None if frame.eof else frame  # a writer that flushes ends its frame
    if frame is not None:
        raise EOFError("it ends early")


def damages() -> tuple[type[Exception], ...]:
    """Return the exceptions that reading an `inflated` file may raise, beside those of any file."""
    zstandard: Any = sys.modules.get("zstandard")
    always = (EOFError, zlib.error, gzip.BadGzipFile)
    return always if zstandard is None else (*always, zstandard.ZstdError)


def is_zstd(message: bytes) -> bool:
    """Whether a message is compressed."""
    return message.startswith(_ZSTD)


def inflate(message: bytes, ceiling: int) -> bytes:
    """Return a message of zstd without its compression.

    Raises:
        DamagedError: it is damaged, or has more than `ceiling` bytes.
    """
    codec = decompression.zstd_codec()
    if codec is None:
        raise _missing_zstd()
    try:
        return decompression.inflate(codec, message, ceiling, every_part=True)
    except decompression.TooMuchError:
        raise DamagedError(f"inflated it has more than {ceiling:,} bytes") from None
    except decompression.BrokenBodyError as error:
        raise DamagedError(f"its compression is damaged ({error})") from None


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise _missing_zstd() from None
    return zstandard


def _missing_zstd() -> ValueError:
    return ValueError(f"the file is compressed with zstd: {install_hint('zstd')}")
