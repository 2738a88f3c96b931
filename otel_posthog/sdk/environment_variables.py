"""Loaded by `opentelemetry-instrument` first of all, in the process that then becomes the application.

Its own purpose is to name variables for the command line's `--help`; ours is to be early enough to keep
a missing OTLP exporter from spoiling `OTEL_TRACES_EXPORTER=posthog` (see `zero_code`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from opentelemetry.util._importlib_metadata import entry_points

from otel_posthog.config import OPTIONS, PREFIX

globals().update(
    {PREFIX + option.name.upper(): PREFIX + option.name.upper() for option in OPTIONS if option.variables}
)

_SIGNALS = {"METRICS": "opentelemetry_metrics_exporter", "LOGS": "opentelemetry_logs_exporter"}


def without_otlp(environ: MutableMapping[str, str], arguments: tuple[str, ...] = ()) -> None:
    """Where PostHog is chosen for traces and no OTLP exporter is there, the other signals default to none."""
    chosen = environ.get("OTEL_TRACES_EXPORTER", "")
    for place, argument in enumerate(arguments):  # the command line's own way to say the same
        if argument.startswith("--traces_exporter"):
            chosen = argument.partition("=")[2] or "".join(arguments[place + 1 : place + 2])
    if "posthog" not in [name.strip() for name in chosen.split(",")]:
        return
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").replace("/", "_").replace("protobuf", "")
    name = "otlp_proto_" + (protocol.strip("_") or "grpc")
    for signal, group in _SIGNALS.items():
        if not entry_points(group=group, name=name):
            environ.setdefault(f"OTEL_{signal}_EXPORTER", "none")


without_otlp(os.environ, tuple(sys.argv[1:]))
