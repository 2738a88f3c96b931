"""The real Collector for the tests here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.kafka.conftest import kafka  # noqa: F401 - the fixture
from tests.support.collector import ROOT, MissingCollectorError, binary, rotel_agent

_ALL_IS_ASKED_FOR = bool(os.environ.get("CI") or os.environ.get("OTEL_POSTHOG_REQUIRE_REAL"))


def node_packages() -> Path:
    """Where the packages of the application in Node are installed."""
    packages = ROOT / ".ci" / "collector" / "packages"
    found = Path(
        subprocess.run([packages, "--path"], capture_output=True, text=True, check=True).stdout.strip()
    )
    if not found.is_dir():
        raise MissingCollectorError(
            "no packages for Node here: .ci/collector/packages installs them with npm"
        )
    return found


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


@pytest.fixture(scope="session")
def _node_packages() -> None:
    _look_for(node_packages)
