"""Pure conversion: a span becomes a `ModelCall`, a `ModelCall` becomes PostHog events."""
