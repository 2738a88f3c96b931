"""Checks of a set-up: `otel-posthog doctor`."""
