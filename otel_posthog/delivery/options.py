"""The options of a delivery client, and the ingestion host behind a PostHog address."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_posthog.delivery.encoding.compression import COMPRESSORS
from otel_posthog.runtime.install_hint import install_hint

# PostHog rust/capture: 20 MB on the wire for /batch/ and /i/v0/ai/batch/, less room for the envelope.
MAX_BODY_BYTES = 20_000_000 - 64 * 1024

_US = "https://us.i.posthog.com"
_EU = "https://eu.i.posthog.com"
_INGESTION_HOSTS = {
    "https://app.posthog.com": _US,
    "https://us.posthog.com": _US,
    "https://eu.posthog.com": _EU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """The options of a delivery client; an invalid one raises `ValueError` with its name."""

    api_key: str = field(repr=False)
    """PostHog's project key (`phc_...`). It is sent to PostHog and appears nowhere else."""
    endpoint: str
    """Ingestion host as `ingestion_host` returns it: scheme and host, without a trailing slash."""
    timeout: float
    """Seconds for one HTTP attempt, from connecting to the last byte of the answer."""
    compression: str
    """`gzip`, `none`, or `zstd` if `zstandard` is installed; v0 requests use gzip instead of zstd."""
    capture_mode: str
    """The wire of events other than AI events: `v0` or `v1`. AI events, up to 8 MiB each, always use v0."""
    max_batch_bytes: int
    """Target size of a request body in bytes, before compression. A larger event is sent alone."""
    max_retry_seconds: float
    """The most seconds that one `deliver` retries."""
    max_batch_events: int = 500
    """The most events in one request."""
    historical_migration: bool = False
    """Send as a historical import, for which PostHog has a topic of its own without rate limits."""
    project: str = ""
    """The project's name in the log, if a process sends to several."""

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSORS:
            hint = f": {install_hint('zstd')}" if self.compression == "zstd" else ""
            known = ", ".join(COMPRESSORS)
            raise ValueError(f"compression must be one of {known}, not {self.compression!r}{hint}")
        if self.capture_mode not in ("v0", "v1"):
            raise ValueError(f"capture_mode must be 'v0' or 'v1', not {self.capture_mode!r}")
        for name in ("timeout", "max_batch_events", "max_retry_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)!r}")
        if not 0 < self.max_batch_bytes <= MAX_BODY_BYTES:
            raise ValueError(f"max_batch_bytes must be 1 to {MAX_BODY_BYTES}, not {self.max_batch_bytes}")


def ingestion_host(host: str) -> str:
    """Return the ingestion host for `host`: hosts of the app are mapped, slashes at the end are removed.

    Blank stands for PostHog Cloud US. Source: posthog-python `request.determine_server_host`.
    """
    trimmed = host.strip().rstrip("/")
    return _INGESTION_HOSTS.get(trimmed, trimmed) or _US
