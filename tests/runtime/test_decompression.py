"""Bodies are inflated whole up to a ceiling, and a bomb takes little memory."""

from __future__ import annotations

import contextlib
import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.runtime import decompression as module
from otel_posthog.runtime.decompression import CODECS, BrokenBodyError, TooMuchError, inflate


def _streamed(data: bytes) -> bytes:
    """Compress like a writer that does not know the size, as a Collector does."""
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    return stream.compress(data) + stream.flush()


_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, 1),
    "zstd": lambda data: zstandard.ZstdCompressor(level=1).compress(data),
    "zstd, streamed": _streamed,
}
_COMPRESSORS = [
    pytest.param(name.partition(",")[0], compress, id=name) for name, compress in _COMPRESS.items()
]
_WITH_PARTS = [each for each in _COMPRESSORS if each.id != "deflate"]


@pytest.mark.parametrize(("name", "compress"), _COMPRESSORS)
@pytest.mark.parametrize("size", [0, 1, 1000, module.AT_ONCE, module.AT_ONCE + 1, 3 * module.AT_ONCE])
def test_a_compressed_body_is_inflated_whole(
    name: str, compress: Callable[[bytes], bytes], size: int
) -> None:
    data = (b"prompt %d, " % size) * (size // 8 + 1)
    data = data[:size]
    assert inflate(CODECS[name], compress(data), max(size, 1)) == data


@pytest.mark.parametrize(("name", "compress"), _COMPRESSORS)
@pytest.mark.parametrize("ceiling", [0, 999, module.AT_ONCE, 2 * module.AT_ONCE])
def test_one_byte_above_the_ceiling_is_rejected(
    name: str, compress: Callable[[bytes], bytes], ceiling: int
) -> None:
    assert len(inflate(CODECS[name], compress(bytes(ceiling)), ceiling)) == ceiling
    with pytest.raises(TooMuchError, match=f"larger than {ceiling:,} bytes"):
        inflate(CODECS[name], compress(bytes(ceiling + 1)), ceiling)


@pytest.mark.parametrize(("name", "compress"), _COMPRESSORS)
def test_a_bomb_takes_little_memory(name: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(300 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooMuchError):
            inflate(CODECS[name], bomb, 256 * 1024 * 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


@pytest.mark.parametrize(("name", "compress"), _COMPRESSORS)
@pytest.mark.parametrize("size", [100, 3 * module.AT_ONCE])
def test_a_body_that_ends_early_is_broken(name: str, compress: Callable[[bytes], bytes], size: int) -> None:
    body = compress(b"ab" * (size // 2))
    for end in {0, 1, len(body) // 2, len(body) - 1}:
        with pytest.raises(BrokenBodyError):
            inflate(CODECS[name], body[:end], size)


@pytest.mark.parametrize(("name", "compress"), _WITH_PARTS)
def test_further_parts_are_read_on_request(name: str, compress: Callable[[bytes], bytes]) -> None:
    body = compress(b"one, ") + compress(b"two")
    assert inflate(CODECS[name], body, 100, every_part=True) == b"one, two"
    assert inflate(CODECS[name], body, 100) == b"one, "
    with pytest.raises(BrokenBodyError):
        inflate(CODECS[name], compress(b"one, ") + b"and no more", 100, every_part=True)


@pytest.mark.parametrize(("name", "compress"), _WITH_PARTS)
def test_parts_may_be_larger_than_one_step(name: str, compress: Callable[[bytes], bytes]) -> None:
    parts = [random.Random(number).randbytes(100_000 * number) for number in range(4)] * 2
    body = b"".join(map(compress, parts))
    assert inflate(CODECS[name], body, 10_000_000, every_part=True) == b"".join(parts)


@pytest.mark.parametrize(("name", "compress"), _COMPRESSORS)
def test_a_body_of_countless_parts_is_rejected_soon(name: str, compress: Callable[[bytes], bytes]) -> None:
    began = time.process_time()
    with pytest.raises(BrokenBodyError, match="more than 10,000 parts"):
        inflate(CODECS[name], compress(b"") * 1_000_000, 1000, every_part=True)
    assert time.process_time() - began < 5  # it took an hour: each part copied all that follow it


@settings(deadline=None)
@given(st.sampled_from(sorted(CODECS)), st.binary(max_size=300))
def test_any_bytes_inflate_or_are_rejected(name: str, body: bytes) -> None:
    with contextlib.suppress(BrokenBodyError, TooMuchError):
        inflate(CODECS[name], body, 1000, every_part=True)


@settings(deadline=None)
@given(st.sampled_from(sorted(_COMPRESS)), st.binary(min_size=1, max_size=300), st.data())
def test_a_damaged_body_inflates_or_is_rejected(name: str, data: bytes, draw: st.DataObject) -> None:
    body = bytearray(_COMPRESS[name](data))
    body[draw.draw(st.integers(0, len(body) - 1))] ^= draw.draw(st.integers(1, 255))
    with contextlib.suppress(BrokenBodyError, TooMuchError):
        inflate(CODECS[name.partition(",")[0]], bytes(body), 10_000, every_part=True)


def test_a_zstd_window_beyond_reason_is_rejected() -> None:
    """A frame may ask its reader for terabytes before it holds a byte."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(41 - 10) << 3])
    with pytest.raises(BrokenBodyError):
        inflate(CODECS["zstd"], header + b"\x01\x00\x00", 1000)
