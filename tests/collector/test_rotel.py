"""rotel, a second Collector, written in Rust, handles the gateway's answers as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collector.test_configs import spans
from tests.support.collector import Backend, rotel, send
from tests.support.waiting import until


@pytest.mark.usefixtures("_rotel")
def test_rotel_delivers_and_retries_requests_rejected_for_now(tmp_path: Path) -> None:
    with Backend() as backend, rotel(tmp_path, backend.url) as running:
        backend.status = 503
        send(running, spans(50))
        until(lambda: backend.rejected >= 2, "it is retried several times")
        backend.status = 200
        until(lambda: len(backend.spans) == 50, "all spans arrive")
    assert backend.names == sorted(map(str, range(50)))
