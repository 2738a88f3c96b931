"""PostHog's v0 wire, which `/batch/` and `/i/v0/ai/batch/` share: the body and headers of a request."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import orjson

from otel_posthog.delivery.compress import gzip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_posthog.delivery.batch import Item
    from otel_posthog.delivery.options import DeliveryOptions


class V0Wire:
    """Requests on the v0 wire: the project key in the body, one JSON object, gzip or nothing."""

    def __init__(self, options: DeliveryOptions) -> None:
        self._start = b'{"api_key":' + orjson.dumps(options.api_key)
        if options.historical_migration:
            self._start += b',"historical_migration":true'
        self._gzip = options.compression == "gzip"
        self.headers = {"Content-Type": "application/json", "User-Agent": f"otel-posthog/{_version()}"}
        if self._gzip:
            self.headers["Content-Encoding"] = "gzip"

    def body(self, items: Sequence[Item], sent_at: datetime) -> tuple[bytes, int]:
        """Return the body, and its bytes before compression.

        `sent_at` is the moment of this very attempt: PostHog corrects every timestamp by the difference
        between it and its own clock.
        """
        stamp = sent_at.astimezone(timezone.utc).isoformat().encode()
        head = self._start + b',"sent_at":"' + stamp + b'","batch":['
        body = head + b",".join([item.data for item in items]) + b"]}"
        return (gzip(body) if self._gzip else body), len(body)


def _version() -> str:
    try:
        return version("otel-posthog")
    except PackageNotFoundError:  # pragma: no cover - run from a bare checkout
        return "0"
