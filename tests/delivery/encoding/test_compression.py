from __future__ import annotations

import gzip

import pytest

from otel_posthog.delivery.encoding import compression


@pytest.mark.parametrize("name", ["gzip", "gzip_zlib", "gzip_isal"])
@pytest.mark.parametrize("body", [b"", b"a", b"words and words " * 10_000], ids=["empty", "short", "long"])
def test_gzip_is_read_back(name: str, body: bytes) -> None:
    if name == "gzip_isal":
        pytest.importorskip("isal", exc_type=ImportError)
    assert gzip.decompress(getattr(compression, name)(body)) == body
