"""The real Collector for the tests here."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.collector import MissingCollectorError, binary, rotel_agent

_ALL_IS_ASKED_FOR = bool(os.environ.get("CI") or os.environ.get("OTEL_POSTHOG_REQUIRE_REAL"))


def _look_for(part: Callable[[], object]) -> None:
    """Without it a test is left out; where all real parts are asked for, it fails."""
    try:
        part()
    except MissingCollectorError as error:
        if _ALL_IS_ASKED_FOR:
            raise
        pytest.skip(f"left out: {error}")


@pytest.fixture(scope="session")
def _real_collector() -> None:
    _look_for(binary)


@pytest.fixture(scope="session")
def _rotel() -> None:
    _look_for(rotel_agent)
