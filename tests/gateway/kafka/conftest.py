"""A real broker for the tests here, one a test process; each test has topics and groups of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.kafka_broker import Broker, MissingBrokerError, broker

_ALL_IS_ASKED_FOR = bool(os.environ.get("CI") or os.environ.get("OTEL_POSTHOG_REQUIRE_REAL"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that runs. Without one the test is left out; where all real parts are asked for, it fails."""
    try:
        with broker(tmp_path_factory.mktemp("kafka")) as running:
            yield running
    except MissingBrokerError as error:
        if _ALL_IS_ASKED_FOR:
            raise
        pytest.skip(f"left out: {error}")
