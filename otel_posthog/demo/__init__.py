"""A small chat product, the services it calls, and what it cost: `otel-posthog demo`."""
