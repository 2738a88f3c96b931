from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from otel_posthog.demo.fake_providers import FakeProviders
from tests.instrumentors.neighbours import PAIR
from tests.instrumentors.provider import Provider, ReceivedRequest
from tests.instrumentors.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

collect_ignore = [] if PAIR else ["test_pairs.py"]


@pytest.fixture(scope="session", autouse=True)
def _one_tls_context() -> Iterator[None]:
    """Make one TLS context for all clients: to read all certificates for each takes most of a test's time."""
    create, contexts = ssl.create_default_context, {}

    def once(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        key = (args, tuple(kwargs.items()))
        if key not in contexts:
            contexts[key] = create(*args, **kwargs)
        return contexts[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", once)
        yield


@pytest.fixture(scope="session")
def standin_requests() -> list[ReceivedRequest]:
    return []


@pytest.fixture(scope="session")
def standin(standin_requests: list[ReceivedRequest]) -> Iterator[FakeProviders]:
    def note(path: str, headers: dict[str, str], body: bytes) -> None:
        standin_requests.append(ReceivedRequest(path, headers, body))

    with FakeProviders(latency=0, chunk_pause=0, on_request=note) as server:
        yield server


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
