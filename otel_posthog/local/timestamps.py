"""Timestamps of events: RFC 3339, and the ISO 8601 that Python's `isoformat` writes."""

from __future__ import annotations

import re
from datetime import datetime

_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)?", re.IGNORECASE | re.ASCII
)


def parse(text: object) -> datetime | None:
    """Return the moment, aware or naive as written; None for anything else.

    Read by hand: `datetime.fromisoformat` of Python 3.10 knows neither "Z" nor seven digits of a second.
    """
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    date, time, fraction, zone = match.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    offset = "+00:00" if zone in {"Z", "z"} else zone or ""
    try:
        return datetime.fromisoformat(f"{date}T{time}.{micros}{offset}")
    except ValueError:
        return None
