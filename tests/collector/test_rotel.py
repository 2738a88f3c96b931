"""The second Collector, in Rust by other people, understands the gateway's answers as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.collector.test_configs import spans
from tests.support.collector import Backend, rotel, send
from tests.support.waiting import until


@pytest.mark.usefixtures("_rotel")
def test_rotel_brings_what_it_took_and_sends_again_what_was_refused_for_now(tmp_path: Path) -> None:
    with Backend() as backend, rotel(tmp_path, backend.url) as running:
        backend.status = 503
        send(running, spans(50))
        until(lambda: backend.refused >= 2, "it is tried several times")
        backend.status = 200
        until(lambda: len(backend.spans) == 50, "all spans arrive")
    assert backend.names == sorted(map(str, range(50)))
