"""Pure conversion: a span becomes a `ModelCall`, and a `ModelCall` becomes PostHog events."""
