"""What a delivery is told once, and the ingestion host behind a PostHog address."""

from __future__ import annotations

from dataclasses import dataclass, field

from otel_posthog.delivery.encoding.compression import COMPRESSORS
from otel_posthog.runtime.install_hint import install_hint

# PostHog rust/capture: 20 MB on the wire for /batch/ and /i/v0/ai/batch/; what stays is room for the
# envelope.
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
    """Everything a delivery is told; a value that cannot work raises `ValueError` naming it."""

    api_key: str = field(repr=False)
    """PostHog's project key (`phc_...`); it goes into request bodies and nowhere else."""
    endpoint: str
    """Ingestion host as `ingestion_host` gives it: scheme and host, no trailing slash."""
    timeout: float = 10.0
    """Seconds for one HTTP attempt, from connecting to the last byte of the answer."""
    compression: str = "gzip"
    """`gzip`, `none`, or, on the v1 wire and where `zstandard` is installed, `zstd` (v0 knows gzip alone)."""
    capture_mode: str = "v0"
    """The wire of events that are not AI events: `v0` or `v1`. AI events of up to 8 MiB go on v0 only."""
    max_batch_bytes: int = 4 * 1024 * 1024
    """Uncompressed bytes of a request body to aim at; one larger event still goes, alone."""
    max_batch_events: int = 500
    """Events in one request at most."""
    max_retry_seconds: float = 300.0
    """Seconds a `send` without a deadline goes on trying."""
    historical_migration: bool = False
    """Send as a historical import: PostHog's separate topic, without rate limits."""
    project: str = ""
    """What the log calls the project, where a process sends to several."""

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
    """Return the host that ingests for `host`: app hosts are mapped, slashes at the end are gone.

    Blank means PostHog Cloud US. Source: posthog-python `request.determine_server_host`.
    """
    trimmed = host.strip().rstrip("/")
    return _INGESTION_HOSTS.get(trimmed, trimmed) or _US
