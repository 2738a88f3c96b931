"""Loaded by `opentelemetry-instrument` first of all, in the process that then becomes the application.

Its own purpose is to name variables for the command line's `--help`; ours is to be early enough to keep
a missing OTLP exporter, or a second instrumentor of the same calls, from spoiling
`OTEL_TRACES_EXPORTER=posthog` (see `zero_code`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from opentelemetry.util._importlib_metadata import entry_points

from otel_posthog.config.options import OPTIONS, PREFIX

globals().update(
    {PREFIX + option.name.upper(): PREFIX + option.name.upper() for option in OPTIONS if option.variables}
)

_DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
_SIGNALS = {"METRICS": "opentelemetry_metrics_exporter", "LOGS": "opentelemetry_logs_exporter"}


def prepare(environ: MutableMapping[str, str], arguments: tuple[str, ...] = ()) -> None:
    """Where PostHog is chosen for traces, see to it that nothing stands in its way."""
    chosen = environ.get("OTEL_TRACES_EXPORTER", "")
    for place, argument in enumerate(arguments):  # the command line's own way to say the same
        if argument.startswith("--traces_exporter"):
            chosen = argument.partition("=")[2] or "".join(arguments[place + 1 : place + 2])
    if "posthog" in _names(chosen):
        _without_otlp(environ)
        _without_traceloop(environ)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _without_otlp(environ: MutableMapping[str, str]) -> None:
    """Where no OTLP exporter is there, the other signals default to none."""
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").replace("/", "_").replace("protobuf", "")
    name = "otlp_proto_" + (protocol.strip("_") or "grpc")
    for signal, group in _SIGNALS.items():
        if not entry_points(group=group, name=name):
            environ.setdefault(f"OTEL_{signal}_EXPORTER", "none")


def _without_traceloop(environ: MutableMapping[str, str]) -> None:
    """Leave out Traceloop's instrumentor, which our own extra brings: ours does its work, for less.

    Its name is also that of others, which stay. Who disables `otel_posthog_openai` gets Traceloop's.
    """
    disabled = _names(environ.get(_DISABLED, ""))
    found = entry_points(group="opentelemetry_instrumentor", name="openai")
    theirs = "opentelemetry.instrumentation.openai:"
    theirs_alone = found and all(one.value.startswith(theirs) for one in found)
    if theirs_alone and not {"*", "openai", "otel_posthog_openai"}.intersection(disabled):
        environ[_DISABLED] = ",".join([*disabled, "openai"])


prepare(os.environ, tuple(sys.argv[1:]))
