from __future__ import annotations

import pytest
from posthog.request import determine_server_host
from posthog.utils import remove_trailing_slash

from otel_posthog.delivery import ingestion_host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "  ",
        "https://app.posthog.com",
        "https://app.posthog.com/",
        "https://us.posthog.com",
        "https://us.posthog.com/",
        "https://eu.posthog.com",
        " https://eu.posthog.com/ ",
        "https://us.i.posthog.com",
        "https://us.i.posthog.com/",
        "https://eu.i.posthog.com",
        "http://app.posthog.com",
        "https://App.posthog.com",
        "https://eu.posthog.com:443",
        "https://posthog.example/path/",
        "http://localhost:8000",
    ],
)
def test_a_host_is_mapped_as_posthog_maps_it(host: str) -> None:
    assert ingestion_host(host) == remove_trailing_slash(determine_server_host(host))


@pytest.mark.parametrize("host", ["https://eu.posthog.com//", "https://eu.posthog.com///"])
def test_every_slash_at_the_end_is_removed(host: str) -> None:
    assert ingestion_host(host) == "https://eu.i.posthog.com"
