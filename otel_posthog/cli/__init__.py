"""The command line, `otel-posthog`."""

from otel_posthog.cli.commands import main

__all__ = ["main"]
