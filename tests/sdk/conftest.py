from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_posthog.local import Inbox


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A PostHog on loopback that got nothing yet."""
    with Inbox() as found:
        yield found
