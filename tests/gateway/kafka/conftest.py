"""A real broker for the tests here, one in each test process; each test has its own topics and groups."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.kafka_broker import Broker, MissingBrokerError, broker

_ALL_REQUIRED = bool(os.environ.get("CI") or os.environ.get("OTEL_POSTHOG_REQUIRE_REAL"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run a broker. Without one skip the test, or fail if all real parts are required."""
    try:
        with broker(tmp_path_factory.mktemp("kafka")) as running:
            yield running
    except MissingBrokerError as error:
        if _ALL_REQUIRED:
            raise
        pytest.skip(f"left out: {error}")
