"""Compression of request bodies: gzip by isa-l if it has a wheel, else by zlib; zstd if it is installed.

The libraries are imported here, at once: an import that a fork interrupts never ends in the child.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_GZIP_CONTAINER = 31  # wbits: 15 bits of window, plus 16 for gzip's header and checksum

try:
    from isal import isal_zlib
except ImportError:  # pragma: no cover - depends on the platform
    isal_zlib = None  # type: ignore[assignment,unused-ignore]

_zstandard: Any
try:
    import zstandard as _zstandard
except ImportError:  # pragma: no cover - an extra
    _zstandard = None


def gzip_zlib(body: bytes) -> bytes:
    """Return `body` as gzip by the standard library, at level 1."""
    stream = zlib.compressobj(1, zlib.DEFLATED, _GZIP_CONTAINER)
    return stream.compress(body) + stream.flush()


def gzip_isal(body: bytes) -> bytes:
    """Return `body` as gzip by isa-l, at the same size five times as fast."""
    return isal_zlib.compress(body, 1, _GZIP_CONTAINER)


gzip = gzip_zlib if isal_zlib is None else gzip_isal


def zstd(body: bytes) -> bytes:
    """Return `body` as one zstd frame that states its size, at level 1."""
    frame: bytes = _zstandard.ZstdCompressor(level=1).compress(body)
    return frame


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip, "none": bytes}
"""Compressors by the value of the option, which is also that of the header."""

if _zstandard is not None:
    COMPRESSORS["zstd"] = zstd
