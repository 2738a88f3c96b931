"""The module that `opentelemetry-instrument` loads first, in the process that becomes the application.

Entry points of this kind name variables for the command line's `--help`. We use it because it is early
enough:
a missing OTLP exporter, or a second instrumentor of the same calls, would break
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
    """If PostHog is chosen for traces, remove what would break the start."""
    chosen = environ.get("OTEL_TRACES_EXPORTER", "")
    for place, argument in enumerate(arguments):  # the command line's own spelling
        if argument.startswith("--traces_exporter"):
            chosen = argument.partition("=")[2] or "".join(arguments[place + 1 : place + 2])
    if "posthog" in _names(chosen):
        _without_otlp(environ)
        _without_traceloop(environ)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _without_otlp(environ: MutableMapping[str, str]) -> None:
    """Set the other signals to none if no OTLP exporter is installed."""
    protocol = environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").replace("/", "_").replace("protobuf", "")
    name = "otlp_proto_" + (protocol.strip("_") or "grpc")
    for signal, group in _SIGNALS.items():
        if not entry_points(group=group, name=name):
            environ.setdefault(f"OTEL_{signal}_EXPORTER", "none")


def _without_traceloop(environ: MutableMapping[str, str]) -> None:
    """Disable Traceloop's instrumentor of OpenAI, which our extra brings: ours does its work, for less.

    Others have the same name and stay. If `otel_posthog_openai` is disabled, Traceloop's stays on.
    """
    disabled = _names(environ.get(_DISABLED, ""))
    instrumentors = entry_points(group="opentelemetry_instrumentor", name="openai")
    theirs = "opentelemetry.instrumentation.openai:"
    theirs_alone = instrumentors and all(one.value.startswith(theirs) for one in instrumentors)
    if theirs_alone and not {"*", "openai", "otel_posthog_openai"}.intersection(disabled):
        environ[_DISABLED] = ",".join([*disabled, "openai"])


prepare(os.environ, tuple(sys.argv[1:]))
