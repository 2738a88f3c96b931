"""The OpenTelemetry face: exporter, processor, context, `configure()` and the zero-code entry points."""
