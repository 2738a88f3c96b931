"""The real Collector for the tests here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.kafka.conftest import kafka  # noqa: F401 - the fixture
from tests.support.collector import ROOT, MissingCollectorError, binary, rotel_agent

_ALL_REQUIRED = bool(os.environ.get("CI") or os.environ.get("OTEL_POSTHOG_REQUIRE_REAL"))


def node_packages() -> Path:
    """Return the directory with the installed packages of the application in Node."""
    packages = ROOT / ".ci" / "collector" / "packages"
    directory = Path(
        subprocess.run([packages, "--path"], capture_output=True, text=True, check=True).stdout.strip()
    )
    if not directory.is_dir():
        raise MissingCollectorError(
            "no packages for Node here: .ci/collector/packages installs them with npm"
        )
    return directory


def _require(part: Callable[[], object]) -> None:
    """Skip the test if the part is missing, or fail if all real parts are required."""
    try:
        part()
    except MissingCollectorError as error:
        if _ALL_REQUIRED:
            raise
        pytest.skip(f"left out: {error}")


@pytest.fixture(scope="session")
def _real_collector() -> None:
    _require(binary)


@pytest.fixture(scope="session")
def _rotel() -> None:
    _require(rotel_agent)


@pytest.fixture(scope="session")
def _node_packages() -> None:
    _require(node_packages)
